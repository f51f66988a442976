"""A private `/etc/hosts` and what else decides how names are resolved, in a mount namespace of this process's own.

Nothing is written to a disk: the files are in a tmpfs that is gone with the last process of the namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from pqtls.lab.kernel import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    detach,
    mount,
    unshare,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where the tmpfs is mounted until everything is bound from it. Nothing that is replaced can lie in one of these.
_STAGES = ("/tmp", "/var/tmp", "/mnt", "/srv", "/opt", "/home")  # noqa: S108 - nothing is written to them
# nscd answers through a socket in the file system, which a network namespace does not change.
_NSCD_FOLDERS = ("/var/run/nscd", "/run/nscd")
_ETC = "/etc"


def enter_private_names(hosts: Mapping[str, str]) -> None:
    """Move this process into a mount namespace in which these host names, and localhost, are the only ones.

    Args:
        hosts: Host name to IP address.

    Raises:
        OSError: The kernel refuses.
    """
    unshare(CLONE_NEWNS)
    try:
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
    except OSError as error:
        if error.errno == errno.EINVAL:  # it would show in the namespace that we come from
            raise OSError(errno.EINVAL, "the root folder is not a mount of its own, as in a chroot") from error
        raise
    mask = os.umask(0o022)  # a client may become another user, who has to read them too
    try:
        _replace_name_files(hosts)
    finally:
        os.umask(mask)


def name_files(hosts: Mapping[str, str], nsswitch: str) -> dict[str, str]:
    """Return the files of /etc that decide how names are resolved.

    Args:
        hosts: Host name to IP address.
        nsswitch: The system's nsswitch.conf, or "". Users and groups are looked up as it says; hosts are not.

    Returns:
        Name of the file in /etc to its text.
    """
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost", *(f"{address}\t{name}" for name, address in hosts.items())]
    kept = [line for line in nsswitch.splitlines() if not line.lstrip().startswith("hosts:")]
    return {
        "hosts": "\n".join(lines) + "\n",
        "nsswitch.conf": "\n".join(["hosts: files", *kept]) + "\n",
        "resolv.conf": "# The lab has no name server.\n",
    }


def _replace_name_files(hosts: Mapping[str, str]) -> None:
    stage = next((each for each in _STAGES if os.path.isdir(each)), None)  # noqa: PTH112 - a quick start counts
    if stage is None:
        raise FileNotFoundError(f"none of {', '.join(_STAGES)} is there")
    mount("tmpfs", stage, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4m,mode=755")
    _bind_files(stage, name_files(hosts, _read(f"{_ETC}/nsswitch.conf")))
    _hide_nscd(stage)
    detach(stage)


def _bind_files(stage: str, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        _write(f"{stage}/{name}", text)
    if all(os.path.isfile(f"{_ETC}/{name}") for name in files):  # noqa: PTH113
        for name in files:  # through a symbolic link, as those who read it go
            mount(f"{stage}/{name}", f"{_ETC}/{name}", flags=MS_BIND)
    else:
        _bind_another_etc(stage, files)


def _bind_another_etc(stage: str, files: Mapping[str, str]) -> None:
    """Cover /etc with a folder that has our files beside all that was there.

    A file that is absent, or a link that leads nowhere, cannot be bound over, and the real /etc is not ours to write.
    """
    folder = f"{stage}/etc"
    os.mkdir(folder)  # noqa: PTH102
    for entry in os.scandir(_ETC):
        new = f"{folder}/{entry.name}"
        if entry.name in files:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), new)  # noqa: PTH115, PTH211
            continue
        if entry.is_dir():
            os.mkdir(new)  # noqa: PTH102
        else:
            _write(new, "")
        mount(entry.path, new, flags=MS_BIND | MS_REC)
    for name, text in files.items():
        _write(f"{folder}/{name}", text)
    mount(folder, _ETC, flags=MS_BIND | MS_REC)


def _hide_nscd(stage: str) -> None:
    empty = f"{stage}/nscd"
    os.mkdir(empty)  # noqa: PTH102
    for folder in {os.path.realpath(each) for each in _NSCD_FOLDERS}:
        if os.path.isdir(folder):  # noqa: PTH112
            mount(empty, folder, flags=MS_BIND)


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        return file.read()
    return ""


def _write(path: str, text: str) -> None:
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        file.write(text)
