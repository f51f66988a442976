"""Which folders a build must be made for, so that a graft of it can keep an interpreter's paths.

Paths are patched in place in libcrypto (see `constants`), so that the built-in ones must be at least as long as those
that replace them. The interpreter's own OPENSSLDIR does, unless its CA certificates lie elsewhere, or its name cannot
go through a makefile; then any name that is long enough.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.constants import DoesNotFitError, fit_folders
from pqtls.openssl.library_text import LibraryText

if TYPE_CHECKING:
    from pqtls.openssl.constants import Folders

# Each goes through a makefile into a shell and a C string.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._+@~/-]{0,200}")
_USUAL = "/usr/lib/ssl"


def is_plain(path: str) -> bool:
    """Tell whether a folder's name can be built in.

    Args:
        path: The name.
    """
    return _PLAIN_PATH.fullmatch(path) is not None and ".." not in path.split("/")


def library_folder(openssl_dir: str, wanted: Folders) -> str:
    """Return the --libdir of a build, from which ENGINESDIR and MODULESDIR follow.

    Args:
        openssl_dir: Its OPENSSLDIR.
        wanted: The interpreter's folders.

    Returns:
        Where the interpreter has its provider modules, if that is a usual place and a graft then fits; else OPENSSLDIR
        itself.
    """
    modules = Path(wanted.modules_dir)
    usual = str(modules.parent)
    if modules.name == "ossl-modules" and is_plain(usual) and not _find_misfit(openssl_dir, usual, wanted):
        return usual
    return openssl_dir


def find_openssl_dir(wanted: Folders) -> str:
    """Find an OPENSSLDIR with which a build can stand in for an interpreter's OpenSSL.

    Args:
        wanted: The interpreter's folders.

    Returns:
        Its own if that does, else a name that is long enough; "" if none can be built in.
    """
    places = ((wanted.openssl_dir, ""), (wanted.cafile, "/cert.pem"), (wanted.capath, "/certs"))
    needed = max(len(os.fsencode(path)) - len(rest) for path, rest in places)
    base = wanted.openssl_dir if is_plain(wanted.openssl_dir) else _USUAL
    found = base.ljust(needed, "x")
    return found if is_plain(found) and not find_misfit(found, wanted) else ""


def find_misfit(openssl_dir: str, wanted: Folders) -> str:
    """Say why a build for an OPENSSLDIR could not stand in for an interpreter's OpenSSL; "" if it could.

    Args:
        openssl_dir: Of the build.
        wanted: The interpreter's folders.
    """
    return _find_misfit(openssl_dir, library_folder(openssl_dir, wanted), wanted)


def suggest_build(wanted: Folders) -> str:
    """Say which command makes an OpenSSL that fits an interpreter.

    Args:
        wanted: The interpreter's folders.
    """
    openssl_dir = find_openssl_dir(wanted)
    if not openssl_dir:
        return "No build can have paths of that length: use a Python whose OpenSSL lies in a shorter path."
    return f"One that fits: pqtls openssl build --source TARBALL --openssldir {openssl_dir}"


def _find_misfit(openssl_dir: str, libdir: str, wanted: Folders) -> str:
    built = LibraryText("", (), False, openssl_dir, f"{libdir}/engines-3", f"{libdir}/ossl-modules")
    try:
        fit_folders(built, wanted)
    except DoesNotFitError as error:
        return str(error)
    return ""
