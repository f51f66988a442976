"""End what still runs in namespaces that are the lab's alone, such as a client's forgotten daemon."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from contextlib import ExitStack
from typing import TypeAlias

NamespaceId: TypeAlias = tuple[int, int]
"""Device and inode of a namespace, which no other living namespace has."""

_PATIENCE_S = 3.0
_PAUSE_S = 0.005


def namespace_id(path: str | int) -> NamespaceId:
    """Return which namespace a file of /proc, or a descriptor, stands for.

    Args:
        path: Such as `/proc/self/ns/net`.

    Raises:
        OSError: It is not there, or not ours to see.
    """
    status = os.stat(path)  # noqa: PTH116 - it may be a descriptor
    return status.st_dev, status.st_ino


def find_processes(namespaces: frozenset[NamespaceId]) -> list[int]:
    """Return every other process in one of these network namespaces.

    Args:
        namespaces: Which ones.
    """
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):  # gone, a zombie, or another user's, so not in ours
                if namespace_id(f"/proc/{name}/ns/net") in namespaces:
                    found.append(int(name))
    return found


def end_processes(namespaces: frozenset[NamespaceId]) -> list[int]:
    """Kill every other process in these network namespaces, with all that they start meanwhile.

    Args:
        namespaces: Which ones.

    Returns:
        Those that could not be ended in three seconds, being stuck in the kernel.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while found := find_processes(namespaces):
        for pid in found:
            _kill(pid, namespaces)
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_S)
    return found


def _kill(pid: int, namespaces: frozenset[NamespaceId]) -> None:
    with contextlib.suppress(OSError), ExitStack() as stack:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            if error.errno == errno.ENOSYS:  # before Linux 5.3
                os.kill(pid, signal.SIGKILL)
            return
        stack.callback(os.close, descriptor)
        # Looked at again: the number may belong to another process by now. The descriptor can't.
        if namespace_id(f"/proc/{pid}/ns/net") in namespaces:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
