"""Folders that nobody else can put a library into.

What lies in a graft's folder is loaded into every program below it, so that whoever can write there, or rename a
folder above it, owns those programs. The rules are those of OpenSSH's StrictModes, for the whole way up.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from pqtls.errors import UsageError

_NEXT_STEP = "Set XDG_CACHE_HOME to a folder that only you can write to."


def cache_folder() -> Path:
    """Return the folder where grafts are kept: $XDG_CACHE_HOME or ~/.cache, then pqtls/graft.

    Raises:
        UsageError: There is no home folder.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if configured.startswith("/"):  # the XDG specification: a relative one is to be ignored
        return Path(configured, "pqtls", "graft")
    try:
        return Path.home() / ".cache" / "pqtls" / "graft"
    except RuntimeError as error:
        raise UsageError("There is no home folder to keep the graft in.", _NEXT_STEP) from error


def make_private_folder(folder: Path) -> Path:
    """Create a folder (0700) if needed, and make sure that nobody else can change what is in it.

    Args:
        folder: The folder.

    Returns:
        The same folder with symbolic links resolved.

    Raises:
        UsageError: It cannot be created, is not ours, or it or a folder above it is writable by others.
    """
    if any(separator in str(folder) for separator in ":;"):
        raise UsageError(f"{folder} has a separator of LD_LIBRARY_PATH in its name.", _NEXT_STEP)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        resolved = folder.resolve(strict=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be created ({error.strerror}).", _NEXT_STEP) from error
    obstacle = find_own_obstacle(resolved, is_strict=False) or find_parent_obstacle(resolved)
    if obstacle:
        raise UsageError(f"{obstacle}, so a graft there would not be safe.", _NEXT_STEP)
    return resolved


def find_own_obstacle(path: Path, *, is_strict: bool = True) -> str:
    """Say why a folder or file of ours cannot be trusted.

    Args:
        path: A folder or file; a symbolic link is not followed.
        is_strict: A folder must also be unreadable for others (0700).

    Returns:
        The reason as the start of a sentence, "" if it can.

    Raises:
        OSError: It is not there.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"{path} is a symbolic link"
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return f"{path} is neither a file nor a folder"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to user id {status.st_uid}, not to {os.geteuid()}"
    forbidden = 0o077 if is_strict and stat.S_ISDIR(status.st_mode) else 0o022
    if status.st_mode & forbidden and not (not is_strict and is_private_group(status)):
        return f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def find_parent_obstacle(folder: Path) -> str:
    """Say why somebody else could replace a folder: one above it is theirs, or they can write to it.

    Args:
        folder: Absolute, symbolic links resolved; it need not exist.

    Returns:
        The reason as the start of a sentence, "" if nobody can.
    """
    trusted = _trusted_owners()
    for parent in folder.parents:
        try:
            status = parent.stat()
        except OSError as error:
            return f"{parent} cannot be examined ({error.strerror})"
        if status.st_uid not in trusted:
            return f"{parent}, above it, belongs to user id {status.st_uid}"
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX and not is_private_group(status):
            return f"{parent}, above it, is writable by other users"
    return ""


def _trusted_owners() -> set[int]:
    """Return who may own the folders above: we, root, and where root is not mapped, whoever stands for it."""
    trusted = {os.geteuid(), 0}
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = [line.split() for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()]
        is_initial = any(line == ["0", "0", "4294967295"] for line in lines)
        if not is_initial:
            # In a user namespace the host's root shows as the overflow id. So does every stranger of the host, which
            # nothing tells apart there: what belongs to one of them is taken for root's.
            trusted.add(int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")))
    return trusted


def is_private_group(status: os.stat_result) -> bool:
    """Tell whether only the group can write beside us, and it has no other member (user private groups).

    Args:
        status: Of the folder.
    """
    if status.st_mode & 0o002:
        return False
    try:
        import grp
        import pwd

        owner = pwd.getpwuid(status.st_uid)
        group = grp.getgrgid(status.st_gid)
    except (ImportError, KeyError):
        return False
    others = set(group.gr_mem) - {owner.pw_name}
    return owner.pw_gid == group.gr_gid and group.gr_name == owner.pw_name and not others
