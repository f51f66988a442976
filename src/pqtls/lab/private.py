"""Files for nobody else: keys of the lab's throwaway certificates."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter (mode 0700).

    Args:
        folder: A path where nothing is yet; its parent exists.

    Raises:
        FileExistsError: Something is there already: it might be another's.
    """
    folder.mkdir(mode=0o700)


def write_private_file(path: Path, data: bytes) -> Path:
    """Write a new file that only its owner may read (mode 0600).

    Args:
        path: A path where nothing is yet.
        data: What to write.

    Returns:
        The path.

    Raises:
        FileExistsError: Something is there already; nothing is followed or overwritten.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(data)
    return path
