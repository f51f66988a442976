"""What a libcrypto file says of itself in its constants, read without loading it.

Source: OpenSSL's crypto/info.c and crypto/cversion.c: the texts that `openssl version -a` prints are constants of
every build ("OpenSSL 3.5.9 29 Sep 2026", `OPENSSLDIR: "/usr/lib/ssl"`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_VERSION = re.compile(rb"\0(OpenSSL (\d+)\.(\d+)\.(\d+)((?:-[a-z0-9.+]+)*) +\d{1,2} [A-Z][a-z]{2} \d{4})\0")
_FOLDER = re.compile(rb'\0(OPENSSLDIR|ENGINESDIR|MODULESDIR): "([^"\0]*)"(?=\0)')


@dataclass(frozen=True, slots=True)
class LibraryText:
    """A libcrypto's constants.

    Attributes:
        version: Such as "OpenSSL 3.5.9 29 Sep 2026"; "" if the file has none.
        version_info: Such as (3, 5, 9); empty if the file has no version.
        is_prerelease: An alpha, beta or development version.
        openssl_dir: OPENSSLDIR, "" if the file does not say.
        engines_dir: ENGINESDIR, "" if the file does not say.
        modules_dir: MODULESDIR, "" if the file does not say.
    """

    version: str
    version_info: tuple[int, ...]
    is_prerelease: bool
    openssl_dir: str
    engines_dir: str
    modules_dir: str


def read_library_text(data: bytes) -> LibraryText:
    """Read a libcrypto's constants.

    Args:
        data: The whole file, or any file: what is not found stays empty.

    Returns:
        What was found.
    """
    match = _VERSION.search(data)
    suffix = match.group(5).decode() if match else ""
    folders = {name.decode(): os.fsdecode(value) for name, value in _FOLDER.findall(data)}
    return LibraryText(
        version=match.group(1).decode() if match else "",
        version_info=tuple(int(match.group(part)) for part in (2, 3, 4)) if match else (),
        is_prerelease=bool(re.search("alpha|beta|dev", suffix)),
        openssl_dir=folders.get("OPENSSLDIR", ""),
        engines_dir=folders.get("ENGINESDIR", ""),
        modules_dir=folders.get("MODULESDIR", ""),
    )
