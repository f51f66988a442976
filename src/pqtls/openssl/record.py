"""Does a file still match the RECORD of the wheel that it was installed from?

Source: the PyPA specifications "Recording installed projects" and "Binary distribution format".
"""

from __future__ import annotations

import base64
import csv
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.openssl.paths import find_matching, read_plain

if TYPE_CHECKING:
    from pathlib import Path

_HASHES = ("sha256", "sha384", "sha512")
"""What the specification allows: "sha256 or better"."""


MAX_RECORD_BYTES = 64 * 1024 * 1024
"""The largest wheels list some 10,000 files, in 2 MB."""


@dataclass(frozen=True, slots=True)
class WheelRecord:
    """The RECORD of an installed wheel.

    Attributes:
        distribution: Its name and version, such as "psycopg_binary 3.3.9".
        hashes: Path inside site-packages to "algorithm=urlsafe base64".
    """

    distribution: str
    hashes: dict[str, str]


def find_record(file: Path, site_packages: Path) -> WheelRecord | None:
    """Find the RECORD that lists a file.

    Args:
        file: An installed file below `site_packages`.
        site_packages: Where its wheel was installed.

    Returns:
        The record, or None if no wheel claims the file.
    """
    wanted = file.relative_to(site_packages).as_posix()
    top = wanted.split("/", 1)[0].removesuffix(".libs").lower()
    infos = sorted(find_matching(site_packages, "*.dist-info"), key=lambda info: not info.name.lower().startswith(top))
    for info in infos:
        record = _read(info / "RECORD", wanted)
        if record is not None:
            return WheelRecord(info.name.removesuffix(".dist-info").replace("-", " ", 1), record)
    return None


def matches_record(data: bytes, path: str, record: WheelRecord) -> bool:
    """Tell whether a file is what its wheel installed.

    Args:
        data: The whole file.
        path: Its path inside site-packages, with "/".
        record: The wheel's record.

    Returns:
        True only if the record has a hash for it and the file has that hash.
    """
    algorithm, _, expected = record.hashes.get(path, "").partition("=")
    if algorithm not in _HASHES or not expected:
        return False
    digest = hashlib.new(algorithm, data).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == expected


def _read(path: Path, wanted: str) -> dict[str, str] | None:
    try:
        text = read_plain(path, MAX_RECORD_BYTES).decode()
    except (OSError, ValueError):
        return None
    if wanted not in text:
        return None
    try:
        rows = {row[0]: row[1] for row in csv.reader(text.splitlines()) if len(row) >= 2}
    except csv.Error:
        return None
    return rows if wanted in rows else None
