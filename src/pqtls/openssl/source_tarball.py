"""A release tarball of OpenSSL: fetched if asked, its checksum verified, unpacked so that nothing can leave its folder.

The order matters. The tarball is first copied into a private folder while it is hashed; nothing is unpacked, let
alone run, before the copy's checksum was compared. Unpacking then still trusts nothing: OpenSSL's releases are made
of folders and plain files below one folder, so anything else (links, devices, absolute names, "..") is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tarfile
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pqtls.errors import UsageError
from pqtls.openssl.releases import KNOWN_TARBALLS, NEWEST_KNOWN, release_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_TARBALL_BYTES = 256 * 1024 * 1024
"""OpenSSL 3.5.7 has 53 MB."""
MAX_UNPACKED_BYTES = 1024 * 1024 * 1024
"""OpenSSL 3.5.7 has 131 MB; a bomb has no end."""
MAX_MEMBERS = 50_000
"""OpenSSL 3.5.7 has 6,048."""
_CHUNK_BYTES = 1024 * 1024
_TIMEOUT_S = 60.0
"""Of one read from the network; the whole is bounded by `MAX_TARBALL_BYTES`."""
_OLDEST, _ABI = (3, 5), 3

_GET_ONE = f"Get {release_url(NEWEST_KNOWN)} and name the file, or name that address, with --source."


@dataclass(frozen=True, slots=True)
class UnpackedSource:
    """A release's source, unpacked.

    Attributes:
        folder: Where Configure is.
        version: Such as "3.5.9".
        version_info: Such as (3, 5, 9).
        epoch: When the release was packed, in seconds since 1970: what a reproducible build dates itself with.
    """

    folder: Path
    version: str
    version_info: tuple[int, ...]
    epoch: int


def copy_verified(source: str, sha256: str, target: Path, report: Callable[[int, int], None]) -> str:
    """Copy a tarball to a private place, and verify what was copied.

    Args:
        source: Path, or https address.
        sha256: What it must hash to, in hex; "" to look it up among the known releases.
        target: Where to copy it; must not exist.
        report: Told how many bytes were copied, and of how many (0 if unknown).

    Returns:
        The checksum.

    Raises:
        UsageError: It cannot be read, is too large, or its checksum is wrong or not known.
    """
    expected = sha256.strip().lower()
    if expected and not re.fullmatch("[0-9a-f]{64}", expected):
        raise UsageError(f"{sha256!r} is no SHA-256 checksum.", "It has 64 hexadecimal digits.")
    digest, copied = hashlib.sha256(), 0
    with _open_source(source) as (stream, size_bytes), open(target, "xb", opener=_private) as file:
        while chunk := _read(source, stream):
            copied += len(chunk)
            if copied > MAX_TARBALL_BYTES:
                raise UsageError(f"{source} is larger than any OpenSSL release.", _GET_ONE)
            digest.update(chunk)
            file.write(chunk)
            report(copied, size_bytes)
    found = digest.hexdigest()
    if expected and found != expected:
        raise UsageError(
            f"{source} is not what it should be: its SHA-256 is {found}, not {expected}.",
            "Nothing of it was run. Get it again, and the checksum from OpenSSL's own release page.",
        )
    if not expected and found not in KNOWN_TARBALLS:
        known = ", ".join(KNOWN_TARBALLS.values())
        raise UsageError(
            f"{source} is no OpenSSL release whose checksum pqtls knows ({known}), so nothing of it was run.",
            "Give the SHA-256 that OpenSSL publishes beside the tarball: --sha256 HEX.",
        )
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def _open_source(source: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file or an https address; errors become sentences."""
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    if scheme and scheme != "https":
        raise UsageError(f"{source} is not an https address.", _GET_ONE)
    try:
        if scheme:
            opener = urllib.request.build_opener(_OnlyHttps())
            stream = opener.open(source, timeout=_TIMEOUT_S)
            size_bytes = int(stream.headers.get("Content-Length") or 0)
        else:
            stream = open(source, "rb")  # noqa: PTH123, SIM115 - closed below
            size_bytes = os.fstat(stream.fileno()).st_size
    except (OSError, HTTPException, ValueError) as error:
        raise UsageError(f"{source} cannot be read: {_why(error)}.", _GET_ONE) from error
    with stream:
        yield stream, size_bytes


def _read(source: str, stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise UsageError(f"{source} cannot be read: {_why(error)}.", "Try again, or name a file.") from error


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code}"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason).rstrip(".") or type(error).__name__


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to an address that is not https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Refuse what is not https, else do as usual."""
        if not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"it leads on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def unpack(tarball: Path, folder: Path) -> UnpackedSource:
    """Unpack a tarball whose checksum was verified, and read which release it is.

    Args:
        tarball: The private copy.
        folder: An empty private folder.

    Returns:
        The source.

    Raises:
        UsageError: It is no such tarball, holds what a release does not, or a version that cannot stand in.
    """
    try:
        with tarball.open("rb") as raw, tarfile.open(fileobj=_Bounded(raw), mode="r|") as archive:
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise UsageError("The tarball holds more files than any OpenSSL release.", _GET_ONE)
                _unpack_member(archive, member, folder)
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise UsageError(f"The tarball cannot be unpacked: {error}.", _GET_ONE) from error
    tops = sorted(folder.iterdir())
    if len(tops) != 1 or not (tops[0] / "Configure").is_file():
        raise UsageError("The tarball is not one of OpenSSL: it has no Configure in its one folder.", _GET_ONE)
    return _identify(tops[0])


class _Bounded(io.RawIOBase):
    """The unpacked bytes of a gzip file, as long as they are fewer than any bomb's.

    tarfile reads a header's extension of any size into memory: so what it may read is bounded here, before it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._total_bytes = 0
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` unpacked bytes."""
        while not self._inflate.eof:
            packed = self._left or self._file.read(_CHUNK_BYTES)
            if not packed:
                raise EOFError("it is cut off")
            data = self._inflate.decompress(packed, max(size, 1))
            self._left = self._inflate.unconsumed_tail
            self._total_bytes += len(data)
            if self._total_bytes > MAX_UNPACKED_BYTES:
                raise ValueError("it unpacks to more than any OpenSSL release")
            if data:
                return data
        return b""


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    parts = member.name.rstrip("/").split("/")
    if member.name.startswith("/") or ".." in parts or "" in parts or "\\" in member.name or "\0" in member.name:
        raise UsageError(f"The tarball holds {member.name!r}, which would leave its folder.", _GET_ONE)
    path = folder.joinpath(*parts)
    if not (member.isdir() or member.isreg()):
        raise UsageError(f"The tarball holds {member.name!r}, which is neither a file nor a folder.", _GET_ONE)
    try:
        (path if member.isdir() else path.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        if member.isdir():
            return
        # Nothing in the folder is a link, so that a name without ".." stays inside; the same name twice is refused.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o700 if member.mode & 0o100 else 0o600)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"The tarball holds {member.name!r} twice.", _GET_ONE) from error
    data = archive.extractfile(member)
    with os.fdopen(descriptor, "wb") as file:
        while data is not None and (chunk := data.read(_CHUNK_BYTES)):
            file.write(chunk)
    os.utime(path, (member.mtime, member.mtime))


def _identify(folder: Path) -> UnpackedSource:
    """Read VERSION.dat, which OpenSSL 3 has; nothing is run."""
    stated = folder / "VERSION.dat"
    try:
        text, epoch = stated.read_text(encoding="ascii"), int(stated.stat().st_mtime)
    except (OSError, ValueError) as error:
        raise UsageError(
            "The tarball has no VERSION.dat: it is older than OpenSSL 3, or none of its releases.", _GET_ONE
        ) from error
    values = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text, re.MULTILINE))
    try:
        version_info = tuple(int(values[name]) for name in ("MAJOR", "MINOR", "PATCH"))
    except (KeyError, ValueError) as error:
        raise UsageError("The tarball's VERSION.dat does not say which OpenSSL it is.", _GET_ONE) from error
    version = ".".join(map(str, version_info)) + values.get("PRE_RELEASE_TAG", "")
    if version_info[:2] < _OLDEST:
        raise UsageError(f"OpenSSL {version} has no ML-KEM: 3.5 is the first version with it.", _GET_ONE)
    if version_info[0] != _ABI:
        raise UsageError(f"OpenSSL {version} has another ABI than libssl.so.3, and cannot stand in for it.", _GET_ONE)
    if values.get("PRE_RELEASE_TAG"):
        raise UsageError(f"OpenSSL {version} is no release.", _GET_ONE)
    return UnpackedSource(folder, version, version_info, epoch)
