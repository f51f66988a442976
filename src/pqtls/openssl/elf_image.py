"""The raw tables of an ELF file, every access checked.

Everything is looked up through program headers, as the dynamic loader does; section headers may be stripped or
lie.

Sources: System V ABI, chapters 4 and 5 (ELF header, program header, dynamic section); the GNU symbol versioning
of the Linux Standard Base (DT_VERNEED); `elf(5)`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

_MAX_STRING_BYTES = 4096
"""PATH_MAX; the longest string read here is a search path of a few folders."""

_MAX_ENTRIES = 65536
"""No real file has more program headers, dynamic entries or version needs; it bounds the time for hostile ones."""

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ = 1, 4, 5, 6, 10
DT_SONAME, DT_RPATH, DT_RUNPATH = 14, 15, 29
DT_GNU_HASH, DT_VERDEF, DT_VERDEFNUM = 0x6FFFFEF5, 0x6FFFFFFC, 0x6FFFFFFD
DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF


class ElfError(ValueError):
    """The file is no ELF file, or one that contradicts itself."""


@dataclass(frozen=True, slots=True)
class ElfString:
    """A string that the dynamic section names.

    Attributes:
        value: The text, undecodable bytes as surrogates.
        offset: Where it starts in the file, in bytes.
    """

    value: str
    offset: int


class ElfImage:
    """The raw tables of one ELF file, every access checked.

    Args:
        data: The whole file.

    Attributes:
        segments: Program headers as (type, file offset, address, size in the file in bytes).
        dynamic: Dynamic section as (tag, value), up to DT_NULL.

    Raises:
        ElfError: It is no ELF file, is cut off, or contradicts itself.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        if data[:4] != b"\x7fELF" or len(data) < 20 or data[4] not in (1, 2) or data[5] not in (1, 2):
            raise ElfError("not an ELF file")
        self.bits: Literal[32, 64] = 64 if data[4] == 2 else 32
        self.is_little_endian = data[5] == 1
        self._order = "<" if self.is_little_endian else ">"
        self.machine: int = self.unpack("H", 18)[0]
        self.segments = self._read_segments()
        self.dynamic = self._read_dynamic()
        self._strings = self._string_table()

    def unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        """Unpack integers in the file's byte order.

        Args:
            layout: As for `struct`, without the byte order.
            offset: Where in the file, in bytes.

        Returns:
            The integers.

        Raises:
            ElfError: They lie outside the file.
        """
        if not 0 <= offset <= len(self._data) - struct.calcsize(self._order + layout):
            raise ElfError(f"a table at byte {offset} lies outside the file")
        return struct.unpack_from(self._order + layout, self._data, offset)

    def dynamic_value(self, tag: int) -> int | None:
        """Return the value of the first dynamic entry with this tag, or None."""
        return next((value for found, value in self.dynamic if found == tag), None)

    def dynamic_string(self, tag: int) -> ElfString | None:
        """Return the string that the dynamic entry with this tag names, or None."""
        value = self.dynamic_value(tag)
        return None if value is None else self.string(value)

    def string(self, index: int) -> ElfString:
        """Return the string at an index into the dynamic string table.

        Raises:
            ElfError: It lies outside the table.
        """
        start, end = self._strings
        return self.text_at(start + index, end)

    @property
    def string_table(self) -> tuple[int, int]:
        """Where the dynamic string table starts and ends in the file, in bytes; (0, 0) without one."""
        return self._strings

    def text_at(self, offset: int, end: int) -> ElfString:
        """Return the NUL-terminated text at a file offset.

        Raises:
            ElfError: It does not end before `end` or the end of the file.
        """
        limit = min(end, len(self._data), offset + _MAX_STRING_BYTES)
        stop = self._data.find(b"\0", offset, limit) if 0 <= offset < end else -1
        if stop < 0:
            raise ElfError(f"a string at byte {offset} does not end")
        return ElfString(self._data[offset:stop].decode("utf-8", "surrogateescape"), offset)

    def file_offset(self, address: int) -> int:
        """Translate a virtual address to a file offset.

        Raises:
            ElfError: No loaded segment has it.
        """
        for kind, offset, start, size in self.segments:
            if kind == PT_LOAD and start <= address < start + size:
                return offset + address - start
        raise ElfError(f"address {address:#x} is in no segment")

    def version_need_names(self) -> list[int]:
        """Return the string indexes of the symbol versions needed (vna_name), in order."""
        return [name for _, names in self.version_needs() for name in names]

    def version_needs(self) -> list[tuple[int, list[int]]]:
        """Return DT_VERNEED as (string index of the file, string indexes of its versions)."""
        address, count = self.dynamic_value(DT_VERNEED), self.dynamic_value(DT_VERNEEDNUM) or 0
        found: list[tuple[int, list[int]]] = []
        if address is None:
            return found
        offset = self.file_offset(address)
        budget = _MAX_ENTRIES
        for _ in range(min(count, _MAX_ENTRIES)):
            _, auxiliaries, file_name, first, following = self.unpack("HHIII", offset)
            names: list[int] = []
            auxiliary = offset + first
            budget -= auxiliaries + 1
            if budget < 0:
                raise ElfError("more symbol versions than any library has")
            for _ in range(auxiliaries):
                _, _, _, name, step = self.unpack("IHHII", auxiliary)
                names.append(name)
                auxiliary += step
            found.append((file_name, names))
            offset += following
            if following == 0:
                break
        return found

    def _read_segments(self) -> list[tuple[int, int, int, int]]:
        wide = self.bits == 64
        table = self.unpack("Q" if wide else "I", 32 if wide else 28)[0]
        entry_size, count = self.unpack("HH", 54 if wide else 42)
        if entry_size < (56 if wide else 32) and count:
            raise ElfError("program headers are too small")
        segments = []
        for number in range(count):
            at = table + number * entry_size
            if wide:
                kind, _, offset, address, _, size = self.unpack("IIQQQQ", at)
            else:
                kind, offset, address, _, size = self.unpack("IIIII", at)
            segments.append((kind, offset, address, size))
        return segments

    def _read_dynamic(self) -> list[tuple[int, int]]:
        layout, step = ("QQ", 16) if self.bits == 64 else ("II", 8)
        entries: list[tuple[int, int]] = []
        for kind, offset, _, size in self.segments:
            if kind != PT_DYNAMIC:
                continue
            for number in range(min(size // step, _MAX_ENTRIES)):
                tag, value = self.unpack(layout, offset + number * step)
                if tag == 0:
                    break
                entries.append((tag, value))
            break
        return entries

    def _string_table(self) -> tuple[int, int]:
        address, size = self.dynamic_value(DT_STRTAB), self.dynamic_value(DT_STRSZ)
        if address is None or size is None:
            return (0, 0)
        start = self.file_offset(address)
        if start + size > len(self._data):
            raise ElfError("the string table lies outside the file")
        return (start, start + size)
