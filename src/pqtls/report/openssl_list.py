"""The list of OpenSSL's that were found, as a table and a sentence of why for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.report.terminal import clean_text

if TYPE_CHECKING:
    from datetime import date

    from pqtls.openssl.listing import Entry, Listing
    from pqtls.report.terminal import Line

_HEAD = ("", "version", "upstream support", "glibc", "machine", "OPENSSLDIR", "as recorded", "from")


def render_listing(found: Listing, today: date) -> list[Line]:
    """Return the table, then why each is taken or not.

    Args:
        found: The listing.
        today: What support is compared with.
    """
    rows = [_HEAD, *(_row(entry, today) for entry in found.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines: list[Line] = []
    for number, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        taken = number > 0 and found.entries[number - 1].is_taken
        lines.append([(clean_text(text), "bold" if number == 0 else "bold green" if taken else "")])
    lines.append([])
    for entry in found.entries:
        style = "bold green" if entry.is_taken else "" if entry.is_usable else "yellow"
        what = "taken" if entry.is_taken else "not taken"
        lines.append([(f"{what:<10}", style), (clean_text(f"{_name(entry)}: {entry.reason}"), "")])
    if found.way is None:
        lines += [[], [("none       ", "bold red"), (clean_text(found.reason), "")]]
        if found.next_step:
            lines.append([("next       ", "dim"), (clean_text(found.next_step), "")])
    return lines


def _name(entry: Entry) -> str:
    if entry.kind == "own":
        return "the interpreter's own"
    return f"{_short(entry.version)} from {entry.origin}"


def _row(entry: Entry, today: date) -> tuple[str, ...]:
    recorded = {True: "yes", False: "no", None: "-"}[entry.is_as_recorded]
    return (
        ("* " if entry.is_taken else "  ") + entry.kind,
        _short(entry.version),
        _support(entry, today),
        entry.glibc_floor or "-",
        entry.machine.partition(",")[0] or "-",
        entry.openssl_dir or "-",
        recorded,
        entry.origin,
    )


def _short(version: str) -> str:
    """Return "3.5.9" for "OpenSSL 3.5.9 29 Sep 2026"."""
    words = version.split()
    return words[1] if len(words) > 1 and words[0] == "OpenSSL" else version or "unknown"


def _support(entry: Entry, today: date) -> str:
    if entry.is_lts is None:
        return "unknown"
    kind = "LTS" if entry.is_lts else "not LTS"
    if not entry.supported_until:
        return f"{kind}, end unknown"
    verb = "ended" if entry.supported_until < today.isoformat() else "until"
    return f"{kind}, {verb} {entry.supported_until}"
