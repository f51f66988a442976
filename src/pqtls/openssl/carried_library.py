"""Which TLS library an installed distribution carries, read from its files: for those that cannot be asked.

The names and versions are constants in every build: OpenSSL's "OpenSSL 3.5.9 29 Sep 2026", or the name of another
library. This explains; it never decides whether a stack has ML-KEM.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from pqtls.openssl.elf import ElfError, parse_elf
from pqtls.openssl.paths import read_plain
from pqtls.openssl.record import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from pathlib import Path

_OPENSSL = re.compile(rb"OpenSSL \d+\.\d+\.\d+[a-z]{0,2}(?:-[a-z0-9.+]+)* +\d{1,2} [A-Z][a-z]{2} \d{4}")
_NAMES = {
    b"s2n_connection_new": "s2n-tls",
    b"AWS-LC": "AWS-LC",
    b"BoringSSL": "BoringSSL",
    b"rustls": "rustls",
    b"gnutls_": "GnuTLS",
    b"mbedtls_": "Mbed TLS",
    b"wolfSSL": "wolfSSL",
}
_MAX_BYTES = 128 * 1024 * 1024
"""What is read of one distribution: the largest of them that cannot be asked, grpcio's, has 13 MB."""


def read_carried_library(info: Path, *, only_static: bool = False) -> str:
    """Read from a distribution's shared objects which TLS library is in them.

    Args:
        info: Its `.dist-info` folder; the RECORD in it lists its files.
        only_static: Leave out libraries in files of their own, as libcrypto.so.3 beside it.

    Returns:
        Such as "OpenSSL 3.5.8 25 Aug 2026", "BoringSSL", "s2n-tls, AWS-LC" or "the system's libssl.so.3";
        "" where nothing tells.
    """
    names: list[str] = []
    needed: list[str] = []
    left = _MAX_BYTES
    for path in _shared_objects(info):
        if only_static and path.name.startswith(("libcrypto", "libssl")):
            continue
        try:
            left -= path.stat().st_size
            if left < 0:
                break
            data = path.read_bytes()
        except OSError:
            continue
        names += name_libraries(data)
        needed += _needed_libssl(data)
    if "AWS-LC" in names:
        names = [name for name in names if name != "BoringSSL"]  # which it descends from, and names
    if names:
        return ", ".join(dict.fromkeys(names))
    return f"the system's {needed[0]}" if needed and not only_static else ""


def name_libraries(data: bytes) -> list[str]:
    """Name the TLS libraries whose constants are in a file; nothing says that they are used.

    Args:
        data: The whole file.

    Returns:
        Such as ["OpenSSL 3.0.19 27 Jan 2026"] or ["rustls"].
    """
    match = _OPENSSL.search(data)
    names = [" ".join(match.group().decode().split())] if match else []
    return names + [name for text, name in _NAMES.items() if text in data]


def _shared_objects(info: Path) -> list[Path]:
    try:
        text = read_plain(info / "RECORD", MAX_RECORD_BYTES).decode()
        listed = [row[0] for row in csv.reader(text.splitlines()) if row]
    except (OSError, ValueError, csv.Error):
        return []
    return [info.parent / name for name in sorted(listed) if re.search(r"\.so(\.[0-9a-z.]+)?$", name)]


def _needed_libssl(data: bytes) -> list[str]:
    try:
        return [entry.value for entry in parse_elf(data).needed if re.fullmatch(r"libssl\.so\.[0-9.]+", entry.value)]
    except ElfError:
        return []
