"""Where the libraries are that `pqtls openssl build` made, and whether they are still what was proven then.

Each build is a folder of its own below the user's cache: libssl.so.3, libcrypto.so.3, OpenSSL's licence and
build.json. It gets its name only when it is whole and proven, and is never changed afterwards.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pqtls.errors import UsageError
from pqtls.openssl.paths import is_folder, read_json
from pqtls.openssl.private_folder import cache_folder, find_own_obstacle, make_private_folder

BUILD_SCHEMA = "pqtls/openssl-build/1"
BUILD_MANIFEST = "build.json"
LIBRARIES = ("libssl.so.3", "libcrypto.so.3")
_NAME = re.compile(r"openssl-(\d{1,4}\.\d{1,4}\.\d{1,4})-[0-9a-f]{16}")
_MAX_MANIFEST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Build:
    """One build that is there.

    Attributes:
        folder: Its folder.
        version: Such as "3.5.9".
        built: When, as YYYY-MM-DDTHH:MM:SSZ; "" if its manifest cannot be read.
        manifest: build.json as read; empty if it cannot be.
        obstacle: Why it must not be used, as a sentence; "" if nothing speaks against it.
    """

    folder: Path
    version: str
    built: str
    manifest: dict[str, Any]
    obstacle: str

    @property
    def libssl(self) -> Path:
        """The file."""
        return self.folder / LIBRARIES[0]

    @property
    def libcrypto(self) -> Path:
        """The file."""
        return self.folder / LIBRARIES[1]

    @property
    def description(self) -> str:
        """Where it comes from: "openssl-3.5.9.tar.gz, built by pqtls on 2026-11-23"."""
        return f"openssl-{self.version}.tar.gz, built by pqtls on {self.built[:10] or 'an unknown day'}"


def builds_folder() -> Path:
    """Return the folder where builds are kept: $XDG_CACHE_HOME or ~/.cache, then pqtls/openssl.

    Raises:
        UsageError: There is no home folder.
    """
    return cache_folder().parent / "openssl"


def find_builds(base: Path | None = None) -> list[Build]:
    """Find every build, those that must not be used with the reason.

    Args:
        base: Where builds are kept; None for the user's cache.

    Returns:
        The builds by name; [] where there are none. Nothing is created.
    """
    try:
        base = builds_folder() if base is None else base
        if not is_folder(base):
            return []
        names = sorted(path.name for path in base.iterdir() if _NAME.fullmatch(path.name))
    except (UsageError, OSError):
        return []
    unsafe = ""
    try:
        base = make_private_folder(base)
    except UsageError as error:
        unsafe = error.message
    return [read_build(base / name, unsafe) for name in names]


def read_build(folder: Path, unsafe: str = "") -> Build:
    """Read one build, and check that its files are those that were proven (all bytes are hashed).

    Args:
        folder: Its folder.
        unsafe: Why nothing in the folder above can be trusted; "" if it can.
    """
    match = _NAME.fullmatch(folder.name)
    version = match.group(1) if match else ""
    if unsafe:
        return Build(folder, version, "", {}, unsafe)
    try:
        for path in (folder, folder / BUILD_MANIFEST, *(folder / name for name in LIBRARIES)):
            obstacle = find_own_obstacle(path)
            if obstacle:
                return Build(folder, version, "", {}, f"{obstacle}, so it is not safe to load.")
        manifest = read_json(folder / BUILD_MANIFEST, _MAX_MANIFEST_BYTES)
        stated = {name: str(manifest["files"][name]["sha256"]) for name in LIBRARIES}
        hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in LIBRARIES}
        is_whole = manifest["schema"] == BUILD_SCHEMA and manifest["name"] == folder.name and stated == hashes
        built = str(manifest["built"])
    except (OSError, ValueError, KeyError, TypeError):
        return Build(folder, version, "", {}, f"{folder} is damaged; `pqtls openssl build` replaces it.")
    obstacle = "" if is_whole else f"{folder} is not what was proven when it was built; build it again."
    return Build(folder, version, built, manifest, obstacle)
