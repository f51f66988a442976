"""Point a libcrypto's built-in folders at the ones of the OpenSSL that it stands in for.

A wheel's libcrypto looks for CA certificates and openssl.cnf where its builder put them: the default CA store
would be empty and the system's policy ignored. All its paths are constants (OPENSSLDIR and what is derived from
it, ENGINESDIR, MODULESDIR), so they are overwritten in place. Builders' paths such as /host/tmp must not stay
either: whoever can create that folder could load code through its openssl.cnf.

Linkers store a string that is the end of another one only once: in three of four wheels looked at, something
points at the `private` in OPENSSLDIR/private. So a path's last component stays where it was, behind the new path
if there is room (`/etc/ssl/private`, NUL, ..., `private`), else through more slashes (`/etc/ssl////private`).

Sources: OpenSSL include/internal/common.h (X509_CERT_AREA, X509_CERT_DIR, X509_CERT_FILE, X509_PRIVATE_DIR,
CTLOG_FILE), crypto/info.c, crypto/defaults.c.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.library_text import LibraryText, read_library_text

if TYPE_CHECKING:
    from pqtls.openssl.interpreter import Interpreter


class DoesNotFitError(ValueError):
    """A folder's name is longer than the place in the file that it must go to."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where an OpenSSL looks for its files.

    Attributes:
        openssl_dir: OPENSSLDIR, with openssl.cnf.
        cafile: Default CA file.
        capath: Default CA folder.
        engines_dir: ENGINESDIR.
        modules_dir: MODULESDIR, with provider modules such as legacy.so.
    """

    openssl_dir: str
    cafile: str
    capath: str
    engines_dir: str
    modules_dir: str


def folders_of(interpreter: Interpreter) -> Folders:
    """Return where the OpenSSL of an interpreter looks for its files.

    Args:
        interpreter: As inspected, without a graft.

    Returns:
        The CA paths as `ssl` reports them, the others from its libcrypto's constants; where that file is not
        known, OPENSSLDIR is the folder of the CA folder, as OpenSSL has it.
    """
    text = LibraryText("", (), False, "", "", "")
    if interpreter.libcrypto is not None:
        with contextlib.suppress(OSError):
            text = read_library_text(interpreter.libcrypto.read_bytes())
    openssl_dir = text.openssl_dir or str(Path(interpreter.capath).parent)
    return Folders(
        openssl_dir,
        interpreter.cafile,
        interpreter.capath,
        text.engines_dir or f"{openssl_dir}/engines-3",
        text.modules_dir or f"{openssl_dir}/ossl-modules",
    )


def fit_folders(text: LibraryText, wanted: Folders) -> Folders:
    """Return the folders as they can be written into a libcrypto.

    Args:
        text: What the libcrypto's constants are now.
        wanted: What they should be.

    Returns:
        The same; where ENGINESDIR or MODULESDIR is too long for its place, its name below /lib if that is a link to
        /usr/lib, else a folder below OPENSSLDIR stands for it (OPENSSL_MODULES names the real one).

    Raises:
        DoesNotFitError: OPENSSLDIR or a CA path is too long for its place.
    """
    before = text.openssl_dir
    if not before:
        raise DoesNotFitError("its libcrypto does not say which OPENSSLDIR it was built for")
    for new, old in (
        (wanted.openssl_dir, before),
        (wanted.cafile, f"{before}/cert.pem"),
        (wanted.capath, f"{before}/certs"),
    ):
        if len(os.fsencode(new)) > len(os.fsencode(old)):
            raise DoesNotFitError(f"{new} is longer than {old}, which it would replace in libcrypto")
    return replace(
        wanted,
        engines_dir=_fitting(wanted.engines_dir, text.engines_dir, f"{wanted.openssl_dir}/engines-3"),
        modules_dir=_fitting(wanted.modules_dir, text.modules_dir, f"{wanted.openssl_dir}/ossl-modules"),
    )


def _fitting(wanted: str, place: str, instead: str) -> str:
    for candidate in (wanted, _merged_usr(wanted), instead):
        if not place or len(os.fsencode(candidate)) <= len(os.fsencode(place)):
            return candidate
    raise DoesNotFitError(f"neither {wanted} nor {instead} fits in place of {place} in libcrypto")


def _merged_usr(path: str) -> str:
    """Return the shorter name of a folder below /usr/lib, where /lib is a link to it; else the path itself."""
    if path.startswith("/usr/lib/") and Path("/lib").is_symlink() and Path("/lib").resolve() == Path("/usr/lib"):
        return path.removeprefix("/usr")
    return path


def patch_constants(data: bytes, text: LibraryText, folders: Folders) -> bytes:
    """Return a copy of a libcrypto with other folders in it.

    Args:
        data: The whole file.
        text: Its constants, as read from it.
        folders: What `fit_folders` returned for it.

    Returns:
        The changed file, of the same size.

    Raises:
        DoesNotFitError: A constant that must be there was not found, or one does not fit after all.
    """
    mapping = {
        text.openssl_dir: folders.openssl_dir,
        f"{text.openssl_dir}/cert.pem": folders.cafile,
        f"{text.openssl_dir}/certs": folders.capath,
    }
    required = set(mapping)
    if text.engines_dir:
        mapping[text.engines_dir] = folders.engines_dir
    if text.modules_dir:
        mapping[text.modules_dir] = folders.modules_dir
    changed = bytearray(data)
    heads = sorted((re.escape(os.fsencode(head)) for head in mapping), key=len, reverse=True)
    pattern = rb'(?<=\0)((?:[A-Z]+DIR: ")?)((?:' + b"|".join(heads) + rb')(?:/[^\0"]*)?)("?)(?=\0)'
    for match in re.finditer(pattern, data):
        name, old, quote = match.groups()
        new = _replacement(os.fsdecode(old), mapping)
        required.discard(os.fsdecode(old) if not name else "")
        if new is None:
            continue
        place, value = match.group(), name + os.fsencode(new) + quote
        if len(value) > len(place):
            raise DoesNotFitError(f"{new} does not fit in place of {os.fsdecode(old)} in libcrypto")
        filled = value.ljust(len(place), b"\0") if quote else _keeping_the_end(place, value)
        changed[match.start() : match.end()] = filled
    if required:
        raise DoesNotFitError(f"{', '.join(sorted(required))} was not found in libcrypto")
    return bytes(changed)


def _keeping_the_end(place: bytes, value: bytes) -> bytes:
    """Fill a place with a path in such a way that the old path's last component is still found where it was."""
    spare = len(place) - len(value)
    last = place.rpartition(b"/")[2]
    folder, _, new_last = value.rpartition(b"/")
    if spare > len(last):
        return value + b"\0" + place[len(value) + 1 :]
    if new_last == last:
        return folder + b"/" * (spare + 1) + last
    return value.ljust(len(place), b"\0")


def _replacement(old: str, mapping: dict[str, str]) -> str | None:
    """Return what stands for a path: itself if listed, else with the longest listed folder replaced."""
    if old in mapping:
        return mapping[old]
    heads = [head for head in mapping if old.startswith(f"{head}/")]
    return mapping[max(heads, key=len)] + old[len(max(heads, key=len)) :] if heads else None
