"""CAs, openssl.cnf, policies, proxies and the AWS CLI: read, never tried; and no secret is ever shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqtls.openssl.aws_program import find_aws_program
from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.probe_child import PUBLIC_TEST_CERTIFICATE
from pqtls.openssl.surroundings import count_certificates, look_around, show_proxy

HIDDEN = "set, in a form that is not shown"


@pytest.fixture(scope="module")
def here() -> Interpreter:
    return inspect_interpreter(sys.executable)


class TestProxies:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("http://proxy.example:3128", "proxy.example:3128"),
            ("proxy.example:3128", "proxy.example:3128"),
            ("http://user:S3cr3t@proxy.example:3128/", "proxy.example:3128"),
            ("user:S3cr3t@proxy.example:3128", "proxy.example:3128"),
            ("http://user:a@S3cr3t@proxy.example:3128", "proxy.example:3128"),
            ("socks5h://user:S3cr3t@[2001:db8::1]:1080", "[2001:db8::1]:1080"),
            ("http://proxy.example:3128/?token=S3cr3t", "proxy.example:3128"),
            ("http://user:S3cr3t", HIDDEN),
            ("http://user:S3/cr3t@proxy.example:3128", HIDDEN),
            ("http://user:S3cr3t#@proxy.example:3128", HIDDEN),
            ("http://proxy.example:3128/x@S3cr3t", HIDDEN),
            ("http://user:x://S3cr3t@proxy.example:3128", HIDDEN),
            ("\x1b[31mS3cr3t", HIDDEN),
            ("http://", HIDDEN),
        ],
    )
    def test_what_is_shown(self, value: str, shown: str) -> None:
        assert show_proxy(value) == shown

    @given(st.text(max_size=12), st.text(max_size=12), st.sampled_from(["", "http://", "https://", "socks5://"]))
    def test_no_password_is_ever_shown(self, user: str, ending: str, scheme: str) -> None:
        assert "S3cr3t" not in show_proxy(f"{scheme}{user}:S3cr3t{ending}@proxy.example:3128")

    def test_names_of_either_case(self, here: Interpreter) -> None:
        environment = {
            "HTTPS_PROXY": "http://u:S3cr3t@a.example:1",
            "https_proxy": "b.example:2",
            "NO_PROXY": "S3cr3t.example, x",
            "all_proxy": "",
        }
        found = look_around(here, environment=environment).proxies
        assert [(proxy.variable, proxy.shown) for proxy in found] == [
            ("HTTPS_PROXY", "a.example:1"),
            ("https_proxy", "b.example:2"),
            ("NO_PROXY", "2 entries"),
        ]


class TestAuthorities:
    def test_variables_come_before_what_is_built_in(self, here: Interpreter, tmp_path: Path) -> None:
        bundle = tmp_path / "ca.pem"
        bundle.write_text(PUBLIC_TEST_CERTIFICATE * 3)
        hashed = tmp_path / "hashed"
        hashed.mkdir()
        for name in ("5ed36f99.0", "5ed36f99.1", "README", "ca.pem"):
            (hashed / name).write_text("")
        environment = {
            "SSL_CERT_FILE": str(bundle),
            "SSL_CERT_DIR": f"{hashed}:{tmp_path / 'gone'}",
            "AWS_CA_BUNDLE": str(tmp_path / "gone.pem"),
        }
        found = look_around(here, environment=environment).ca_bundles
        assert [(each.origin, each.path, each.exists, each.certificates) for each in found] == [
            ("SSL_CERT_FILE", str(bundle), True, 3),
            ("SSL_CERT_DIR", str(hashed), True, 2),
            ("SSL_CERT_DIR", str(tmp_path / "gone"), False, None),
            ("AWS_CA_BUNDLE", str(tmp_path / "gone.pem"), False, None),
        ]

    def test_built_in(self, here: Interpreter) -> None:
        found = look_around(here, environment={}).ca_bundles
        assert [(each.origin, each.path) for each in found] == [("built-in", here.cafile), ("built-in", here.capath)]

    def test_trusted_certificates_count_and_devices_do_not(self, tmp_path: Path) -> None:
        (tmp_path / "x.pem").write_text("-----BEGIN TRUSTED CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n")
        assert count_certificates(tmp_path / "x.pem") == 1
        assert count_certificates(Path("/dev/zero")) is None


class TestConfiguration:
    CONF = (
        "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = defaults\nother = x\n"
        "[x]\nGroups = P-521\n.include {folder}/more.cnf\n"
    )
    MORE = "[defaults]\nMinProtocol = TLSv1.2\n1.CipherString = DEFAULT@SECLEVEL=2\nServerInfo = x\n"

    def test_only_what_is_in_effect(self, here: Interpreter, tmp_path: Path) -> None:
        (tmp_path / "openssl.cnf").write_text(self.CONF.format(folder=tmp_path))
        (tmp_path / "more.cnf").write_text(self.MORE)
        found = look_around(here, environment={"OPENSSL_CONF": str(tmp_path / "openssl.cnf")}).configuration
        assert (found.origin, found.exists, found.obstacle) == ("OPENSSL_CONF", True, "")
        assert found.settings == ("MinProtocol = TLSv1.2", "CipherString = DEFAULT@SECLEVEL=2")

    def test_the_built_in_one(self, here: Interpreter) -> None:
        found = look_around(here, environment={}).configuration
        assert found.origin == "OPENSSLDIR"
        assert found.path.endswith("/openssl.cnf")

    def test_one_that_is_not_there(self, here: Interpreter, tmp_path: Path) -> None:
        found = look_around(here, environment={"OPENSSL_CONF": str(tmp_path / "none.cnf")}).configuration
        assert (found.exists, found.settings) == (False, ())

    def test_one_without_end(self, here: Interpreter, tmp_path: Path) -> None:
        conf = tmp_path / "openssl.cnf"
        conf.write_text(f".include {conf}\n")
        found = look_around(here, environment={"OPENSSL_CONF": str(conf)}).configuration
        assert "levels deep" in found.obstacle


class TestPolicies:
    def test_none(self, here: Interpreter, tmp_path: Path) -> None:
        found = look_around(here, environment={}, root=tmp_path)
        assert (found.fips, found.crypto_policy) == (None, "")

    @pytest.mark.parametrize(("text", "fips"), [("1\n", True), ("0\n", False)])
    def test_fips(self, here: Interpreter, tmp_path: Path, text: str, fips: bool) -> None:
        (tmp_path / "proc/sys/crypto").mkdir(parents=True)
        (tmp_path / "proc/sys/crypto/fips_enabled").write_text(text)
        assert look_around(here, environment={}, root=tmp_path).fips is fips

    def test_crypto_policies(self, here: Interpreter, tmp_path: Path) -> None:
        (tmp_path / "etc/crypto-policies/state").mkdir(parents=True)
        assert look_around(here, environment={}, root=tmp_path).crypto_policy == "of unknown name"
        (tmp_path / "etc/crypto-policies/config").write_text("# a comment\nDEFAULT\n")
        assert look_around(here, environment={}, root=tmp_path).crypto_policy == "DEFAULT"
        (tmp_path / "etc/crypto-policies/state/current").write_text("FIPS:NO-MLKEM\n")
        assert look_around(here, environment={}, root=tmp_path).crypto_policy == "FIPS:NO-MLKEM"


class TestAws:
    def test_none(self, tmp_path: Path) -> None:
        assert find_aws_program({"PATH": str(tmp_path)}) is None

    def test_frozen(self, tmp_path: Path, graft: Graft) -> None:
        """As the installer lays version 2 out: bin/aws -> v2/current/bin/aws -> ../dist/aws."""
        dist = tmp_path / "aws-cli/v2/2.36.50/dist"
        dist.mkdir(parents=True)
        (dist / "aws").write_bytes(Path("/bin/true").read_bytes())
        (dist / "aws").chmod(0o755)
        (dist / "libcrypto.so.3").write_bytes(graft.source.libcrypto.read_bytes())
        (tmp_path / "aws-cli/v2/current").symlink_to("2.36.50")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/aws").symlink_to(tmp_path / "aws-cli/v2/current/dist/aws")
        found = find_aws_program({"PATH": str(tmp_path / "bin")})
        assert found is not None
        assert (found.kind, found.version, found.openssl) == ("frozen", "2.36.50", graft.source.version)
        assert found.explanation.startswith(f"carries {graft.source.version}; frozen, so a graft")

    @pytest.mark.parametrize(
        "file",
        [
            "_ssl.cpython-313-x86_64-linux-gnu.so",
            "lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so",
            "_internal/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so",
            "libpython3.13.so.1.0",
            "libcrypto.so.1.1",
        ],
    )
    @pytest.mark.parametrize("version", ["OpenSSL 3.5.8 25 Aug 2026", "OpenSSL 1.1.1zg  7 Apr 2026"])
    def test_frozen_with_its_openssl_elsewhere(self, tmp_path: Path, file: str, version: str) -> None:
        """For x86-64 AWS links it into Python's own module: no libcrypto lies beside the program."""
        (tmp_path / "aws").write_bytes(Path("/bin/true").read_bytes())
        (tmp_path / "aws").chmod(0o755)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"\x7fELF\0rustls\0" + version.encode() + b"\0")
        found = find_aws_program({"PATH": str(tmp_path)})
        assert found is not None
        assert found.openssl == " ".join(version.split())

    def test_frozen_without_a_library_that_says(self, tmp_path: Path) -> None:
        (tmp_path / "aws").write_bytes(Path("/bin/true").read_bytes())
        (tmp_path / "aws").chmod(0o755)
        found = find_aws_program({"PATH": str(tmp_path)})
        assert found is not None
        assert (found.kind, found.openssl) == ("frozen", "")

    def test_of_a_python(self, tmp_path: Path) -> None:
        python = tmp_path / "venv/bin/python"
        (tmp_path / "venv/lib/python3.11/site-packages/awscli-1.46.3.dist-info").mkdir(parents=True)
        python.parent.mkdir()
        python.symlink_to(sys.executable)
        (tmp_path / "venv/bin/aws").write_text(f"#!{python}\n")
        (tmp_path / "venv/bin/aws").chmod(0o755)
        found = find_aws_program({"PATH": str(python.parent)})
        assert found is not None
        assert (found.kind, found.version) == ("python", "1.46.3")
        assert "a graft reaches it" in found.explanation

    def test_a_wrapper(self, tmp_path: Path) -> None:
        (tmp_path / "aws").write_text("#!/bin/bash\nexec docker run amazon/aws-cli\n")
        (tmp_path / "aws").chmod(0o755)
        found = find_aws_program({"PATH": str(tmp_path)})
        assert found is not None
        assert found.kind == "unknown"
