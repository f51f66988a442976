"""Make a graft: a private folder with a newer libssl.so.3 and libcrypto.so.3 for an unmodified Python.

OpenSSL 3 keeps its ABI, so a newer pair can stand in for the system's. The copies are renamed inside (SONAME,
NEEDED: a program asks for libssl.so.3, a wheel calls it libssl-6a9b88ec.so.3) and pointed at the same CA
certificates and openssl.cnf as before. A folder is written under a temporary name, proven by a handshake and
renamed into place; it is never changed afterwards, since a process that has mapped a file crashes when it changes.

A trap for users: OpenSSH refuses a libcrypto newer than the one it was built with, so `ssh` (git over ssh, rsync,
ansible) fails inside a grafted environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import CannotProveError, UsageError
from pqtls.openssl.build_folders import suggest_build
from pqtls.openssl.constants import DoesNotFitError, Folders, fit_folders, folders_of, patch_constants
from pqtls.openssl.dynstr import rename_strings
from pqtls.openssl.elf import ElfError, parse_elf
from pqtls.openssl.environment import MANIFEST, MAX_MANIFEST_BYTES, SCHEMA, add_graft
from pqtls.openssl.paths import is_folder, read_json
from pqtls.openssl.private_folder import cache_folder as default_cache_folder
from pqtls.openssl.private_folder import find_own_obstacle, make_private_folder
from pqtls.openssl.probe import forget_probes, probe_mlkem
from pqtls.openssl.whole_folder import move_into_place, start_folder, sync_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.openssl.interpreter import Interpreter
    from pqtls.openssl.sources import Source

PATCHER_VERSION = 2
"""Part of a graft's key: raise it when the same source must give another result."""

LIBSSL, LIBCRYPTO = "libssl.so.3", "libcrypto.so.3"

_ABANDONED_S = 3600.0
"""Making a graft takes 0.3 s; a temporary folder this old was left by a process that was killed."""


@dataclass(frozen=True, slots=True)
class Graft:
    """A newer OpenSSL, ready to stand in.

    Attributes:
        folder: Private folder with libssl.so.3, libcrypto.so.3 and manifest.json.
        source: What it was made from.
        folders: Where it looks for its files.
        modules: Folder of the system's provider modules, where it does not fit into the library; else None.
    """

    folder: Path
    source: Source
    folders: Folders
    modules: Path | None

    def apply(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return a new environment in which dynamically linked programs use this OpenSSL.

        Args:
            environment: Any environment.
        """
        return add_graft(environment, self.folder, self.modules)


def make_graft(
    source: Source,
    interpreter: Interpreter,
    cache_folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Graft:
    """Make a graft, or take the one that was made before if it is intact.

    Args:
        source: A usable source.
        interpreter: Who is to use it: its CA paths and openssl.cnf stay in force.
        cache_folder: Where grafts are kept; None for the user's cache.
        environment: What the interpreter is proven with; None for this process's environment.

    Returns:
        The graft, proven by a finished handshake when it was made and by its hashes since.

    Raises:
        CannotProveError: The source changed, its places are too short, or the interpreter does not work with it.
        UsageError: The cache folder is not safe or cannot be written.
    """
    folders, modules = plan_folders(source, interpreter)
    base = make_private_folder(default_cache_folder() if cache_folder is None else cache_folder)
    graft = Graft(base / _key(source, folders, modules), source, folders, modules)
    try:
        if not is_intact(graft.folder):
            _make(graft, interpreter, os.environ if environment is None else environment)
    except OSError as error:
        raise UsageError(
            f"A graft cannot be written to {base}: {error.strerror}.", "Set XDG_CACHE_HOME to another folder."
        ) from error
    return graft


def plan_folders(source: Source, interpreter: Interpreter) -> tuple[Folders, Path | None]:
    """Decide where a graft will look for its files.

    Args:
        source: What it is made from.
        interpreter: Whose CA paths and openssl.cnf stay in force.

    Returns:
        What goes into its libcrypto, and the folder of the system's provider modules where it does not fit there.

    Raises:
        CannotProveError: The source cannot be used, or its places are too short.
    """
    if source.text is None or not source.is_usable:
        raise CannotProveError(f"{source.description} cannot be used: {source.rejected}", "Choose another source.")
    wanted = folders_of(interpreter)
    try:
        folders = fit_folders(source.text, wanted)
    except DoesNotFitError as error:
        raise _misfit(source, str(error), wanted) from error
    is_modules_elsewhere = is_folder(Path(wanted.modules_dir)) and not _is_same_folder(folders, wanted)
    return folders, Path(wanted.modules_dir) if is_modules_elsewhere else None


def _is_same_folder(folders: Folders, wanted: Folders) -> bool:
    """Tell whether both find the system's provider modules in one place."""
    return Path(folders.modules_dir).resolve() == Path(wanted.modules_dir).resolve()


def is_intact(folder: Path) -> bool:
    """Tell whether a graft's files are those that were proven when it was made (all bytes are hashed).

    Args:
        folder: The graft's folder.

    Returns:
        False where there is none, or it is damaged.

    Raises:
        UsageError: It is not ours or open to others: then it must not be used, nor replaced.
    """
    try:
        obstacle = find_own_obstacle(folder)
        if obstacle:
            raise UsageError(f"{obstacle}; a graft there is not safe to load.", f"Look into it, then remove {folder}.")
        for name in (LIBSSL, LIBCRYPTO, MANIFEST):
            obstacle = find_own_obstacle(folder / name)
            if obstacle:
                raise UsageError(f"{obstacle}; it is not safe to load.", f"Look into it, then remove {folder}.")
        manifest = read_json(folder / MANIFEST, MAX_MANIFEST_BYTES)
        hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (LIBSSL, LIBCRYPTO)}
        return bool(manifest["schema"] == SCHEMA and manifest["files"] == hashes and manifest["key"] == folder.name)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _key(source: Source, folders: Folders, modules: Path | None) -> str:
    facts = [PATCHER_VERSION, source.libssl_sha256, source.libcrypto_sha256, asdict(folders), str(modules)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _make(graft: Graft, interpreter: Interpreter, environment: Mapping[str, str]) -> None:
    files = patch_libraries(graft.source, graft.folders)
    base = graft.folder.parent
    _remove_abandoned(base)
    making = start_folder(base)
    try:
        for name, data in files.items():
            write_file(making / name, data)
        _prove(graft, making, interpreter, environment)
        write_file(making / MANIFEST, json.dumps(_manifest(graft, files), indent=1).encode())
        sync_folder(making)
        move_into_place(making, graft.folder, lambda: is_intact(graft.folder))
        sync_folder(base)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    forget_probes()


def patch_libraries(source: Source, folders: Folders) -> dict[str, bytes]:
    """Return the two libraries of a graft.

    Args:
        source: What they are made from; its files must still have the hashes that were read.
        folders: Where they are to look for their files.

    Returns:
        Name (libssl.so.3, libcrypto.so.3) to contents.

    Raises:
        CannotProveError: The source changed, or its places are too short.
    """
    libssl, libcrypto = source.libssl.read_bytes(), source.libcrypto.read_bytes()
    expected = (source.libssl_sha256, source.libcrypto_sha256)
    if (hashlib.sha256(libssl).hexdigest(), hashlib.sha256(libcrypto).hexdigest()) != expected:
        raise CannotProveError(f"The files of {source.description} changed while they were read.", "Try again.")
    assert source.text is not None  # noqa: S101 - plan_folders looked
    try:
        renames = {
            _soname(libssl): LIBSSL,
            _soname(libcrypto): LIBCRYPTO,
        }
        libcrypto = patch_constants(rename_strings(libcrypto, renames), source.text, folders)
        files = {LIBSSL: rename_strings(libssl, renames), LIBCRYPTO: libcrypto}
        _check_names(files)
    except (DoesNotFitError, ElfError) as error:
        raise _misfit(source, str(error), folders) from error
    return files


def _check_names(files: dict[str, bytes]) -> None:
    for name, data in files.items():
        if _soname(data) != name:
            raise ElfError(f"{name} has soname {_soname(data)} after the change")
    if LIBCRYPTO not in (entry.value for entry in parse_elf(files[LIBSSL]).needed):
        raise ElfError(f"libssl does not need {LIBCRYPTO} after the change")


def _soname(data: bytes) -> str:
    soname = parse_elf(data).soname
    return soname.value if soname is not None else ""


def _misfit(source: Source, why: str, wanted: Folders) -> CannotProveError:
    return CannotProveError(f"{source.description} cannot stand in here: {why}.", suggest_build(wanted))


def _prove(graft: Graft, folder: Path, interpreter: Interpreter, environment: Mapping[str, str]) -> None:
    """Let the interpreter shake hands with the new files, under no configuration but their own defaults."""
    grafted = {**add_graft(environment, folder, graft.modules), "OPENSSL_CONF": "/dev/null"}
    probe = probe_mlkem(interpreter.executable, grafted)
    why = ""
    if probe.openssl_version != graft.source.version and not (probe.failure and not probe.openssl_version):
        why = f"{interpreter.executable} still runs {probe.openssl_version}"
    elif not probe.has_mlkem:
        why = probe.explanation.rstrip(".")
    elif not are_same((probe.cafile, interpreter.cafile), (probe.capath, interpreter.capath)):
        why = f"its default CA certificates would be {probe.cafile} and {probe.capath}"
    if why:
        raise CannotProveError(
            f"{graft.source.description} cannot stand in here: {why}.",
            f"Try another source, or with XDG_CACHE_HOME outside {folder.parent} (it may be mounted noexec).",
        )


def are_same(*pairs: tuple[str, str]) -> bool:
    """Tell whether paths are the same but for repeated slashes (see `constants`).

    Args:
        pairs: Of paths.
    """
    return all(re.sub("/+", "/", one) == re.sub("/+", "/", other) for one, other in pairs)


def _manifest(graft: Graft, files: dict[str, bytes]) -> dict[str, object]:
    source = graft.source
    return {
        "schema": SCHEMA,
        "key": graft.folder.name,
        "patcher_version": PATCHER_VERSION,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "source": {
            "origin": source.origin,
            "version": source.version,
            "libssl": {"path": str(source.libssl), "sha256": source.libssl_sha256},
            "libcrypto": {"path": str(source.libcrypto), "sha256": source.libcrypto_sha256},
        },
        "folders": asdict(graft.folders),
        "modules_variable": None if graft.modules is None else str(graft.modules),
    }


def _remove_abandoned(base: Path) -> None:
    for leftover in (*base.glob(".making-*"), *base.glob(".gone-*")):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(leftover, ignore_errors=True)
