"""The few Linux calls that Python lacks: namespaces (until 3.12) and mounts (in every version)."""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

_MNT_DETACH = 0x2

# capabilities(7). What it takes to do without a user namespace: network namespaces with their devices, raw
# sockets and low ports, and mounts.
_CAP_NET_BIND_SERVICE = 10
_CAP_NET_ADMIN = 12
_CAP_NET_RAW = 13
_CAP_SYS_ADMIN = 21
_NEEDED = sum(1 << each for each in (_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_SYS_ADMIN))


def unshare(flags: int) -> None:
    """Move this process into new namespaces.

    Args:
        flags: `CLONE_NEW...` of each kind.

    Raises:
        OSError: The kernel refuses.
    """
    if sys.version_info >= (3, 12):
        os.unshare(flags)
    else:
        _call("unshare", flags)


def setns(descriptor: int, flags: int) -> None:
    """Move this process into a namespace.

    Args:
        descriptor: The namespace, opened.
        flags: The `CLONE_NEW...` of its kind.

    Raises:
        OSError: The kernel refuses.
    """
    if sys.version_info >= (3, 12):
        os.setns(descriptor, flags)
    else:
        _call("setns", descriptor, flags)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Attach a file system or a part of one, or change how it is attached.

    Args:
        source: What to mount.
        target: Where.
        kind: File system, such as `tmpfs`.
        flags: `MS_...`.
        options: Options of the file system.

    Raises:
        OSError: The kernel refuses.
    """
    texts = [os.fsencode(each) for each in (source, target, kind, options)]
    _call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def detach(target: str) -> None:
    """Take a mount out of the tree; what was bound from it elsewhere stays.

    Args:
        target: Where it is mounted.

    Raises:
        OSError: The kernel refuses.
    """
    _call("umount2", os.fsencode(target), _MNT_DETACH)


def has_network_and_mount_rights() -> bool:
    """Return whether this process may make network and mount namespaces as it is, as root usually may."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a quick start counts
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16) & _NEEDED == _NEEDED
    return False


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
