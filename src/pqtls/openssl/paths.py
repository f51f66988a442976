"""Is something there? `pathlib`'s own questions raise where a folder above may not be searched (before 3.14)."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path


def is_file(path: Path) -> bool:
    """Tell whether a path is a file that we can see; False where we may not look."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder that we can see; False where we may not look."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: Path) -> bool:
    """Tell whether a path leads to anything that we can see; False where we may not look."""
    return os.path.exists(path)  # noqa: PTH110


def find_matching(folder: Path, pattern: str) -> list[Path]:
    """Return what is directly in a folder and matches a shell pattern, sorted; [] where we may not look.

    Args:
        folder: The folder.
        pattern: Such as "libssl*.so*".
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    return [folder / name for name in fnmatch.filter(names, pattern)]
