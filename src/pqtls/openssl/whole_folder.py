"""A folder that appears under its name only when it is whole: written beside, down to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from pqtls.ending.keeper import temporary_name
from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TRIES = 3


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a new file, down to the disk.

    Args:
        path: Where nothing is yet.
        data: Its contents.
        mode: Its permissions, whatever the umask.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make names in a folder last over a loss of power.

    Args:
        folder: The folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def start_folder(base: Path) -> Path:
    """Make an empty private folder (0700) beside the one that it is to become; gone with the run that made it.

    Args:
        base: The folder that both lie in.
    """
    making = temporary_name(base, ".making-")
    making.mkdir(mode=0o700)
    return making


def move_into_place(making: Path, folder: Path, is_intact: Callable[[], bool]) -> None:
    """Rename a finished folder to its name.

    Another process may have been first: then its folder stands, if it is intact. A damaged one steps aside.

    Args:
        making: The finished folder, on the same file system.
        folder: Its name.
        is_intact: Tells whether what stands under that name is what it should be.

    Raises:
        UsageError: Something else keeps replacing it.
        OSError: It cannot be renamed.
    """
    for _ in range(_TRIES):
        try:
            making.rename(folder)
        except OSError:
            if not folder.exists():
                raise
        else:
            return
        if is_intact():
            return
        aside = temporary_name(folder.parent, ".gone-")
        aside.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)  # over an empty folder of ours: processes that mapped the old files keep them
        shutil.rmtree(aside, ignore_errors=True)
    raise UsageError(f"{folder} keeps being replaced by something else.", "Remove it and try again.")
