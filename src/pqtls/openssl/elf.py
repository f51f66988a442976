"""Just enough of ELF to know what a program or library links to, without running it.

Reads the class, byte order, machine, PT_INTERP and the dynamic section of 32- and 64-bit files of either byte
order. Files come from wheels and from disks of other people: whatever is wrong with one, the only exception is
`ElfError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pqtls.openssl.elf_image import (
    DT_NEEDED,
    DT_RPATH,
    DT_RUNPATH,
    DT_SONAME,
    PT_INTERP,
    ElfError,
    ElfImage,
    ElfString,
)

__all__ = ["MACHINES", "MAX_FILE_BYTES", "ElfError", "ElfFile", "ElfString", "parse_elf", "read_elf"]

MAX_FILE_BYTES = 512 * 1024 * 1024
"""A libcrypto has 5 to 8 MB, a static Python 30 to 100 MB; more is no program worth reading into memory."""

MACHINES = {
    3: "i386",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
    258: "loongarch",
}
"""e_machine to the name used in messages."""


@dataclass(frozen=True, slots=True)
class ElfFile:
    """What one ELF file says of itself.

    Attributes:
        bits: 64 or 32.
        is_little_endian: Byte order of the file.
        machine: e_machine, see `MACHINES`.
        interpreter: PT_INTERP, the dynamic loader of a program; None in most libraries and static programs.
        soname: DT_SONAME.
        needed: DT_NEEDED, in the file's order.
        rpath: DT_RPATH (searched before LD_LIBRARY_PATH), unsplit.
        runpath: DT_RUNPATH (searched after it); a loader ignores DT_RPATH where this exists.
        version_needs: Symbol versions that it needs of others, such as GLIBC_2.17.
    """

    bits: Literal[32, 64]
    is_little_endian: bool
    machine: int
    interpreter: str | None
    soname: ElfString | None
    needed: tuple[ElfString, ...]
    rpath: ElfString | None
    runpath: ElfString | None
    version_needs: tuple[str, ...]

    @property
    def machine_name(self) -> str:
        """The machine in words, with its class: "x86_64, 64-bit"."""
        return f"{MACHINES.get(self.machine, f'machine {self.machine}')}, {self.bits}-bit"

    @property
    def libc(self) -> Literal["glibc", "musl"] | None:
        """The C library, told by the dynamic loader or by what a library needs; None if neither tells."""
        loader = Path(self.interpreter).name if self.interpreter else ""
        names = [loader, *(entry.value for entry in self.needed)]
        if any(name.startswith(("ld-musl", "libc.musl")) or name == "libc.so" for name in names):
            return "musl"
        if any(name.startswith(("ld-linux", "ld64.so")) or name in ("libc.so.6", "ld.so.1") for name in names):
            return "glibc"
        return None

    @property
    def glibc_floor(self) -> tuple[int, ...]:
        """The oldest glibc that it runs on, such as (2, 17); empty if it needs no versioned symbol of it."""
        versions = [name[6:].split(".") for name in self.version_needs if name.startswith("GLIBC_")]
        return max((tuple(int(part) for part in parts) for parts in versions if _are_numbers(parts)), default=())


def _are_numbers(parts: list[str]) -> bool:
    return all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts)


def read_elf(path: Path) -> ElfFile:
    """Read an ELF file.

    Args:
        path: The file.

    Returns:
        What it says of itself.

    Raises:
        ElfError: It cannot be read, is no ELF file, or contradicts itself.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ElfError(f"{path} is larger than any library")
        return parse_elf(path.read_bytes())
    except OSError as error:
        raise ElfError(f"{path} cannot be read: {error.strerror}") from error


def parse_elf(data: bytes) -> ElfFile:
    """Read an ELF file that is in memory.

    Args:
        data: The whole file.

    Returns:
        What it says of itself.

    Raises:
        ElfError: It is no ELF file, is cut off, or contradicts itself.
    """
    image = ElfImage(data)
    loaders = (image.text_at(at, at + size) for kind, at, _, size in image.segments if kind == PT_INTERP)
    loader = next(loaders, None)
    strings = {tag: image.dynamic_string(tag) for tag in (DT_SONAME, DT_RPATH, DT_RUNPATH)}
    return ElfFile(
        bits=image.bits,
        is_little_endian=image.is_little_endian,
        machine=image.machine,
        interpreter=loader.value if loader else None,
        soname=strings[DT_SONAME],
        needed=tuple(image.string(value) for tag, value in image.dynamic if tag == DT_NEEDED),
        rpath=strings[DT_RPATH],
        runpath=strings[DT_RUNPATH],
        version_needs=tuple(image.string(name).value for name in image.version_need_names()),
    )
