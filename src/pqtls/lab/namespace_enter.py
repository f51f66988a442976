"""Enter the lab's namespaces and become another program; `pqtls.lab.namespace` writes the command lines for it.

The process stays the one that was started: its number, group,
descriptors, environment and working directory are the program's. Without a program it tries the set-up and ends.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from contextlib import ExitStack

from pqtls.lab.kernel import CLONE_NEWNET, CLONE_NEWUSER, setns
from pqtls.lab.mounts import enter_private_names

EXIT_NOT_ENTERED = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


def main(arguments: list[str]) -> int:
    """Enter, and become the program.

    Args:
        arguments: What to enter, as JSON: "user" (a path or null), "network" (a path) and "hosts" (an object, or
            null to leave names alone). Then the program with its arguments, or nothing.

    Returns:
        Only without the program: 0 if none was asked for, 125 if the namespaces cannot be entered, 126 or 127 if
        the program cannot be started, as a shell has it.
    """
    spec = json.loads(arguments[0])
    environment = _own_environment()
    try:
        _enter(spec)
    except OSError as error:
        print(f"pqtls: the lab's namespaces cannot be entered: {error.strerror or error}.", file=sys.stderr)  # noqa: T201
        return EXIT_NOT_ENTERED
    if not arguments[1:]:
        return 0
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and the program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(arguments[1], arguments[1:], environment)  # noqa: S606 - the point of this program
    except OSError as error:
        print(f"pqtls: {arguments[1]} cannot be started: {error.strerror or error}.", file=sys.stderr)  # noqa: T201
        return EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE


def _enter(spec: dict[str, object]) -> None:
    user, network, hosts = spec["user"], str(spec["network"]), spec["hosts"]
    with ExitStack() as stack:

        def open_namespace(path: str) -> int:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        network_descriptor = open_namespace(network)
        if user:
            setns(open_namespace(str(user)), CLONE_NEWUSER)
        setns(network_descriptor, CLONE_NEWNET)
        # The holder takes this path away before it ends what is left in the namespaces. While it is there, that is
        # still to come and finds us; once it has gone, or is another file of the same number, we might be missed.
        if not os.path.samestat(os.stat(network), os.fstat(network_descriptor)):  # noqa: PTH116
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if isinstance(hosts, dict):
        enter_private_names(hosts)


def _own_environment() -> dict[bytes, bytes]:
    """Return the environment as it was given: Python adds an LC_CTYPE to its own where the locale is C."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - a quick start counts
        pairs = (each.partition(b"=") for each in file.read().split(b"\0"))
    return {name: value for name, equals, value in pairs if equals}
