"""Why a system does not let the lab have its namespaces, in plain words, with what its owner can do about it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pqtls.errors import CannotProveError


class NamespacesRefusedError(CannotProveError):
    """The system does not let this user have the lab's namespaces."""


# What was to be done, by the step's name in pqtls.lab.namespace_child.
_STEPS = {
    "user namespace": "make a user namespace",
    "user mapping": "keep its own user in a user namespace",
    "network namespace": "make a network namespace",
    "network settings": "set how TCP behaves in a network namespace",
    "low ports": "open port 443 without root in a network namespace",
    "veth pair": "join two network namespaces by a veth pair",
    "offloads": "turn the offloads of a veth interface off",
    "addresses": "set a network interface up in a namespace",
    "first packet": "send a packet between two network namespaces",
    "packet socket": "capture in a network namespace",
    "mounts": "put its own hosts file over /etc/hosts in a mount namespace",
}

# Settings that refuse, with the value that does, in the order in which they are looked at: their file, the refusing
# value, what it means, and what to do.
_SETTINGS = (
    (
        "sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are for root alone here (kernel.unprivileged_userns_clone is 0)",
        "sudo sysctl kernel.unprivileged_userns_clone=1",
    ),
    *(
        (
            f"sys/user/max_{kind}_namespaces",
            "0",
            f"they are switched off here (user.max_{kind}_namespaces is 0)",
            f"sudo sysctl user.max_{kind}_namespaces=10000",
        )
        for kind in ("user", "net", "mnt")
    ),
    (
        "sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps them from programs without a profile here (kernel.apparmor_restrict_unprivileged_userns is 1)",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)
_SECCOMP_FILTER = "2"


def refusal(step: str, reason: str, proc: Path = Path("/proc")) -> NamespacesRefusedError:
    """Return the error for a step that was refused.

    Args:
        step: The step's name.
        reason: The kernel's answer, in its own words.
        proc: Where the system's settings are read.
    """
    what = f"The system does not let the lab {_STEPS.get(step, step)} ({reason})"
    for file, value, meaning, remedy in _SETTINGS:
        if _read(proc / file) == value:
            return NamespacesRefusedError(f"{what}: {meaning}.", f"Its owner may allow it: {remedy}")
    if _status(proc, "Seccomp") == _SECCOMP_FILTER:
        return NamespacesRefusedError(
            f"{what}: a seccomp filter is in force, as in most containers.",
            "Outside the container, or in one with --security-opt seccomp=unconfined, it may be allowed.",
        )
    return NamespacesRefusedError(f"{what}.", "As root, and outside of a chroot, it may be allowed.")


def _read(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="ascii", errors="replace").strip()
    return ""


def _status(proc: Path, name: str) -> str:
    for line in _read(proc / "self" / "status").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""
