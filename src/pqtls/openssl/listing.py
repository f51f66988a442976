"""Every OpenSSL that is known here for an interpreter, which one is taken and why, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pqtls import __version__
from pqtls.errors import CannotProveError
from pqtls.openssl.elf import ElfError, read_elf
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.library_text import read_library_text
from pqtls.openssl.releases import LTS, SUPPORT_ENDS
from pqtls.openssl.sources import Source, explain_rank, find_sources
from pqtls.openssl.ways import Way, choose_way

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LIST_SCHEMA = "pqtls/openssl-list/1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One OpenSSL, as it is listed.

    Attributes:
        kind: The interpreter's own, a folder that was named, a build of pqtls, or an installed wheel.
        origin: Where it comes from.
        version: Such as "OpenSSL 3.5.9 29 Sep 2026"; "" if unknown.
        is_lts: Its release has long-term support; None if its version is unknown.
        supported_until: When its release's support ends, as YYYY-MM-DD; "" if that is not known.
        glibc_floor: The oldest glibc that it runs on, such as "2.17"; "" on musl or if unknown.
        machine: What it is built for; "" if unknown.
        openssl_dir: OPENSSLDIR that is built in; "" if unknown.
        libssl: The file; "" if it is not a file of its own.
        is_as_recorded: See `Source`; None where nothing is recorded.
        is_usable: It could be taken.
        is_taken: It is what the interpreter gets.
        reason: Why it is taken, or is not; a sentence.
    """

    kind: Literal["own", "folder", "build", "wheel"]
    origin: str
    version: str
    is_lts: bool | None
    supported_until: str
    glibc_floor: str
    machine: str
    openssl_dir: str
    libssl: str
    is_as_recorded: bool | None
    is_usable: bool
    is_taken: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return it as in `pqtls/openssl-list/1`."""
        return {
            "kind": self.kind,
            "origin": self.origin,
            "version": self.version or None,
            "lts": self.is_lts,
            "supported_until": self.supported_until or None,
            "glibc_floor": self.glibc_floor or None,
            "machine": self.machine or None,
            "openssldir": self.openssl_dir or None,
            "libssl": self.libssl or None,
            "as_recorded": self.is_as_recorded,
            "usable": self.is_usable,
            "taken": self.is_taken,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found.

    Attributes:
        interpreter: For whom.
        entries: The interpreter's own OpenSSL, then the sources, best first.
        way: What `--openssl auto` chooses; None if nothing does.
        reason: Why, or why nothing does; a sentence.
        next_step: What to do if nothing does; "" otherwise.
    """

    interpreter: Interpreter
    entries: tuple[Entry, ...]
    way: Way | None
    reason: str
    next_step: str

    def to_json(self) -> dict[str, Any]:
        """Return it as `pqtls/openssl-list/1`."""
        return {
            "schema": LIST_SCHEMA,
            "pqtls": __version__,
            "python": {"executable": _text(self.interpreter.executable), "version": self.interpreter.version},
            "way": None if self.way is None else self.way.kind,
            "reason": self.reason,
            "next_step": self.next_step or None,
            "openssl": [entry.to_json() for entry in self.entries],
        }


def list_openssl(
    interpreter: Interpreter, extra_sources: Sequence[Path] = (), environment: Mapping[str, str] | None = None
) -> Listing:
    """List every OpenSSL for an interpreter, and choose as `--openssl auto` does.

    Args:
        interpreter: As inspected.
        extra_sources: Folders that the user named.
        environment: What processes would be started with; None for this process's environment.

    Returns:
        The listing. As for every other use, the choice is proven by a handshake, on a graft in the user's cache.
    """
    way: Way | None = None
    reason = next_step = ""
    try:
        way = choose_way("auto", interpreter, extra_sources, environment=environment)
        reason = way.reason
    except CannotProveError as error:
        reason, next_step = error.message, error.next_step
    taken = way.graft.source if way is not None and way.graft is not None else None
    entries = [_own_entry(interpreter, way, reason)]
    entries += [_source_entry(source, taken, way, reason) for source in find_sources(interpreter, extra_sources)]
    return Listing(interpreter, tuple(entries), way, reason, next_step)


def _own_entry(interpreter: Interpreter, way: Way | None, reason: str) -> Entry:
    is_native = way is not None and way.kind == "native"
    release = interpreter.openssl_version_info[:2]
    is_openssl = interpreter.openssl_version.startswith("OpenSSL ") and len(release) == 2
    floor, machine, openssl_dir = _read_own(interpreter)
    return Entry(
        kind="own",
        origin=_text(interpreter.executable),
        version=interpreter.openssl_version,
        is_lts=release in LTS if is_openssl else None,
        supported_until=SUPPORT_ENDS.get((release[0], release[1]), "") if is_openssl else "",
        glibc_floor=floor,
        machine=machine,
        openssl_dir=openssl_dir,
        libssl="" if interpreter.libssl is None else _text(interpreter.libssl),
        is_as_recorded=None,
        is_usable=is_native,
        is_taken=is_native,
        reason=reason if is_native or way is None else way.reason.partition(";")[0].rstrip(".") + ".",
    )


def _read_own(interpreter: Interpreter) -> tuple[str, str, str]:
    """Return the glibc floor, machine and OPENSSLDIR of the libraries that the interpreter mapped."""
    if interpreter.libssl is None or interpreter.libcrypto is None:
        machine = "" if interpreter.elf is None else interpreter.elf.machine_name
        return "", machine, ""
    try:
        elfs = read_elf(interpreter.libssl), read_elf(interpreter.libcrypto)
        text = read_library_text(interpreter.libcrypto.read_bytes())
    except (ElfError, OSError):
        return "", "", ""
    return _dotted(max(elf.glibc_floor for elf in elfs)), elfs[1].machine_name, text.openssl_dir


def _source_entry(source: Source, taken: Source | None, way: Way | None, reason: str) -> Entry:
    is_taken = taken is not None and (source.libssl, source.libcrypto) == (taken.libssl, taken.libcrypto)
    if source.rejected:
        why = source.rejected
    elif is_taken:
        why = reason
    elif taken is not None:
        why = explain_rank(source, taken)
    elif way is not None:
        why = "Not needed: the interpreter's own OpenSSL negotiates ML-KEM."
    else:
        why = reason
    return Entry(
        kind=source.kind,
        origin=_text(source.origin),
        version=source.version,
        is_lts=source.is_lts if source.version_info else None,
        supported_until=source.supported_until,
        glibc_floor=_dotted(source.glibc_floor),
        machine=source.machine,
        openssl_dir="" if source.text is None else _text(source.text.openssl_dir),
        libssl=_text(source.libssl),
        is_as_recorded=source.is_as_recorded,
        is_usable=source.is_usable,
        is_taken=is_taken,
        reason=_text(why),
    )


def _text(value: object) -> str:
    """Return a name as text, bytes of a path that are no text replaced: JSON is UTF-8."""
    return str(value).encode("utf-8", "replace").decode()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
