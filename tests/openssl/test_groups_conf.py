from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pqtls.errors import UsageError
from pqtls.openssl.conf import find_settings_chain
from pqtls.openssl.graft import Graft
from pqtls.openssl.groups_conf import base_conf, check_groups, parse_groups, write_groups_conf
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.probe import probe_mlkem
from pqtls.wire.groups import group_code, group_name

SETTINGS = """
import json, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
names = [each["name"] for each in context.get_ciphers()]
print(json.dumps([int(context.minimum_version), int(context.options), names]))
"""


def held(graft: Graft, interpreter: Interpreter, folder: Path, groups: str, base: str | None = None) -> dict[str, str]:
    environment = graft.apply({})
    if base is not None:
        (folder / "base.cnf").write_text(base)
        environment["OPENSSL_CONF"] = str(folder / "base.cnf")
    (folder / "private").mkdir()
    environment["OPENSSL_CONF"] = str(write_groups_conf(groups, folder / "private", interpreter, environment))
    return environment


@pytest.mark.parametrize(
    ("groups", "offered"),
    [
        ("X25519MLKEM768", ["X25519MLKEM768"]),
        ("x25519", ["x25519"]),
        ("*X25519MLKEM768 / *X25519:secp256r1", ["X25519MLKEM768", "x25519", "secp256r1"]),
        ("SecP384r1MLKEM1024:MLKEM1024", ["SecP384r1MLKEM1024", "MLKEM1024"]),
        ("?x448:P-256", ["x448", "secp256r1"]),
    ],
)
def test_exactly_these_are_offered(
    graft: Graft, interpreter: Interpreter, tmp_path: Path, groups: str, offered: list[str]
) -> None:
    environment = held(graft, interpreter, tmp_path, groups)
    check_groups(sys.executable, environment, groups)
    probe = probe_mlkem(sys.executable, environment)
    assert [group_name(code) for code in probe.offered_groups] == offered
    assert (tmp_path / "private" / "openssl.cnf").stat().st_mode & 0o777 == 0o600


def test_openssls_own_list_may_be_extended(graft: Graft, interpreter: Interpreter, tmp_path: Path) -> None:
    environment = held(graft, interpreter, tmp_path, "DEFAULT:-x25519:MLKEM1024")
    check_groups(sys.executable, environment, "DEFAULT:-x25519:MLKEM1024")
    assert group_code("x25519") not in probe_mlkem(sys.executable, environment).offered_groups
    with pytest.raises(UsageError, match="does not follow"):
        check_groups(sys.executable, environment, "DEFAULT:-MLKEM1024")


def test_a_line_that_openssl_drops_is_refused(graft: Graft, interpreter: Interpreter, tmp_path: Path) -> None:
    """A name that pqtls knows and this OpenSSL does not: it would go on with its own list, in silence."""
    groups = "x25519:secp192r1:X25519Kyber768Draft00"
    environment = held(graft, interpreter, tmp_path, groups, "")
    assert len(probe_mlkem(sys.executable, environment).offered_groups) > 3
    with pytest.raises(UsageError, match="would offer X25519MLKEM768:x25519") as caught:
        check_groups(sys.executable, environment, groups)
    assert groups in str(caught.value)


def test_a_line_that_openssl_objects_to_is_refused(graft: Graft, interpreter: Interpreter, tmp_path: Path) -> None:
    environment = held(graft, interpreter, tmp_path, "x25519:X25519Kyber768Draft00", "config_diagnostics = 1\n")
    with pytest.raises(UsageError, match="error in system default config"):
        check_groups(sys.executable, environment, "x25519:X25519Kyber768Draft00")


def test_hybrid_on_an_old_openssl_is_refused(interpreter: Interpreter, tmp_path: Path) -> None:
    if interpreter.openssl_version_info[:2] >= (3, 5):
        pytest.skip("this OpenSSL is not old")
    conf = write_groups_conf("X25519MLKEM768:x25519", tmp_path, interpreter, {})
    with pytest.raises(UsageError, match="would offer x25519:secp256r1:x448") as caught:
        check_groups(sys.executable, {"OPENSSL_CONF": str(conf)}, "X25519MLKEM768:x25519")
    assert "--openssl graft" in caught.value.next_step


def test_no_client_hello_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no ClientHello"):
        check_groups(tmp_path / "absent", {}, "x25519")


@pytest.mark.parametrize(
    "groups", ["", "bogus", "x25519:bogus", "x25519\nGroups=x", "x25519 # no", "$x", "-x25519", ":"]
)
def test_what_is_no_list_is_refused(groups: str, interpreter: Interpreter, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        parse_groups(groups)
    with pytest.raises(UsageError):
        write_groups_conf(groups, tmp_path, interpreter, {})
    assert list(tmp_path.iterdir()) == []


BASES = {
    "empty": "",
    "no-ssl-conf": "openssl_conf = mine\n[mine]\nalg_section = other\n[other]\n",
    "complete": "openssl_conf = mine\n[ mine ]\nssl_conf = its\n[its]\nsystem_default = d\n[d]\n{settings}",
    "own-groups": "openssl_conf = mine\n[mine]\nssl_conf = its\n[its]\nsystem_default = d\n[d]\n"
    "Groups = secp521r1\n{settings}\n[later]\nx = y\n",
    "late": "[a]\nx=1\n[default]\nopenssl_conf = mine # why\n[d]\n{settings}\n[its]\nsystem_default=\\\n d\n"
    "[mine]\nssl_conf='its'\n",
}


@pytest.mark.parametrize("kind", BASES)
def test_the_configuration_in_force_stays_in_force(
    graft: Graft, interpreter: Interpreter, tmp_path: Path, kind: str
) -> None:
    base = BASES[kind].replace(
        "{settings}", "Options = -SessionTicket, NoRenegotiation\nCiphersuites = TLS_AES_128_GCM_SHA256"
    )
    (tmp_path / "base.cnf").write_text(base)
    environment = held(graft, interpreter, tmp_path, "MLKEM1024:x25519", base)
    check_groups(sys.executable, environment, "MLKEM1024:x25519")
    plain, based, both = (
        settings(sys.executable, {**graft.apply({}), "OPENSSL_CONF": str(conf)})
        for conf in ("/dev/null", tmp_path / "base.cnf", environment["OPENSSL_CONF"])
    )
    assert both == based
    assert (both != plain) == ("{settings}" in BASES[kind])


def test_minimum_and_ciphers_of_the_base_hold_where_python_honours_them(graft: Graft, tmp_path: Path) -> None:
    """Debian's Python takes MinProtocol and CipherString from the configuration; upstream's sets its own."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no system Python")
    found = inspect_interpreter(python, {})
    lines = "MinProtocol=TLSv1.3\nCipherString=ECDHE-RSA-AES256-GCM-SHA384\n"
    base = f"openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\n{lines}"
    environment = held(graft, found, tmp_path, "X25519MLKEM768", base)
    based = settings(python, {**graft.apply({}), "OPENSSL_CONF": str(tmp_path / "base.cnf")})
    if based == settings(python, {**graft.apply({}), "OPENSSL_CONF": "/dev/null"}):
        pytest.skip("this Python sets its own minimum and ciphers")
    assert settings(python, environment) == based
    assert based[0] == 0x0304
    check_groups(python, environment, "X25519MLKEM768")


def settings(python: Path | str, environment: dict[str, str]) -> list[object]:
    command = [str(python), "-I", "-c", SETTINGS]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=True).stdout
    result = json.loads(out)
    assert isinstance(result, list)
    return result


def test_odd_file_names_and_nesting(graft: Graft, interpreter: Interpreter, tmp_path: Path) -> None:
    folder = tmp_path / "a $b 'c' #d\\e"
    folder.mkdir()
    environment = held(graft, interpreter, folder, "x25519", BASES["own-groups"].replace("{settings}", ""))
    check_groups(sys.executable, environment, "x25519")
    assert "secp521r1" not in [group_name(code) for code in probe_mlkem(sys.executable, environment).offered_groups]
    (tmp_path / "inner").mkdir()
    inner = write_groups_conf("MLKEM768", tmp_path / "inner", interpreter, environment)
    check_groups(sys.executable, {**environment, "OPENSSL_CONF": str(inner)}, "MLKEM768")


def test_includes_are_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "1.cnf").write_text("[mine]\nssl_conf = its\n")
    (tmp_path / "d" / "2.conf").write_text("[its]\nsystem_default = deep\n")
    (tmp_path / "d" / "3.txt").write_text("[its]\nsystem_default = wrong\n")
    (tmp_path / "conf").write_text(f"openssl_conf = mine\n.include {tmp_path}/d\n.include = absent.cnf\n")
    assert find_settings_chain(tmp_path / "conf") == ["mine", "its", "deep"]
    (tmp_path / "conf").write_text("openssl_conf = mine\n.include d\nits::system_default = other\n")
    assert find_settings_chain(tmp_path / "conf", str(tmp_path)) == ["mine", "its", "other"]


def test_what_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").write_text(f".include {tmp_path}/loop\n")
    (tmp_path / "variable").write_text("x = y\nopenssl_conf = $x\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "fifo.cnf")
    (tmp_path / "includes-a-fifo").write_text(f".include {tmp_path}/folder\n")
    for name in ("loop", "variable", "absent", "includes-a-fifo"):
        with pytest.raises(UsageError):
            find_settings_chain(tmp_path / name)


def test_which_configuration_is_in_force(interpreter: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "conf").touch()
    assert base_conf(interpreter, {"OPENSSL_CONF": str(tmp_path / "conf")}) == tmp_path / "conf"
    assert base_conf(interpreter, {"OPENSSL_CONF": ""}) is None
    assert base_conf(interpreter, {"OPENSSL_CONF": str(tmp_path / "absent")}) is None
    default = Path(interpreter.capath).parent / "openssl.cnf"
    assert base_conf(interpreter, {}) == (default if default.is_file() else None)
