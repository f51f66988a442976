"""Which files the dynamic loader would map for a program, read from ELF headers; nothing is executed.

The order is glibc's: DT_RPATH of the file that asks and of those that led to it, LD_LIBRARY_PATH, DT_RUNPATH,
ld.so.cache, the default folders; a file for another machine is passed over. A library that is there already, by the
name that was asked for or by its soname, is not searched again: that is how a graft reaches a library's libraries.
Not followed: LD_PRELOAD, glibc-hwcaps (variants of the same libraries), and what a program opens by itself.

Source: ld.so(8), "DESCRIPTION"; glibc's elf/dl-load.c (`_dl_map_object`) and sysdeps/generic/dl-cache.h for the
format of ld.so.cache.
"""

from __future__ import annotations

import os
import re
import struct
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.elf import ElfError, ElfFile, read_elf
from pqtls.openssl.paths import is_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MAX_FILES = 512
"""A browser maps some 200 files; more is no program to be told about before it runs."""

_MAX_BYTES = 1024 * 1024 * 1024
"""What is read of all of them together: Debian's largest (libLLVM, libwebkit) have 100 MB each."""

_MAX_CACHE_BYTES = 64 * 1024 * 1024
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_ORIGIN = re.compile(r"\$ORIGIN\b|\$\{ORIGIN\}")
_LIB = re.compile(r"\$LIB\b|\$\{LIB\}")


@dataclass(frozen=True, slots=True)
class Mapped:
    """A file that the loader would map.

    Attributes:
        name: As it was asked for, such as "libssl.so.3"; the path for the program itself.
        path: Where it was found; None where it was not.
        elf: What it says of itself; None where it was not found.
        distance: 0 for the program, 1 for what it asks for, and so on.
    """

    name: str
    path: Path | None
    elf: ElfFile | None
    distance: int


@dataclass(frozen=True, slots=True)
class _Asking:
    """A file whose needs are being met, with the chain of files that led to it."""

    path: Path
    elf: ElfFile
    distance: int
    loader: _Asking | None

    def folders(self, value: str | None) -> list[Path]:
        """Split a search path of this file, with what `$ORIGIN` and `$LIB` stand for."""
        origin = str(self.path.resolve().parent)
        found: list[Path] = []
        for element in (value or "").split(":"):
            here = _ORIGIN.sub(lambda _: origin, element)
            names = ("lib64", "lib", f"lib/{_multiarch(self.elf)}") if _LIB.search(here) else ("",)
            found += [_put_lib(here, name) for name in names if here]
        return found


def _put_lib(folder: str, name: str) -> Path:
    return Path(_LIB.sub(lambda _: name, folder))


def list_mapped(program: Path, environment: Mapping[str, str], opened: Sequence[Path] = ()) -> list[Mapped]:
    """List what the loader would map for a program, nearest first.

    Args:
        program: An ELF file.
        environment: What it would be started with; LD_LIBRARY_PATH in it counts.
        opened: Libraries that it is known to open by itself, such as an interpreter's extension module.

    Returns:
        The program and every library that it, or one of them, needs; those that are not found too.

    Raises:
        ElfError: The program cannot be read or is no ELF file, or there is too much to read.
    """
    walk = _Walk(environment)
    first = _Asking(program, walk.read(program), 0, None)
    waiting = deque([first])
    listed = [Mapped(str(program), program, first.elf, 0)]
    for path in opened:
        try:
            elf = walk.read(path)
        except ElfError:
            continue
        listed.append(Mapped(path.name, path, elf, 1))
        waiting.append(_Asking(path, elf, 1, first))
    known: set[str] = set()
    while waiting:
        asking = waiting.popleft()
        for name in (entry.value for entry in asking.elf.needed):
            if name in known:
                continue
            known.add(name)
            found = walk.find(name, asking)
            listed.append(
                Mapped(name, found.path if found else None, found.elf if found else None, asking.distance + 1)
            )
            if len(listed) > _MAX_FILES:
                raise ElfError(f"{program} needs more than {_MAX_FILES} libraries")
            if found is not None:
                known.update([found.elf.soname.value] if found.elf.soname else [])
                waiting.append(found)
    return listed


class _Walk:
    """The search for one program's libraries, under a budget of bytes.

    Args:
        environment: What the program would be started with.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        value = environment.get("LD_LIBRARY_PATH", "")
        self._named = [Path(element or ".") for element in re.split("[:;]", value)] if value else []
        self._left_bytes = _MAX_BYTES
        self._cache: dict[str, list[Path]] | None = None

    def read(self, path: Path) -> ElfFile:
        """Read a file.

        Raises:
            ElfError: It cannot be read, is no ELF file, or the budget is used up.
        """
        if not is_file(path):  # a FIFO would never end
            raise ElfError(f"{path} is no file")
        try:
            self._left_bytes -= path.stat().st_size
        except OSError as error:
            raise ElfError(f"{path} cannot be read: {error.strerror}") from error
        if self._left_bytes < 0:
            raise ElfError(f"{path} and what was read before it are more than {_MAX_BYTES} bytes")
        return read_elf(path)

    def find(self, name: str, asking: _Asking) -> _Asking | None:
        """Find a library for a file that needs it; None if it is nowhere."""
        for candidate in self._candidates(name, asking):
            if not is_file(candidate):
                continue
            try:
                elf = self.read(candidate)
            except ElfError:
                continue
            if (elf.machine, elf.bits) == (asking.elf.machine, asking.elf.bits):
                return _Asking(candidate, elf, asking.distance + 1, asking)
        return None

    def _candidates(self, name: str, asking: _Asking) -> Iterable[Path]:
        if "/" in name:
            yield from asking.folders(name)
            return
        if asking.elf.runpath is None:
            each: _Asking | None = asking
            while each is not None:
                if each.elf.rpath is not None and each.elf.runpath is None:
                    yield from (folder / name for folder in each.folders(each.elf.rpath.value))
                each = each.loader
        yield from (folder / name for folder in self._named)
        if asking.elf.runpath is not None:
            yield from (folder / name for folder in asking.folders(asking.elf.runpath.value))
        if self._cache is None:
            self._cache = read_loader_cache()
        yield from self._cache.get(name, ())
        yield from (folder / name for folder in _default_folders(asking.elf))


def read_loader_cache(path: Path = Path("/etc/ld.so.cache")) -> dict[str, list[Path]]:
    """Read ld.so.cache: where ldconfig last found each library.

    Args:
        path: The file.

    Returns:
        Soname to its files, for every machine and in the file's order; empty where it is missing or damaged, as
        on musl.
    """
    try:
        if path.stat().st_size > _MAX_CACHE_BYTES or not is_file(path):
            return {}
        data = path.read_bytes()
    except OSError:
        return {}
    start = data.find(_CACHE_MAGIC)  # an older table may stand before it
    if start < 0 or len(data) < start + 48:
        return {}
    count = struct.unpack_from("=I", data, start + len(_CACHE_MAGIC))[0]
    found: dict[str, list[Path]] = {}
    for number in range(min(count, (len(data) - start - 48) // 24)):
        _, key, value = struct.unpack_from("=III", data, start + 48 + 24 * number)
        name, file = (_text(data, start + offset) for offset in (key, value))
        if name and file.startswith("/"):
            found.setdefault(name, []).append(Path(file))
    return found


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + 4096)
    return os.fsdecode(data[offset:end]) if end >= 0 else ""


def _default_folders(elf: ElfFile) -> list[Path]:
    multiarch = _multiarch(elf)
    names = ["lib", "usr/local/lib", "usr/lib"] if elf.libc == "musl" else []
    names += [f"lib/{multiarch}", f"usr/lib/{multiarch}", *(["lib64", "usr/lib64"] if elf.bits == 64 else [])]
    return [Path("/", name) for name in [*names, "lib", "usr/lib"]]


def _multiarch(elf: ElfFile) -> str:
    machine = elf.machine_name.partition(",")[0]
    return {"ppc64": "powerpc64le", "arm": "arm", "riscv": "riscv64", "loongarch": "loongarch64"}.get(
        machine, machine
    ) + ("-linux-gnueabihf" if machine == "arm" else "-linux-gnu")
