"""Rename a library inside its own file: SONAME, NEEDED and the version needs, in place in .dynstr.

The new name must be no longer than the old one; what is left over is filled with NUL. Linkers share string
tails (a symbol `ssl` may point into `libssl`), so every reference into the table is collected first, and a
rename that would change any string but the one meant is refused.

Sources: System V ABI, chapter 5 (dynamic section, hash table); the GNU hash section as glibc's loader reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.openssl.elf_image import (
    DT_GNU_HASH,
    DT_HASH,
    DT_NEEDED,
    DT_RPATH,
    DT_RUNPATH,
    DT_SONAME,
    DT_SYMTAB,
    DT_VERDEF,
    DT_VERDEFNUM,
    ElfError,
    ElfImage,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_SYMBOLS = 1 << 20
"""libcrypto exports about 5,500; it bounds the time for a hostile file."""


def rename_strings(data: bytes, renames: Mapping[str, str]) -> bytes:
    """Return a copy of an ELF file in which whole strings of the dynamic string table are replaced.

    Args:
        data: The whole file.
        renames: Old to new strings; an old one that does not occur is no error.

    Returns:
        The changed file, of the same size.

    Raises:
        ElfError: The file is not sound, a new string is longer than the old one, or something else refers to
            the inside of a string that would change.
    """
    image = ElfImage(data)
    start, end = image.string_table
    references = {start + index for index in string_references(image)}
    changed = bytearray(data)
    for old, new in renames.items():
        if old == new:
            continue
        before, after = old.encode(), new.encode()
        if len(after) > len(before):
            raise ElfError(f"{new} is longer than {old} and does not fit in its place")
        for offset in sorted(references):
            if data[offset : offset + len(before) + 1] != before + b"\0" or offset + len(before) >= end:
                continue
            if references.intersection(range(offset + 1, offset + len(before) + 1)):
                raise ElfError(f"another name shares the end of {old}")
            if offset > start and data[offset - 1] != 0:
                raise ElfError(f"{old} is the end of another name")
            changed[offset : offset + len(before)] = after.ljust(len(before), b"\0")
    return bytes(changed)


def string_references(image: ElfImage) -> set[int]:
    """Return every index into the dynamic string table that the file uses.

    Args:
        image: The file.

    Returns:
        Indexes, relative to the table's start.

    Raises:
        ElfError: A table lies outside the file.
    """
    named = (DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH)
    found = {value for tag, value in image.dynamic if tag in named}
    for file_name, versions in image.version_needs():
        found.update((file_name, *versions))
    found.update(_version_definitions(image))
    found.update(_symbol_names(image))
    return found


def _version_definitions(image: ElfImage) -> set[int]:
    address, count = image.dynamic_value(DT_VERDEF), image.dynamic_value(DT_VERDEFNUM) or 0
    found: set[int] = set()
    if address is None:
        return found
    offset = image.file_offset(address)
    for _ in range(min(count, 65536)):
        _, _, _, auxiliaries, _, first, following = image.unpack("HHHHIII", offset)
        auxiliary = offset + first
        for _ in range(min(auxiliaries, 16)):
            name, step = image.unpack("II", auxiliary)
            found.add(name)
            auxiliary += step
        offset += following
        if following == 0:
            break
    return found


def _symbol_names(image: ElfImage) -> set[int]:
    address = image.dynamic_value(DT_SYMTAB)
    if address is None:
        return set()
    offset, size = image.file_offset(address), 24 if image.bits == 64 else 16
    count = _symbol_count(image)
    if count > _MAX_SYMBOLS:
        raise ElfError("more symbols than any library has")
    return {image.unpack("I", offset + number * size)[0] for number in range(count)}


def _symbol_count(image: ElfImage) -> int:
    address = image.dynamic_value(DT_HASH)
    if address is not None:
        return image.unpack("II", image.file_offset(address))[1]
    address = image.dynamic_value(DT_GNU_HASH)
    if address is None:
        raise ElfError("the file has symbols but no hash table to count them by")
    return _gnu_symbol_count(image, image.file_offset(address))


def _gnu_symbol_count(image: ElfImage, offset: int) -> int:
    """Count through the GNU hash: the last chain starts at the highest bucket and ends at an odd hash."""
    buckets, first, bloom_words, _ = image.unpack("IIII", offset)
    if buckets > _MAX_SYMBOLS or bloom_words > _MAX_SYMBOLS:
        raise ElfError("a hash table larger than any library has")
    table = offset + 16 + bloom_words * image.bits // 8
    last = max(image.unpack(f"{buckets}I", table), default=0)
    if last < first:
        return first
    chains = table + 4 * buckets
    while image.unpack("I", chains + 4 * (last - first))[0] & 1 == 0:
        last += 1
    return last + 1
