"""Just enough of OpenSSL's configuration files to find where `ssl` takes its settings from.

Three names lead there: `openssl_conf` in the default section, `ssl_conf` in the section that it names, and
`system_default` in the section that this one names. Nothing else is interpreted.

Source: OpenSSL's config(5), "GENERAL", "Directives", "SSL Configuration".
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.openssl.paths import is_file, is_folder, read_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT = "default"
_MAX_BYTES = 16 * 1024 * 1024
"""Debian's openssl.cnf has 12 kB."""
_MAX_DEPTH = 10
"""OpenSSL follows includes without a limit; a file that includes itself would never end."""

_CHAIN = ("openssl_conf", "ssl_conf", "system_default")


def find_settings_chain(conf: Path, include_folder: str = "") -> list[str]:
    """Follow the names that lead to the section with the default settings of every TLS context.

    Args:
        conf: A configuration file.
        include_folder: OPENSSL_CONF_INCLUDE, which relative includes are looked up in.

    Returns:
        The names of the sections that `openssl_conf`, `ssl_conf` and `system_default` name; shorter where the
        chain ends early.

    Raises:
        UsageError: The file cannot be read or followed.
    """
    sections: dict[str, dict[str, str]] = {_DEFAULT: {}}
    section = _DEFAULT
    for kind, name, value in _statements(conf, include_folder, _MAX_DEPTH):
        if kind == "section":
            section = name
            sections.setdefault(section, {})
        else:
            target, _, key = name.rpartition("::")
            sections.setdefault(target or section, {})[key] = value
    chain: list[str] = []
    for key in _CHAIN:
        where = chain[-1] if chain else _DEFAULT
        # OpenSSL looks into the default section for what a section does not have.
        named = sections.get(where, {}).get(key) or sections[_DEFAULT].get(key)
        if not named:
            break
        if "$" in named:
            raise UsageError(f"{conf} names a section by a variable ({key} = {named}); pqtls cannot follow that.")
        chain.append(named)
    return chain


def _statements(conf: Path, include_folder: str, depth: int) -> Iterator[tuple[str, str, str]]:
    if depth == 0:
        raise UsageError(f"{conf} is included more than {_MAX_DEPTH} levels deep.")
    try:
        text = read_plain(conf, _MAX_BYTES).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"OpenSSL's configuration {conf} cannot be read: {error.strerror}.") from error
    for line in _lines(text):
        if line.startswith("["):
            yield "section", line[1:].partition("]")[0].strip(), ""
            continue
        include = re.match(r"\.include(?:\s*=\s*|\s+)(.+)", line)
        if include:
            for path in _included(include.group(1).strip(), include_folder):
                yield from _statements(path, include_folder, depth - 1)
            continue
        name, separator, value = line.partition("=")
        if separator and not name.startswith("."):
            yield "value", name.strip(), value.strip().strip("\"'")


def _lines(text: str) -> Iterator[str]:
    """Yield lines without comments, continuations joined, empty ones left out."""
    for line in re.sub(r"\\\r?\n", "", text).splitlines():
        kept = re.split(r"(?<!\\)#", line, maxsplit=1)[0].strip()
        if kept:
            yield kept


def _included(value: str, include_folder: str) -> list[Path]:
    path = Path(os.path.join(include_folder, value.strip("\"'")))  # noqa: PTH118 - an absolute value wins
    if is_folder(path):
        return sorted(entry for entry in path.iterdir() if entry.suffix in (".cnf", ".conf"))
    return [path] if is_file(path) else []
