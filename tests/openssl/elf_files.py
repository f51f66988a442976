"""Small ELF files made by hand, for kinds that no machine has all of."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def make_elf(
    *,
    bits: int = 64,
    order: str = "<",
    machine: int = 62,
    interpreter: str = "",
    needed: Sequence[str] = (),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
) -> bytes:
    """Return an ELF file: header, program headers, PT_INTERP, .dynstr and the dynamic section, one segment."""
    word = "Q" if bits == 64 else "I"
    header, entry = (64, 56) if bits == 64 else (52, 32)
    strings, dynamic = b"\0", []
    for tag, values in ((1, needed), (14, [soname]), (15, [rpath]), (29, [runpath])):
        for value in filter(None, values):
            dynamic.append((tag, len(strings)))
            strings += value.encode() + b"\0"
    loader = interpreter.encode() + b"\0" if interpreter else b""
    at_loader = header + 3 * entry
    at_strings = at_loader + len(loader)
    at_dynamic = at_strings + len(strings)
    dynamic += [(5, at_strings), (10, len(strings)), (0, 0)]
    table = b"".join(struct.pack(f"{order}{word}{word}", tag, value) for tag, value in dynamic)
    total = at_dynamic + len(table)
    segments = [(1, 0, total), (2, at_dynamic, len(table)), (3 if loader else 0, at_loader, len(loader))]
    headers = b"".join(_segment(bits, order, *segment) for segment in segments)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    fixed = struct.pack(
        f"{order}HHI{word * 3}IHHHHHH", 3, machine, 1, 0, header, 0, 0, header, entry, len(segments), 0, 0, 0
    )
    return ident + fixed + headers + loader + strings + table


def _segment(bits: int, order: str, kind: int, offset: int, size: int) -> bytes:
    if bits == 64:
        return struct.pack(f"{order}IIQQQQQQ", kind, 4, offset, offset, offset, size, size, 1)
    return struct.pack(f"{order}IIIIIIII", kind, offset, offset, offset, size, size, 4, 1)
