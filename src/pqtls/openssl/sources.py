"""Where a newer OpenSSL can be taken from: installed wheels, builds of `pqtls openssl build`, a folder that is named.

pqtls redistributes no OpenSSL. Several wheels bring a current libssl and libcrypto of their own
(psycopg-binary, psycopg2-binary, pygit2, mysql-connector-python); their files stand in once they are proven to
be what the wheel installed, and to fit the interpreter. Nothing is loaded here: all is read from the files.

Order: a named folder, then long-term support (3.5, until 2030-04-08), then the newer version; of the same version, a
build before a wheel. Versions with short support (3.6) come after any 3.5: a graft that falls out of support unnoticed
is worse than one that is a feature behind.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pqtls.openssl.builds import Build, find_builds
from pqtls.openssl.constants import DoesNotFitError, fit_folders, folders_of
from pqtls.openssl.elf import ElfError, ElfFile, parse_elf
from pqtls.openssl.library_text import LibraryText, read_library_text
from pqtls.openssl.paths import exists, find_matching, is_file, is_folder
from pqtls.openssl.record import WheelRecord, find_record, matches_record
from pqtls.openssl.releases import LTS, SUPPORT_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pqtls.openssl.interpreter import Interpreter

SOURCE_VARIABLE = "PQTLS_OPENSSL_SOURCE"

SourceKind = Literal["folder", "build", "wheel"]

_OLDEST = (3, 5)
"""The first version with ML-KEM."""


@dataclass(frozen=True, slots=True)
class Source:
    """One pair of libssl and libcrypto, taken or rejected.

    Attributes:
        origin: Where it comes from: "psycopg_binary 3.3.9" or the folder that was named.
        libssl: The file.
        libcrypto: The file.
        version: Such as "OpenSSL 3.5.9 29 Sep 2026"; "" if it could not be read.
        version_info: Such as (3, 5, 9); empty if it could not be read.
        text: The constants of its libcrypto, None if it could not be read.
        glibc_floor: The oldest glibc that it runs on; empty on musl.
        libssl_sha256: Hash of the file, in hex; "" if it was rejected before it was read.
        libcrypto_sha256: The same of libcrypto.
        is_named: The user named its folder.
        rejected: Why it cannot be used, as a sentence; "" if it can.
        kind: A folder that was named, a build of pqtls, or an installed wheel.
        machine: What its libcrypto is built for, such as "x86_64, 64-bit"; "" if it could not be read.
        is_as_recorded: Its files are what the RECORD of its wheel, or pqtls at the end of its build, says; None for
            a folder, where nothing is recorded.
        is_misfit: What speaks against it is the length of its places for the interpreter's paths.
    """

    origin: str
    libssl: Path
    libcrypto: Path
    version: str = ""
    version_info: tuple[int, ...] = ()
    text: LibraryText | None = None
    glibc_floor: tuple[int, ...] = ()
    libssl_sha256: str = ""
    libcrypto_sha256: str = ""
    is_named: bool = False
    rejected: str = ""
    kind: SourceKind = "wheel"
    machine: str = ""
    is_as_recorded: bool | None = None
    is_misfit: bool = False

    @property
    def is_usable(self) -> bool:
        """Nothing speaks against it."""
        return not self.rejected

    @property
    def is_lts(self) -> bool:
        """It belongs to a long-term support release."""
        return self.version_info[:2] in LTS

    @property
    def supported_until(self) -> str:
        """When its release's support ends, as YYYY-MM-DD; "" where `releases` does not know."""
        return SUPPORT_ENDS.get((self.version_info[0], self.version_info[1]), "") if self.version_info else ""

    @property
    def description(self) -> str:
        """Version and origin: "OpenSSL 3.5.9 29 Sep 2026 from psycopg_binary 3.3.9"."""
        return f"{self.version or 'OpenSSL of unknown version'} from {self.origin}"


def find_sources(interpreter: Interpreter, extra_paths: Sequence[Path] = ()) -> list[Source]:
    """Find OpenSSL 3.5 or newer for an interpreter.

    Args:
        interpreter: Who is to use it; its own wheels are looked at first, then pqtls's.
        extra_paths: Folders that the user named; `PQTLS_OPENSSL_SOURCE` adds one.

    Returns:
        Usable sources, best first, then the rejected ones with their reasons.
    """
    found: list[Source] = []
    variable = os.environ.get(SOURCE_VARIABLE)
    named = [*extra_paths, *([Path(variable)] if variable else [])]
    for folder in dict.fromkeys(named):
        found.append(examine_folder(folder, interpreter))
    found += [_build_source(build, interpreter) for build in find_builds()]
    for site_packages in _site_packages(interpreter):
        for libssl, libcrypto in _installed_pairs(site_packages):
            if libssl not in (source.libssl for source in found):
                found.append(_wheel_source(libssl, libcrypto, site_packages, interpreter))
    return sorted(found, key=_rank)


def _rank(source: Source) -> tuple[bool, bool, bool, tuple[int, ...], bool]:
    newest_first = tuple(-part for part in source.version_info)
    return (not source.is_usable, not source.is_named, not source.is_lts, newest_first, source.kind != "build")


_BEHIND = (
    "",  # a rejected one has its own reason
    "{better} was named, and then nothing else is taken",
    "{better} belongs to a release with long-term support",
    "{better} is newer",
    "{better} was built here for this very purpose",
)
"""Why another source comes first, for each part of the rank."""


def explain_rank(source: Source, better: Source) -> str:
    """Say why another usable source comes before this one.

    Args:
        source: A usable source.
        better: The one that is before it in `find_sources`.

    Returns:
        The first thing in which their ranks differ, as a sentence.
    """
    pairs = zip(_rank(source), _rank(better), _BEHIND, strict=True)
    why = next((text for own, other, text in pairs if own != other and text), "{better} was found first")
    return why.format(better=better.description) + "."


def _site_packages(interpreter: Interpreter) -> list[Path]:
    own = [Path(entry) for entry in sys.path if entry.endswith("-packages")]
    return [path for path in dict.fromkeys((*interpreter.site_packages, *own)) if is_folder(path)]


def _installed_pairs(site_packages: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the libssl and libcrypto that wheels installed: `NAME.libs` of auditwheel, and mysql's own folder."""
    for folder in (*find_matching(site_packages, "*.libs"), site_packages / "mysql" / "vendor"):
        yield from _pairs(folder)


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    libssl = [path for path in find_matching(folder, "libssl*.so*") if is_file(path)]
    libcrypto = [path for path in find_matching(folder, "libcrypto*.so*") if is_file(path)]
    # A folder of a Linux distribution has libssl.so, a link, beside libssl.so.3.
    exact_libssl = [path for path in libssl if path.name.endswith(".so.3")]
    exact_libcrypto = [path for path in libcrypto if path.name.endswith(".so.3")]
    yield from zip(exact_libssl or libssl, exact_libcrypto or libcrypto, strict=False)


def examine_folder(folder: Path, interpreter: Interpreter) -> Source:
    """Examine the libssl and libcrypto in a folder, or in the lib or lib64 in it.

    Args:
        folder: The folder.
        interpreter: Who is to use them.

    Returns:
        The source, rejected if there is none or it does not fit.
    """
    for candidate in (folder, folder / "lib", folder / "lib64"):
        for libssl, libcrypto in _pairs(candidate):
            return _examine(str(folder), libssl, libcrypto, interpreter)
    missing = folder / "libssl.so.3"
    return Source(
        str(folder), missing, folder / "libcrypto.so.3", is_named=True, kind="folder",
        rejected=f"{folder} has no libssl.so.3 and libcrypto.so.3.",
    )  # fmt: skip


def _build_source(build: Build, interpreter: Interpreter) -> Source:
    if build.obstacle:
        version = f"OpenSSL {build.version}"
        return Source(
            build.description, build.libssl, build.libcrypto, version, rejected=build.obstacle, kind="build",
            is_as_recorded=False,
        )  # fmt: skip
    found = _examine(build.description, build.libssl, build.libcrypto, interpreter, kind="build")
    stated = build.manifest["files"]
    hashes = {build.libssl.name: found.libssl_sha256, build.libcrypto.name: found.libcrypto_sha256}
    is_same = all(stated[name]["sha256"] == sha256 for name, sha256 in hashes.items())
    return replace(found, is_as_recorded=is_same, rejected=found.rejected or ("" if is_same else "It just changed."))


def _wheel_source(libssl: Path, libcrypto: Path, site_packages: Path, interpreter: Interpreter) -> Source:
    record = find_record(libcrypto, site_packages)
    if record is None:
        origin = str(libcrypto.parent)
        return Source(origin, libssl, libcrypto, is_as_recorded=False, rejected=f"No wheel's RECORD lists {libcrypto}.")
    wheel = (site_packages, record)
    return _examine(record.distribution, libssl, libcrypto, interpreter, record=wheel, kind="wheel")


def _examine(
    origin: str,
    libssl: Path,
    libcrypto: Path,
    interpreter: Interpreter,
    *,
    record: tuple[Path, WheelRecord] | None = None,
    kind: SourceKind = "folder",
) -> Source:
    is_named = kind == "folder"
    try:
        files = libssl.read_bytes(), libcrypto.read_bytes()
        elfs = parse_elf(files[0]), parse_elf(files[1])
    except (OSError, ElfError) as error:
        reason = f"{libssl} and {libcrypto.name} cannot be read as ELF libraries: {error}."
        return Source(origin, libssl, libcrypto, is_named=is_named, rejected=reason, kind=kind)
    for path, data in zip((libssl, libcrypto), files, strict=True):
        if record is not None and not matches_record(data, path.relative_to(record[0]).as_posix(), record[1]):
            reason = f"{path} does not match the RECORD of {origin}: it was changed after installation."
            return Source(origin, libssl, libcrypto, rejected=reason, is_as_recorded=False)
    text = read_library_text(files[1])
    floor = max(elf.glibc_floor for elf in elfs)
    unusable = _version_obstacle(text) or _fit_obstacle(elfs, floor, libssl.parent, interpreter)
    misfit = "" if unusable else _folders_obstacle(text, interpreter)
    return Source(
        origin=origin,
        libssl=libssl,
        libcrypto=libcrypto,
        version=text.version,
        version_info=text.version_info,
        text=text,
        glibc_floor=floor,
        libssl_sha256=hashlib.sha256(files[0]).hexdigest(),
        libcrypto_sha256=hashlib.sha256(files[1]).hexdigest(),
        is_named=is_named,
        rejected=unusable or misfit,
        kind=kind,
        machine=elfs[1].machine_name,
        is_as_recorded=None if record is None else True,
        is_misfit=bool(misfit),
    )


def _version_obstacle(text: LibraryText) -> str:
    if not text.version_info:
        return "Its libcrypto does not say which OpenSSL it is."
    if text.version_info[:2] < _OLDEST:
        return f"{text.version} has no ML-KEM: 3.5 is the first version with it."
    if text.version_info[0] != 3:
        return f"{text.version} has another ABI than libssl.so.3."
    return f"{text.version} is no release." if text.is_prerelease else ""


def _fit_obstacle(elfs: tuple[ElfFile, ElfFile], floor: tuple[int, ...], folder: Path, interpreter: Interpreter) -> str:
    own = interpreter.elf
    if own is None:
        return "The interpreter is no ELF program."
    for elf in elfs:
        if (elf.machine, elf.bits, elf.is_little_endian) != (own.machine, own.bits, own.is_little_endian):
            return f"It is built for {elf.machine_name}, the interpreter for {own.machine_name}."
        if elf.libc is not None and own.libc is not None and elf.libc != own.libc:
            return f"It is built for {elf.libc}, the interpreter for {own.libc}."
        if elf.soname is None or not elf.soname.value.endswith(".so.3"):
            return f"Its soname is {elf.soname.value if elf.soname else 'missing'}, not one of OpenSSL 3."
    if interpreter.glibc and floor > interpreter.glibc:
        return f"It needs glibc {_dotted(floor)}, this machine has {_dotted(interpreter.glibc)}."
    private = {
        entry.value
        for elf in elfs
        for entry in elf.needed
        if not entry.value.startswith("libcrypto") and exists(folder / entry.value) and "-" in entry.value
    }
    return f"It needs {', '.join(sorted(private))} out of its own wheel." if private else ""


def _folders_obstacle(text: LibraryText, interpreter: Interpreter) -> str:
    """Say whether the interpreter's CA paths and openssl.cnf do not fit into it: then the next source may do."""
    try:
        fit_folders(text, folders_of(interpreter))
    except DoesNotFitError as error:
        return f"It cannot keep the interpreter's CA certificates and openssl.cnf: {error}."
    return ""


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
