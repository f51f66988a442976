"""The manifest of an enabled environment: what was grafted, from what, when, and what it stands in for.

It lies in the graft's folder and is for `pqtls status`, for people and for an SBOM. What the loader checks at every
start are the same facts, as literals in its own file, since reading JSON would cost too much there.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pqtls.openssl.file_facts import FileFacts
from pqtls.openssl.paths import find_matching, read_json, read_plain

SCHEMA = "pqtls/venv-graft/1"
MANIFEST = "manifest.json"
PACKAGE_PREFIX = "_pqtls_graft_"
PTH = "00-pqtls-graft.pth"
"""Sorts before what others name (`_virtualenv.pth`, `a1_coverage.pth`, `distutils-precedence.pth`)."""
START = "00-pqtls-graft-entry.start"
"""PEP 829, for Python 3.15 and newer. Its name is not that of PTH, whose line would not run then: entry points run
after the lines of all `.pth` files, too late where one of those imports `ssl`. `start()` works once, whoever calls."""

_MAX_MANIFEST_BYTES = 1024 * 1024
"""One has 4 kB."""
MAX_SWITCH_BYTES = 64 * 1024
"""Ours has 1 kB."""
_BUILT = re.compile(rb"built on: (?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})")
_RELEASED = re.compile(r"OpenSSL (\d+\.\d+\.\d+)\S* +(\d{1,2}) ([A-Z][a-z]{2}) (\d{4})")


@dataclass(frozen=True, slots=True)
class VenvManifest:
    """What `pqtls enable` wrote down.

    Attributes:
        id: Names the graft's folder.
        kind: "graft", or "native": the interpreter's own OpenSSL stays and is held to the settings.
        command: What sets it up again, as a command line.
        pqtls: Version of pqtls that made it.
        enabled_at: When, as 2026-11-23T17:00:00Z.
        python: Version and path of the interpreter that it was made for.
        own_version: ssl.OPENSSL_VERSION of what it stands in for.
        origin: Where the libraries come from, such as "psycopg_binary 3.3.9"; "" where there is no graft.
        version: Such as "OpenSSL 3.5.9 29 Sep 2026".
        built: When its libcrypto was compiled, as YYYY-MM-DD, by its own words; "" if it does not say.
        supported_until: End of that release's support, as YYYY-MM-DD; "" if unknown.
        require_pq: TLS is refused where the graft cannot be loaded.
        plugins: Modules beside the loader that are installed once `ssl` is imported.
        settings: What they are called with.
        folders: Empty without a graft; else where it looks for CAs, openssl.cnf, engines and provider modules.
        modules: The system's provider modules, set at load where the folder did not fit; "" if not needed.
        files: The graft's libraries, what they were made from, and what they stand in for.
    """

    id: str
    kind: str
    command: str
    pqtls: str
    enabled_at: str
    python: dict[str, str]
    own_version: str
    origin: str
    version: str
    built: str
    supported_until: str
    require_pq: bool
    plugins: tuple[str, ...]
    settings: dict[str, Any]
    folders: dict[str, str]
    modules: str
    files: tuple[FileFacts, ...]

    @property
    def is_native(self) -> bool:
        """There is no graft: the interpreter's own OpenSSL stays."""
        return self.kind == "native"

    @property
    def held_to(self) -> str:
        """What the environment's TLS is held to, in words; "" if to nothing."""
        words = [str(self.settings.get("groups") or ""), "post-quantum is required" if self.require_pq else ""]
        return "; ".join(word for word in words if word)

    @property
    def outer_source(self) -> Path | None:
        """The folder that the graft was made from, where that lies outside the environment; else None."""
        paths = (Path(each.path) for each in self.files if each.kind == "source")
        return next((path.parent for path in paths if path.is_absolute()), None)

    @property
    def released(self) -> str:
        """When this OpenSSL was released, as YYYY-MM-DD; "" if its version does not say."""
        match = _RELEASED.match(self.version)
        return _date(match.group(4), match.group(3), match.group(2)) if match else ""

    @property
    def version_info(self) -> tuple[int, ...]:
        """Such as (3, 5, 9); empty if its version does not say."""
        return read_version(self.version)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "files"}
        return {
            "schema": SCHEMA,
            **plain,
            "plugins": list(self.plugins),
            "files": [each.to_json() for each in self.files],
        }

    @classmethod
    def from_json(cls, value: Any) -> VenvManifest:
        """Read it from a JSON object.

        Args:
            value: What `to_json` returned, or anything else.

        Raises:
            ValueError: It is not one.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise ValueError(f"it is no {SCHEMA}")
        names = set(cls.__slots__)
        if set(value) != names | {"schema"} or not isinstance(value["files"], list):
            raise ValueError("fields are missing")
        dicts = {name: value[name] for name in ("python", "settings", "folders")}
        if not all(isinstance(each, dict) for each in dicts.values()) or not isinstance(value["plugins"], list):
            raise ValueError("a field has the wrong type")
        texts: dict[str, Any] = {name: str(value[name]) for name in names - {*dicts, "files", "plugins", "require_pq"}}
        return cls(
            **texts,
            python=dicts["python"],
            settings=dicts["settings"],
            folders=dicts["folders"],
            require_pq=value["require_pq"] is True,
            plugins=tuple(str(each) for each in value["plugins"]),
            files=tuple(FileFacts.from_json(each) for each in value["files"]),
        )


def read_version(text: str) -> tuple[int, ...]:
    """Read the numbers of an OpenSSL version.

    Args:
        text: Such as "OpenSSL 3.5.9 29 Sep 2026" or "3.5.9".

    Returns:
        Such as (3, 5, 9); empty if there are none.
    """
    match = re.match(r"(?:OpenSSL )?(\d+(?:\.\d+){0,2})", text)
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def read_build_date(libcrypto: bytes) -> str:
    """Read from a libcrypto when it was compiled.

    Args:
        libcrypto: The whole file.

    Returns:
        YYYY-MM-DD, "" if it does not say.
    """
    match = _BUILT.search(libcrypto)
    return _date(match.group(4).decode(), match.group(1).decode(), match.group(2).decode()) if match else ""


def read_manifest(folder: Path) -> VenvManifest:
    """Read the manifest of a graft.

    Args:
        folder: The graft's folder.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    try:
        return VenvManifest.from_json(read_json(folder / MANIFEST, _MAX_MANIFEST_BYTES))
    except (OSError, TypeError) as error:
        raise ValueError(str(error)) from error


def find_active_id(site_packages: Path) -> str:
    """Return the id that an environment's `.pth` names, "" if it has none of ours.

    Args:
        site_packages: Of the environment.
    """
    try:
        text = read_plain(site_packages / PTH, MAX_SWITCH_BYTES).decode()
    except (OSError, ValueError):
        return ""
    match = re.search(rf"\b{PACKAGE_PREFIX}(\w+)", text)
    return match.group(1) if match else ""


def find_packages(site_packages: Path) -> list[Path]:
    """Return every folder of a loader in an environment, the active one and what a killed command left.

    Args:
        site_packages: Of the environment.
    """
    return find_matching(site_packages, f"{PACKAGE_PREFIX}*")


def _date(year: str, month: str, day: str) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.strptime(f"{year} {month} {day}", "%Y %b %d"))
    except ValueError:
        return ""
