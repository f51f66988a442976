from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import ssl
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pqtls.errors import UsageError
from pqtls.openssl import source_tarball
from pqtls.openssl.releases import KNOWN_TARBALLS, LTS, NEWEST_KNOWN, SUPPORT_ENDS
from pqtls.openssl.source_tarball import UnpackedSource, copy_verified, unpack
from tests.openssl.tarballs import VERSION_DAT, release_files, write_tarball

GOOD = {"Configure": "x", "VERSION.dat": VERSION_DAT.format(3, 5, 7, "")}


def silent(_done: int, _total: int) -> None:
    pass


def craft(path: Path, *members: tarfile.TarInfo) -> Path:
    """A release with further members."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in GOOD.items():
            member = tarfile.TarInfo(f"openssl-3.5.7/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 1 if kind == tarfile.REGTYPE else 0
    return info


def unpack_in(folder: Path, tarball: Path) -> UnpackedSource:
    inside = folder / "inside"
    inside.mkdir()
    return unpack(tarball, inside)


class TestChecksum:
    def test_the_right_one(self, tmp_path: Path) -> None:
        sha256 = write_tarball(tmp_path / "a.tar.gz", GOOD)
        told: list[tuple[int, int]] = []
        copied = copy_verified(
            str(tmp_path / "a.tar.gz"), sha256.upper(), tmp_path / "copy", lambda *each: told.append(each)
        )
        assert copied == sha256
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "a.tar.gz").read_bytes()
        assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
        size = (tmp_path / "copy").stat().st_size
        assert told[-1] == (size, size)

    @pytest.mark.parametrize("given", ["0" * 64, "f" * 64])
    def test_a_wrong_one(self, tmp_path: Path, given: str) -> None:
        write_tarball(tmp_path / "a.tar.gz", GOOD)
        with pytest.raises(UsageError, match="is not what it should be"):
            copy_verified(str(tmp_path / "a.tar.gz"), given, tmp_path / "copy", silent)

    @pytest.mark.parametrize("given", ["0" * 63, "g" * 64, "sha256:" + "0" * 64])
    def test_one_that_is_none(self, tmp_path: Path, given: str) -> None:
        with pytest.raises(UsageError, match="is no SHA-256 checksum"):
            copy_verified(str(tmp_path / "a.tar.gz"), given, tmp_path / "copy", silent)

    def test_one_changed_byte(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar.gz"
        sha256 = write_tarball(path, GOOD)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(UsageError, match="is not what it should be"):
            copy_verified(str(path), sha256, tmp_path / "copy", silent)

    def test_a_release_is_known_by_its_bytes_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not by its name: openssl-3.5.9.tar.gz may be anything."""
        path = tmp_path / f"openssl-{NEWEST_KNOWN}.tar.gz"
        sha256 = write_tarball(path, GOOD)
        with pytest.raises(UsageError, match="whose checksum pqtls knows"):
            copy_verified(str(path), "", tmp_path / "copy", silent)
        monkeypatch.setitem(KNOWN_TARBALLS, sha256, "3.5.7")
        assert copy_verified(str(path), "", tmp_path / "again", silent) == sha256

    def test_what_is_not_there_or_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            copy_verified(str(tmp_path / "none"), "", tmp_path / "copy", silent)
        with pytest.raises(UsageError, match="cannot be read: Is a directory"):
            copy_verified(str(tmp_path), "", tmp_path / "copy2", silent)
        monkeypatch.setattr(source_tarball, "MAX_TARBALL_BYTES", 100)
        (tmp_path / "large").write_bytes(bytes(101))
        with pytest.raises(UsageError, match="larger than any"):
            copy_verified(str(tmp_path / "large"), "", tmp_path / "copy3", silent)

    def test_the_tables(self) -> None:
        assert all(len(sha256) == 64 for sha256 in KNOWN_TARBALLS)
        assert max(KNOWN_TARBALLS.values(), key=lambda text: [int(part) for part in text.split(".")]) == NEWEST_KNOWN
        assert set(SUPPORT_ENDS) >= LTS


class TestUnpacking:
    def test_a_release(self, tmp_path: Path) -> None:
        write_tarball(tmp_path / "a.tar.gz", release_files((3, 5, 7), "", tmp_path / "told"), top="openssl-3.5.7")
        found = unpack_in(tmp_path, tmp_path / "a.tar.gz")
        assert (found.version, found.version_info, found.epoch) == ("3.5.7", (3, 5, 7), 1_781_000_000)
        assert found.folder == tmp_path / "inside" / "openssl-3.5.7"
        assert (found.folder / "Configure").stat().st_mode & 0o777 == 0o700
        assert (found.folder / "LICENSE.txt").stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "told").exists()

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (member("/pqtls-evil"), "would leave its folder"),
            (member("openssl-3.5.7/../../evil"), "would leave its folder"),
            (member("../evil"), "would leave its folder"),
            (member("openssl-3.5.7//evil"), "would leave its folder"),
            (member("openssl-3.5.7/a", tarfile.SYMTYPE, "/etc/passwd"), "neither a file nor a folder"),
            (member("openssl-3.5.7/a", tarfile.SYMTYPE, "Configure"), "neither a file nor a folder"),
            (member("openssl-3.5.7/a", tarfile.LNKTYPE, "openssl-3.5.7/Configure"), "neither a file nor a folder"),
            (member("openssl-3.5.7/a", tarfile.FIFOTYPE), "neither a file nor a folder"),
            (member("openssl-3.5.7/a", tarfile.CHRTYPE), "neither a file nor a folder"),
            (member("openssl-3.5.7/Configure"), "twice"),
            (member("openssl-3.5.7/Configure/below"), "twice"),
            (member("another/file"), "is not one of OpenSSL"),
        ],
        ids=lambda value: f"{value.name} {value.linkname}" if isinstance(value, tarfile.TarInfo) else "",
    )
    def test_what_no_release_holds(self, tmp_path: Path, bad: tarfile.TarInfo, words: str) -> None:
        tarball = craft(tmp_path / "bad.tar.gz", bad)
        with pytest.raises(UsageError, match=words):
            unpack_in(tmp_path, tarball)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "inside"]
        assert not Path("/pqtls-evil").exists()

    def test_the_control_of_those(self, tmp_path: Path) -> None:
        tarball = craft(tmp_path / "good.tar.gz", member("openssl-3.5.7/a"), member("openssl-3.5.7/b/c"))
        assert unpack_in(tmp_path, tarball).version == "3.5.7"

    def test_bombs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_tarball, "MAX_UNPACKED_BYTES", 1024 * 1024)
        large = member("openssl-3.5.7/zeros")
        large.size = 2 * 1024 * 1024
        with pytest.raises(UsageError, match="unpacks to more"):
            unpack_in(tmp_path, craft(tmp_path / "bomb.tar.gz", large))
        monkeypatch.setattr(source_tarball, "MAX_MEMBERS", 5)
        many = craft(tmp_path / "many.tar.gz", *(member(f"openssl-3.5.7/{number}") for number in range(9)))
        (tmp_path / "second").mkdir()
        with pytest.raises(UsageError, match="more files than any"):
            unpack_in(tmp_path / "second", many)

    def test_a_header_that_asks_for_a_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pax header of any size is read into memory by tarfile: the bound holds before it."""
        monkeypatch.setattr(source_tarball, "MAX_UNPACKED_BYTES", 1024 * 1024)
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, 2**32
        tarball = tmp_path / "bomb.tar.gz"
        tarball.write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(4 * 1024 * 1024)))
        with pytest.raises(UsageError, match="unpacks to more"):
            unpack_in(tmp_path, tarball)

    def test_what_is_no_tarball(self, tmp_path: Path) -> None:
        whole = craft(tmp_path / "good.tar.gz").read_bytes()
        for number, data in enumerate((b"", b"x" * 1000, whole[: len(whole) // 2], gzip.compress(b"x" * 5000))):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "bad").write_bytes(data)
            with pytest.raises(UsageError, match="cannot be unpacked"):
                unpack_in(folder, folder / "bad")

    @pytest.mark.parametrize(
        ("version", "tag", "words"),
        [
            ((3, 0, 17), "", "has no ML-KEM"),
            ((3, 4, 3), "", "has no ML-KEM"),
            ((4, 0, 0), "", "another ABI"),
            ((3, 6, 0), "-alpha1", "is no release"),
        ],
    )
    def test_versions_that_cannot_stand_in(
        self, tmp_path: Path, version: tuple[int, int, int], tag: str, words: str
    ) -> None:
        write_tarball(tmp_path / "a.tar.gz", {"Configure": "x", "VERSION.dat": VERSION_DAT.format(*version, tag)})
        with pytest.raises(UsageError, match=words):
            unpack_in(tmp_path, tmp_path / "a.tar.gz")

    def test_without_a_version(self, tmp_path: Path) -> None:
        write_tarball(tmp_path / "a.tar.gz", {"Configure": "x"})
        with pytest.raises(UsageError, match=r"has no VERSION\.dat"):
            unpack_in(tmp_path, tmp_path / "a.tar.gz")
        write_tarball(tmp_path / "b.tar.gz", {"Configure": "x", "VERSION.dat": "MAJOR=three\n"})
        (tmp_path / "b").mkdir()
        with pytest.raises(UsageError, match="does not say which"):
            unpack_in(tmp_path / "b", tmp_path / "b.tar.gz")


class _Handler(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        leads = {"/moved": "/file", "/down": "http://localhost:1/file"}
        self.send_response(302 if self.path in leads else 200 if self.path == "/file" else 404)
        if self.path in leads:
            self.send_header("Location", leads[self.path])
        self.send_header("Content-Length", str(len(self.content) if self.path == "/file" else 0))
        self.end_headers()
        if self.path == "/file":
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An https server that this process trusts; gives its address."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    write_tarball(tmp_path / "served", GOOD)
    monkeypatch.setattr(_Handler, "content", (tmp_path / "served").read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class TestFetching:
    def test_an_https_address(self, tmp_path: Path, address: str) -> None:
        sha256 = hashlib.sha256(_Handler.content).hexdigest()
        for number, path in enumerate(("/file", "/moved")):
            assert copy_verified(address + path, sha256, tmp_path / f"copy{number}", silent) == sha256
        with pytest.raises(UsageError, match="is not what it should be"):
            copy_verified(f"{address}/file", "0" * 64, tmp_path / "copy", silent)

    def test_what_is_not_https_stays_unread(self, tmp_path: Path, address: str) -> None:
        with pytest.raises(UsageError, match="which is not https"):
            copy_verified(f"{address}/down", "0" * 64, tmp_path / "copy", silent)
        for other in ("http://localhost/file", "ftp://localhost/file", "file:///etc/passwd"):
            with pytest.raises(UsageError, match="is not an https address"):
                copy_verified(other, "0" * 64, tmp_path / "copy", silent)
        with pytest.raises(UsageError, match="the server answered 404"):
            copy_verified(f"{address}/none", "0" * 64, tmp_path / "copy", silent)

    def test_a_server_that_nobody_vouches_for(
        self, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
        with pytest.raises(UsageError, match="certificate verify failed"):
            copy_verified(f"{address}/file", "0" * 64, tmp_path / "copy", silent)
