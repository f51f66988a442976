"""What a graft changes in a process's environment, and how it is taken out again.

A graft's folder is recognised by its manifest, so that a process inside `pqtls shell` can be told from one whose
user set LD_LIBRARY_PATH to other ends. Three variables are involved: LD_LIBRARY_PATH; OPENSSL_MODULES, which lets
the newer libcrypto find the system's legacy provider where its path does not fit into the file; and PATH, where
OpenSSH needs wrappers (see `openssh`), whose folder has a manifest of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.paths import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "manifest.json"
SCHEMA = "pqtls/graft/1"
OPENSSH_SCHEMA = "pqtls/openssh/1"
MAX_MANIFEST_BYTES = 64 * 1024
"""One has 2 kB; any folder of LD_LIBRARY_PATH and PATH is looked into."""
_LIBRARY_PATH = "LD_LIBRARY_PATH"
_MODULES = "OPENSSL_MODULES"


def is_graft_folder(folder: Path) -> bool:
    """Tell whether a folder was made by pqtls to graft from (its manifest says so; nothing is verified)."""
    return read_manifest(folder) is not None


def strip_graft(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without pqtls's graft; all else stays as it was.

    Args:
        environment: Any environment.

    Returns:
        A new one. A variable that held nothing but the graft's value is gone.
    """
    stripped = _strip_wrappers(environment)
    kept = []
    for element in environment.get(_LIBRARY_PATH, "").split(":"):
        manifest = read_manifest(Path(element)) if element.startswith("/") else None
        if manifest is None:
            kept.append(element)
        elif stripped.get(_MODULES) == manifest.get("modules_variable"):
            stripped.pop(_MODULES, None)
    if _LIBRARY_PATH not in environment or len(kept) == environment[_LIBRARY_PATH].count(":") + 1:
        return stripped
    stripped[_LIBRARY_PATH] = ":".join(kept)
    if not kept:
        del stripped[_LIBRARY_PATH]
    return stripped


def add_graft(environment: Mapping[str, str], folder: Path, modules: Path | None) -> dict[str, str]:
    """Return an environment in which dynamically linked programs use a graft.

    Args:
        environment: Any environment; another graft of pqtls in it is replaced.
        folder: The graft's folder.
        modules: Folder of the system's provider modules, None if OpenSSL finds it by itself.

    Returns:
        A new environment: the folder first in LD_LIBRARY_PATH, the user's own value after it, without the
        empty elements that would mean the current folder.
    """
    added = strip_graft(environment)
    before = [element for element in added.get(_LIBRARY_PATH, "").split(":") if element]
    added[_LIBRARY_PATH] = ":".join([str(folder), *before])
    if modules is not None:
        added.setdefault(_MODULES, str(modules))
    return added


def read_manifest(folder: Path, schema: str = SCHEMA) -> dict[str, object] | None:
    """Read what pqtls wrote into a folder of its own.

    Args:
        folder: Any folder.
        schema: Which kind of folder is meant.

    Returns:
        The manifest, None if the folder has none of that kind.
    """
    try:
        manifest = read_json(folder / MANIFEST, MAX_MANIFEST_BYTES)
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("schema") != schema:
        return None
    return manifest


def _strip_wrappers(environment: Mapping[str, str]) -> dict[str, str]:
    stripped = dict(environment)
    elements = environment.get("PATH", "").split(":")
    kept = [each for each in elements if not (each.startswith("/") and read_manifest(Path(each), OPENSSH_SCHEMA))]
    if len(kept) != len(elements):
        stripped["PATH"] = ":".join(kept)
    return stripped
