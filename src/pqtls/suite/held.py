"""Hold processes of the suite to named groups, and show first that OpenSSL really does it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pqtls.openssl.groups_conf import check_groups, write_groups_conf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pqtls.openssl.interpreter import Interpreter
    from pqtls.openssl.ways import Way

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "LD_LIBRARY_PATH")


def bare_environment() -> dict[str, str]:
    """Return the part of this process's environment that the lab's processes need."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def hold_to_groups(
    groups: str, folder: Path, way: Way, python: Interpreter, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment that holds a process to groups, after a real ClientHello has shown that it does.

    Args:
        groups: The groups, "" for OpenSSL's own list.
        folder: Where to put the configuration; a path where nothing is yet.
        way: The OpenSSL of the process.
        python: Its interpreter.
        base: Environment that it would have had; None for `bare_environment()`.

    Raises:
        UsageError: OpenSSL would silently drop these groups.
    """
    if not groups:
        return {}
    folder.mkdir(mode=0o700)
    environment = way.apply(dict(base) if base is not None else bare_environment())
    environment["OPENSSL_CONF"] = str(write_groups_conf(groups, folder, python, environment))
    check_groups(python.executable, environment, groups)
    return {"OPENSSL_CONF": environment["OPENSSL_CONF"]}
