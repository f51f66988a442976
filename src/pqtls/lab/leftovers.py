"""End what still runs in namespaces that are the lab's alone, such as a client's forgotten daemon."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from contextlib import ExitStack
from typing import NamedTuple, TypeAlias

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

    One that ends while it is looked for may have started another that is not found: `end_processes` looks again.

    Args:
        namespaces: Which ones.
    """
    return _look(namespaces).inside


def end_processes(namespaces: frozenset[NamespaceId]) -> list[int]:
    """Kill every other process in these network namespaces, with all that they start meanwhile.

    Args:
        namespaces: Which ones. Nothing may be able to enter them any more.

    Returns:
        Those that could not be ended in three seconds, being stuck in the kernel.
    """
    deadline = time.monotonic() + _PATIENCE_S
    known: frozenset[str] = frozenset()
    while True:
        found = _look(namespaces)
        for pid in found.inside:
            _kill(pid, namespaces)
        # A process can end between the list of /proc and the look at it, and leave a child that is not in the list.
        # Those that were there at the look before were dead or elsewhere then, so that no such child is of them.
        if (not found.inside and found.gone <= known) or time.monotonic() > deadline:
            return found.inside
        known = found.listed
        time.sleep(_PAUSE_S)


class _Look(NamedTuple):
    """What one look at every other process showed: numbers, those of /proc as they stand there.

    Attributes:
        listed: All.
        inside: Those in the namespaces.
        gone: Those that could not be looked at: ended, or another user's and so not in ours.
    """

    listed: frozenset[str]
    inside: list[int]
    gone: frozenset[str]


def _look(namespaces: frozenset[NamespaceId]) -> _Look:
    own = str(os.getpid())
    listed = frozenset(name for name in os.listdir("/proc") if name.isdigit() and name != own)  # noqa: PTH208
    inside, gone = [], set()
    for name in listed:
        try:
            if namespace_id(f"/proc/{name}/ns/net") in namespaces:
                inside.append(int(name))
        except OSError:
            gone.add(name)
    return _Look(listed, inside, frozenset(gone))


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
