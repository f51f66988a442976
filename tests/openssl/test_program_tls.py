from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pqtls.openssl.graft import Graft
from pqtls.openssl.program_tls import ProgramTls, examine_program
from tests.openssl.elf_files import make_elf

OLD = b"\0OpenSSL 3.0.19 27 Jan 2026\0"
NEW = b"\0OpenSSL 3.5.9 29 Sep 2026\0"
GO = b"\xff Go buildinf:\x08\x02" + bytes(16)


def put(folder: Path, name: str, data: bytes = b"", **facts: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(make_elf(**facts) + data)  # type: ignore[arg-type]
    path.chmod(0o755)
    return path


def openssl(folder: Path, version: bytes) -> Path:
    put(folder, "libssl.so.3", soname="libssl.so.3", needed=["libcrypto.so.3"])
    put(folder, "libcrypto.so.3", version, soname="libcrypto.so.3")
    return folder


def examine(program: Path, *folders: Path, path: str = "/nowhere") -> ProgramTls:
    return examine_program([str(program)], {"PATH": path, "LD_LIBRARY_PATH": ":".join(map(str, folders))})


class TestLinked:
    def test_the_version_that_would_be_mapped_decides(self, tmp_path: Path) -> None:
        program = put(tmp_path, "program", needed=["libssl.so.3"])
        old, new = openssl(tmp_path / "old", OLD), openssl(tmp_path / "new", NEW)
        assert examine(program, new, old).kind == "openssl"
        assert examine(program, new, old).is_reached is True
        found = examine(program, old, new)
        assert (found.kind, found.is_reached) == ("old-openssl", False)
        assert "OpenSSL 3.0.19 27 Jan 2026" in found.explanation

    def test_a_graft_does_not_win_over_dt_rpath(self, tmp_path: Path) -> None:
        openssl(tmp_path / "lib", OLD)
        new = openssl(tmp_path / "new", NEW)
        assert examine(put(tmp_path, "a", needed=["libssl.so.3"], rpath="$ORIGIN/lib"), new).kind == "old-openssl"
        assert examine(put(tmp_path, "b", needed=["libssl.so.3"], runpath="$ORIGIN/lib"), new).kind == "openssl"

    def test_a_32_bit_program_keeps_its_own(self, tmp_path: Path) -> None:
        program = put(tmp_path, "program", bits=32, machine=3, needed=["libssl.so.3"])
        assert examine(program, openssl(tmp_path / "new", NEW)).is_reached is False

    @pytest.mark.parametrize(
        ("soname", "library"),
        [
            ("libssl.so.1.1", "OpenSSL 1"),
            ("libssl.so.10", "OpenSSL 1"),
            ("libgnutls.so.30", "GnuTLS"),
            ("libssl3.so", "NSS"),
            ("libjli.so", "Java's own TLS (JSSE)"),
        ],
    )
    def test_other_libraries(self, tmp_path: Path, soname: str, library: str) -> None:
        found = examine(put(tmp_path, "program", needed=["libc.so.6", soname]), openssl(tmp_path / "new", NEW))
        assert (found.kind, found.library, found.is_reached) == ("other-library", library, False)
        assert soname in found.explanation

    def test_the_nearest_library_counts(self, tmp_path: Path) -> None:
        """Debian's libcurl needs libssl, and GnuTLS through librtmp; the program's TLS is libssl."""
        folder = openssl(tmp_path / "lib", NEW)
        put(folder, "libcurl.so.4", needed=["librtmp.so.1", "libssl.so.3"])
        put(folder, "librtmp.so.1", needed=["libgnutls.so.30"])
        put(folder, "libgnutls.so.30")
        assert examine(put(tmp_path, "curl", needed=["libcurl.so.4"]), folder).kind == "openssl"
        put(folder, "libcurl-gnutls.so.4", needed=["libgnutls.so.30", "libssh2.so.1"])
        put(folder, "libssh2.so.1", needed=["libssl.so.3"])
        assert examine(put(tmp_path, "other", needed=["libcurl-gnutls.so.4"]), folder).library == "GnuTLS"

    def test_libcrypto_alone_is_no_tls(self, tmp_path: Path) -> None:
        found = examine(put(tmp_path, "ssh", needed=["libcrypto.so.3"]), openssl(tmp_path / "new", NEW))
        assert (found.kind, found.is_reached, found.explanation) == ("none", None, "")

    @pytest.mark.parametrize("name", ["socat", "stunnel4", "postgres"])
    def test_groups_of_their_own(self, tmp_path: Path, name: str) -> None:
        found = examine(put(tmp_path, name, needed=["libssl.so.3"]), openssl(tmp_path / "new", NEW))
        assert (found.kind, found.is_reached) == ("own-groups", False)

    def test_set_user_id(self, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        new = openssl(tmp_path / "new", NEW)
        program = put(tmp_path, "program", needed=["libssl.so.3"])
        program.chmod(0o4755)
        assert examine(program, new).kind == "openssl", "our own set-user-ID program changes no id"
        os.chown(program, 65534, 65534)
        program.chmod(0o4755)
        assert examine(program, new).is_reached is False


class TestInside:
    """Programs that map no TLS library and have one inside, told by its constants."""

    def test_static_openssl(self, tmp_path: Path) -> None:
        found = examine(put(tmp_path, "node", OLD + b"SSL_CTX_new\0"))
        assert (found.kind, found.library) == ("static", "OpenSSL 3.0.19 27 Jan 2026")
        assert "new enough" not in found.next_step
        assert "new enough" in examine(put(tmp_path, "node", NEW + b"SSL_CTX_new\0")).next_step

    def test_an_openssl_that_only_hashes_is_no_tls(self, tmp_path: Path) -> None:
        assert examine(put(tmp_path, "hash", OLD)).kind == "none"

    @pytest.mark.parametrize(("version", "words"), [("go1.19.8", "needs a rebuild."), ("go1.24.1", "by itself.")])
    def test_go(self, tmp_path: Path, version: str, words: str) -> None:
        data = GO + bytes([len(version)]) + version.encode() + b"\0crypto/tls\0"
        found = examine(put(tmp_path, "tool", data))
        assert (found.kind, found.library) == ("go", f"Go's crypto/tls, {version}")
        assert found.next_step.endswith(words)
        assert examine(put(tmp_path, "tool", data.replace(b"crypto/tls", b"crypto/md5"))).kind == "none"

    def test_rustls(self, tmp_path: Path) -> None:
        found = examine(put(tmp_path, "uv", b"registry/rustls-0.23.46/src/lib.rs AWS-LC SSL_CTX_new"))
        assert (found.kind, found.library) == ("static", "rustls 0.23.46")

    def test_boringssl(self, tmp_path: Path) -> None:
        assert examine(put(tmp_path, "chrome", b"BoringSSL SSL_CTX_new")).library == "BoringSSL"

    def test_frozen(self, tmp_path: Path) -> None:
        """AWS CLI v2's form: PyInstaller's archive, its libraries beside it."""
        program = put(tmp_path, "aws", b"MEI\x0c\x0b\x0a\x0b\x0e")
        assert examine(program).kind == "frozen"
        put(tmp_path / "_internal", "libcrypto.so.3", OLD)
        assert examine(program).library == "OpenSSL 3.0.19 27 Jan 2026"


class TestFollowed:
    """What stands between the command and the program."""

    def test_scripts_and_env(self, tmp_path: Path) -> None:
        new = openssl(tmp_path / "new", NEW)
        put(tmp_path, "wgets", needed=["libgnutls.so.30"])
        script = tmp_path / "script"
        script.write_text("#!/usr/bin/env -S wgets --option\n")
        script.chmod(0o755)
        path = f"{tmp_path}:/usr/bin"
        assert examine(script, new, path=path).library == "GnuTLS"
        command = ["env", "A=b", str(script)]
        assert examine_program(command, {"PATH": path}).library == "GnuTLS"

    def test_links(self, tmp_path: Path) -> None:
        put(tmp_path / "real", "wget-1", needed=["libgnutls.so.30"])
        (tmp_path / "wget").symlink_to("real/wget-1")
        assert examine(tmp_path / "wget").library == "GnuTLS"

    def test_what_cannot_be_told_is_not_told(self, tmp_path: Path) -> None:
        script = tmp_path / "wrapper"
        script.write_text("#!/bin/sh\nexec wget\n")
        script.chmod(0o755)
        for found in (examine(script), examine(tmp_path / "absent")):
            assert (found.kind, found.is_reached, found.explanation) == ("unknown", None, "")

    def test_a_python_is_asked_elsewhere(self, tmp_path: Path) -> None:
        assert examine(put(tmp_path, "python3.11")).kind == "python"

    def test_what_starts_others_without_the_environment(self, tmp_path: Path) -> None:
        found = examine(put(tmp_path, "sudo"))
        assert (found.kind, found.is_reached) == ("clean-starter", False)
        assert "sudo pqtls run" in found.next_step

    @pytest.mark.parametrize(
        ("name", "module"),
        [
            ("perl", "lib/x86_64-linux-gnu/perl5/5.36/auto/Net/SSLeay/SSLeay.so"),
            ("ruby3.1", "lib/x86_64-linux-gnu/ruby/3.1.0/openssl.so"),
        ],
    )
    def test_extension_modules(self, tmp_path: Path, name: str, module: str) -> None:
        new = openssl(tmp_path / "new", NEW)
        program = put(tmp_path / "usr" / "bin", name)
        assert examine(program, new).kind == "none"
        put((tmp_path / "usr" / module).parent, Path(module).name, needed=["libssl.so.3"])
        assert examine(program, new).kind == "openssl"
        assert examine(program, openssl(tmp_path / "old", OLD)).kind == "old-openssl"

    @pytest.mark.parametrize("folder", ["lib/git-core", "libexec/git-core"])
    def test_gits_helper(self, tmp_path: Path, folder: str) -> None:
        git = put(tmp_path / "bin", "git")
        assert examine(git).kind == "none"
        put(tmp_path / folder, "git-remote-https", needed=["libgnutls.so.30"])
        found = examine(git)
        assert (found.kind, found.library) == ("other-library", "GnuTLS")
        assert "git-remote-https" in found.explanation

    def test_debians_wrapper_of_postgresql(self, tmp_path: Path) -> None:
        new = openssl(tmp_path / "new", NEW)
        share = tmp_path / "share" / "postgresql-common"
        share.mkdir(parents=True)
        (share / "pg_wrapper").write_text("#!/usr/bin/perl -w\n")
        (share / "pg_wrapper").chmod(0o755)
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "psql").symlink_to(share / "pg_wrapper")
        for version in ("9.6", "15"):
            put(tmp_path / "lib" / "postgresql" / version / "bin", "psql", needed=["libssl.so.3"])
        found = examine(tmp_path / "bin" / "psql", new)
        assert (found.kind, found.program) == ("openssl", tmp_path / "lib/postgresql/15/bin/psql")


class TestHostile:
    @pytest.mark.parametrize("cut", [0, 3, 16, 20, 63, 64, 100, 200, 300])
    def test_a_cut_program(self, tmp_path: Path, cut: int) -> None:
        program = put(tmp_path, "program", needed=["libssl.so.3"])
        program.write_bytes(program.read_bytes()[:cut])
        assert examine(program).is_reached is None

    def test_a_fifo_and_a_folder(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "libcrypto.so.3")
        put(tmp_path, "libssl.so.3", needed=["libcrypto.so.3"])
        found = examine(put(tmp_path, "program", needed=["libssl.so.3"]), tmp_path)
        assert found.is_reached is not True
        assert examine(tmp_path).kind == "unknown"
        os.mkfifo(tmp_path / "wget", 0o755)
        assert examine(tmp_path / "wget").kind == "unknown"

    def test_nothing_is_executed(self, tmp_path: Path) -> None:
        script = tmp_path / "script"
        program = tmp_path / "interpreter"
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        script.write_text(f"#!{program}\n")
        for each in (script, program):
            each.chmod(0o755)
            examine(each)
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["curl", "openssl"])
def test_real_programs(name: str, graft: Graft) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    found = examine_program([name], graft.apply({"PATH": "/usr/bin:/bin"}))
    assert (found.kind, found.library) == ("openssl", graft.source.version)
