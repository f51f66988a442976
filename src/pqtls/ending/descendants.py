"""Every process that descends from this one, whatever session, group or environment it has given itself.

A process that is a subreaper inherits what its descendants leave behind: whose parent ends becomes its child. A
child's process ID stays its own until it is waited for, so that no signal here can reach a stranger.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_CHILD_SUBREAPER = 36
_PAUSE_S = 0.002


def become_subreaper() -> None:
    """Inherit every orphan among this process's descendants (Linux 3.4); not passed on to children.

    Raises:
        OSError: The kernel refuses.
    """
    try:
        import ctypes  # which a Python may be built without
    except ImportError as error:
        raise OSError(errno.ENOSYS, str(error)) from error
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def find_children() -> list[int]:
    """Return this process's children, ended ones that were not waited for included; none where /proc is hidden."""
    own = os.getpid()
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{own}/task/{own}/children", "rb") as file:  # noqa: PTH123 - a quick start counts
        return [int(each) for each in file.read().split()]
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - names only
            if name.isdigit() and _parent_of(name) == own:
                found.append(int(name))
    return found


def _parent_of(pid: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        # The name before it may hold spaces and parentheses.
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0


def reap(take: Callable[[int, int], None] | None = None) -> bool:
    """Wait for every child that has ended, without blocking.

    Args:
        take: Is given the process ID and the exit code (negative for a signal) of each.

    Returns:
        Whether there are children left.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not pid:
            return True
        if take is not None:
            take(pid, os.waitstatus_to_exitcode(status))


def end_descendants(patience_s: float) -> bool:
    """Kill every descendant of this process, which is a subreaper, with all that they start meanwhile.

    Args:
        patience_s: Seconds after which those that are stuck in the kernel, or another user's, are left.

    Returns:
        Whether none is left.
    """
    deadline = time.monotonic() + patience_s
    while reap():
        for pid in find_children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True
