"""What a lab could leave behind if it and its keeper were killed at the same moment, and how it is found again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

PREFIX = "pqtls-lab-path-"
"""First letters of the private folders' names."""

FOLDER_VARIABLE = "PQTLS_LAB_FOLDER"
"""In the environment of every program that is started in a lab: its folder."""

_OWNER_FILE = "owner"
_START_FIELD = 19  # of /proc/PID/stat, counted after the program's name


def sign(folder: Path) -> None:
    """Write into a lab's folder whose it is.

    Args:
        folder: The folder.
    """
    (folder / _OWNER_FILE).write_text(_owner_line(os.getpid()), encoding="ascii")


def clean_up() -> tuple[list[Path], list[int]]:
    """Remove folders of labs of this user's that are gone, and end programs that still run for them.

    Returns:
        The folders that were removed, and the processes that were ended.
    """
    places = {Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")}  # noqa: S108 - looked into, not written to
    folders = [each for place in sorted(places) for each in sorted(place.glob(PREFIX + "*")) if _is_forsaken(each)]
    ended = [pid for pid in _processes() if _folder_of(pid) in {str(each) for each in folders}]
    for pid in ended:
        _end(pid, {str(each) for each in folders})
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return folders, ended


def _owner_line(pid: int) -> str:
    return f"{pid} {_started(pid)}"


def _started(pid: int) -> str:
    """Return when a process was started, "" if it is gone: another one may have its number by now."""
    with contextlib.suppress(OSError, IndexError):
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[_START_FIELD]
        )
    return ""


def _is_forsaken(folder: Path) -> bool:
    """Tell whether a folder is ours and its lab is gone; one that is not signed may be being made."""
    with contextlib.suppress(OSError, ValueError):
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return False
        pid, _, started = (folder / _OWNER_FILE).read_text(encoding="ascii").partition(" ")
        return not started or _started(int(pid)) != started
    return False


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]  # noqa: PTH208


def _folder_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = pair.partition(b"=")
            if name == FOLDER_VARIABLE.encode():
                return os.fsdecode(value)
    return ""


def _end(pid: int, folders: set[str]) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if _folder_of(pid) in folders:  # looked at again: the number may be another's. The descriptor is not.
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
