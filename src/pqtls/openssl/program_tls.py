"""Which TLS library a program uses, told before it runs, from its files alone; nothing is executed.

What the dynamic loader would map in the environment that the program will get decides: a libssl.so.3 whose
libcrypto is OpenSSL 3.5 or newer is what a graft puts there, or the system's own. Where several TLS libraries would
be mapped (Debian's libcurl brings GnuTLS with it, through librtmp), the one nearest to the program counts. A program
that maps none may have one inside: the constants in its file tell. This explains and warns; it proves nothing.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pqtls.openssl.aws_program import find_carried_openssl
from pqtls.openssl.carried_library import name_libraries
from pqtls.openssl.command_line import find_interpreter, follow_command
from pqtls.openssl.elf import MAX_FILE_BYTES, ElfError
from pqtls.openssl.known_programs import CLEAN_STARTERS, OWN_GROUPS, find_extensions, find_helper, see_through_wrapper
from pqtls.openssl.library_text import LibraryText, read_library_text
from pqtls.openssl.loader import Mapped, list_mapped
from pqtls.openssl.paths import is_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal[
    "python",
    "openssl",
    "old-openssl",
    "own-groups",
    "privileged",
    "clean-starter",
    "other-library",
    "static",
    "go",
    "frozen",
    "none",
    "unknown",
]

_LIBRARIES = (
    (re.compile(r"libssl\.so\.3"), "OpenSSL 3"),
    (re.compile(r"libssl\.so\.1\.1|libssl\.so\.1\.0\..*|libssl\.so\.10"), "OpenSSL 1"),
    (re.compile(r"libssl\.so\.\d+"), "another OpenSSL"),
    (re.compile(r"libgnutls\.so\.\d+"), "GnuTLS"),
    (re.compile(r"libssl3\.so"), "NSS"),
    (re.compile(r"libmbedtls\.so\.\d+"), "Mbed TLS"),
    (re.compile(r"libwolfssl\.so\.\d+"), "wolfSSL"),
    (re.compile(r"libtls\.so\.\d+"), "LibreSSL"),
    (re.compile(r"libs2n\.so.*"), "s2n-tls"),
    (re.compile(r"libjli\.so"), "Java's own TLS (JSSE)"),
)
"""Sonames to the library's name."""

_FROZEN = b"MEI\x0c\x0b\x0a\x0b\x0e"  # the cookie of PyInstaller's archives
_GO = re.compile(rb"\xff Go buildinf:[\x04\x08][\x02\x03].{16}[\x01-\x7f](go(\d+)\.(\d+)[A-Za-z0-9.+-]*)", re.DOTALL)
_RUSTLS = re.compile(rb"rustls-(\d+\.\d+\.\d+)[/\\]src")
_STATIC_LIBSSL = re.compile(rb"SSL_CTX_new|ssl[/\\]statem|tls_construct_client_hello")
# OpenSSL since 3.3 walks a hash table by functions that programs built for an older one never set (seen with 3.5.9).
_WALKS_TABLES, _SETS_THUNKS = b"\0OPENSSL_LH_doall", b"\0OPENSSL_LH_set_thunks\0"
_OF_A_GRAFT = "A graft does nothing for it, and --groups neither."
_UPDATE = "Update the program itself, or use one that is linked to libssl.so.3, such as curl."


@dataclass(frozen=True, slots=True)
class ProgramTls:
    """Which TLS library a program uses.

    Attributes:
        program: The file that was examined last: past scripts and wrappers.
        kind: "python" (its interpreter is asked, not read), "openssl" (libssl.so.3, 3.5 or newer as it would be
            started), "old-openssl" (libssl.so.3, older), "own-groups", "privileged" (the loader drops
            LD_LIBRARY_PATH), "clean-starter", "other-library", "static", "go", "frozen", "none" (no TLS library:
            what it starts is its own affair), "unknown" (a shell's script, or no program that can be read).
        library: The library in words; "" where there is none or it is not known.
        explanation: Why it is not reached, or what breaks although it is, as a sentence; "" where there is nothing to
            say.
        next_step: What to do; "" where there is nothing to say.
    """

    program: Path
    kind: Kind
    library: str = ""
    explanation: str = ""
    next_step: str = ""

    @property
    def is_reached(self) -> bool | None:
        """The program would use an OpenSSL with ML-KEM; None where that cannot be told here."""
        if self.kind in ("python", "none", "unknown"):
            return None
        return self.kind == "openssl"


def examine_program(command: Sequence[str], environment: Mapping[str, str]) -> ProgramTls:
    """Tell which TLS library a command will use.

    Args:
        command: The program and its arguments.
        environment: The whole environment that it will be started with, a graft's included.

    Returns:
        What its files say.
    """
    search = environment.get("PATH", os.defpath)
    files = follow_command(command, search)
    if not files:
        return ProgramTls(Path(command[0]), "unknown")
    if find_interpreter(command, search) is not None:
        return ProgramTls(files[-1], "python")
    wrapped = see_through_wrapper(files[0])
    program = files[-1] if wrapped == files[0] else wrapped
    if program.name in CLEAN_STARTERS:
        explanation = f"{program.name} starts programs without LD_LIBRARY_PATH: what it starts, no graft reaches."
        return ProgramTls(
            program, "clean-starter", "", explanation, f"Turn it round: {program.name} pqtls run -- COMMAND."
        )
    found = _examine_file(program, environment)
    helper = find_helper(program, environment) if found.kind == "none" else None
    if helper is None:
        return found
    helping = _examine_file(helper, environment, f"{program.name} (through {helper.name})")
    return found if helping.kind in ("none", "unknown") else helping


def _examine_file(program: Path, environment: Mapping[str, str], name: str = "") -> ProgramTls:
    name = name or program.name
    is_privileged = _drops_library_path(program)
    seen = {key: value for key, value in environment.items() if not (is_privileged and key == "LD_LIBRARY_PATH")}
    try:
        mapped = list_mapped(program, seen, find_extensions(program))
    except ElfError:
        return ProgramTls(program, "unknown")
    nearest = _nearest(mapped)
    if nearest is None:
        return _examine_inside(program, name)
    soname, library = nearest
    if library != "OpenSSL 3":
        explanation = f"{name} uses {library} ({soname}), which no newer OpenSSL can stand in for."
        return ProgramTls(program, "other-library", library, explanation, f"{_OF_A_GRAFT} {_UPDATE}")
    return _examine_openssl(program, name, mapped, is_privileged)


def _examine_openssl(program: Path, name: str, mapped: Sequence[Mapped], is_privileged: bool) -> ProgramTls:
    path = next((each.path for each in mapped if each.name == "libcrypto.so.3"), None)
    text = _library_text(path)
    version = text.version if text is not None else ""
    library = version or "libssl.so.3"
    is_new = text is not None and text.version_info >= (3, 5)
    pinned = OWN_GROUPS.get(program.name)
    if pinned is not None:
        explanation = f"{name} sets its own groups (known by its name, measured): a newer OpenSSL changes nothing."
        return ProgramTls(program, "own-groups", library, explanation, pinned)
    if is_new:
        return ProgramTls(program, "openssl", library, *_find_break(program, name, library))
    if is_privileged:
        explanation = f"{name} is set-user-ID or has capabilities: it gets no LD_LIBRARY_PATH and keeps {library}."
        step = "No graft reaches it; it does what the system's own OpenSSL does."
        return ProgramTls(program, "privileged", library, explanation, step)
    where = f"{library} in {path}" if path is not None else "a libssl.so.3 that was not found"
    explanation = f"{name} uses {where}, which has no ML-KEM (OpenSSL 3.5 does)."
    step = "Where it is told to look there (DT_RPATH), LD_LIBRARY_PATH has no effect; else use --openssl graft."
    return ProgramTls(program, "old-openssl", library, explanation, step)


def _find_break(program: Path, name: str, library: str) -> tuple[str, str]:
    """Return what breaks in a program that was built for an older OpenSSL, and what to do; twice "" for nothing."""
    data = _read(program)
    if _WALKS_TABLES not in data or _SETS_THUNKS in data:
        return "", ""
    explanation = (
        f"{name} was built for an OpenSSL before 3.3 and walks its hash tables: {library} crashes where it does."
    )
    return explanation, "For `openssl req -addext` and the like run it without pqtls; its s_client works."


def _examine_inside(program: Path, name: str) -> ProgramTls:
    """Look for a TLS library inside a program that maps none."""
    data = _read(program)
    go = _GO.search(data)
    if go is not None and b"crypto/tls" in data:
        version = go.group(1).decode()
        has_mlkem = (int(go.group(2)), int(go.group(3))) >= (1, 24)
        explanation = f"{name} is a Go program ({version}) with Go's own TLS, which no OpenSSL can stand in for."
        step = "Since Go 1.24 that offers X25519MLKEM768 by itself" + ("." if has_mlkem else ": it needs a rebuild.")
        return ProgramTls(program, "go", f"Go's crypto/tls, {version}", explanation, step)
    if _FROZEN in data:
        carried = find_carried_openssl(program.resolve())
        library = carried or "an OpenSSL that its files do not name"
        explanation = f"{name} is a frozen Python program (PyInstaller) that brings {library} with it."
        step = f"{_OF_A_GRAFT} Install it into a Python instead, as by pip, or update it."
        return ProgramTls(program, "frozen", carried, explanation, step)
    names = _names_inside(data)
    if not names:
        return ProgramTls(program, "none")
    library = ", ".join(names)
    explanation = f"{name} has {library} inside, linked statically, where nothing can replace it."
    match = re.match(r"OpenSSL (\d+)\.(\d+)\.", library)
    is_new = match is not None and (int(match.group(1)), int(match.group(2))) >= (3, 5)
    step = "That one is new enough to have ML-KEM by itself." if is_new else _UPDATE
    return ProgramTls(program, "static", library, explanation, f"{_OF_A_GRAFT} {step}")


def _names_inside(data: bytes) -> list[str]:
    names = name_libraries(data)
    if "AWS-LC" in names:
        names = [name for name in names if name != "BoringSSL"]  # which it descends from, and names
    rustls = _RUSTLS.search(data)
    if rustls is not None:
        return [f"rustls {rustls.group(1).decode()}"]
    # Of these the constants alone are in programs that do no TLS: OpenSSL's in those that only hash.
    has_libssl = _STATIC_LIBSSL.search(data) is not None
    return [name for name in names if has_libssl or not name.startswith(("OpenSSL", "BoringSSL", "AWS-LC"))]


def _nearest(mapped: Sequence[Mapped]) -> tuple[str, str] | None:
    """Return soname and name of the TLS library nearest to the program; libssl.so.3 first among equals."""
    found = [
        (each.distance, order, each.name, library)
        for each in mapped
        for order, (pattern, library) in enumerate(_LIBRARIES)
        if pattern.fullmatch(Path(each.name).name)
    ]
    return min(found)[2:] if found else None


def _library_text(path: Path | None) -> LibraryText | None:
    data = _read(path) if path is not None else b""
    return read_library_text(data) if data else None


def _read(path: Path) -> bytes:
    try:
        if is_file(path) and path.stat().st_size <= MAX_FILE_BYTES:
            return path.read_bytes()
    except OSError:
        pass
    return b""


def _drops_library_path(program: Path) -> bool:
    """Tell whether the loader would run a program in secure-execution mode (ld.so(8)): other ids, capabilities."""
    try:
        status = program.stat()
        if status.st_mode & stat.S_ISUID and status.st_uid != os.getuid():
            return True
        if status.st_mode & stat.S_ISGID and status.st_gid != os.getgid():
            return True
        return os.geteuid() != 0 and sys.platform == "linux" and "security.capability" in os.listxattr(program)
    except OSError:
        return False
