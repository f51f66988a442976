"""The lab's server process: `python -m pqtls.lab.serve`, started by `pqtls.lab.server` and by nobody else.

A process of its own, so that it can have another OpenSSL, and other groups, than the one that started it. It
takes its plan from standard input and lives no longer than whoever holds the other end.
"""

from __future__ import annotations

import os
import select
import ssl
import sys
import threading
from dataclasses import asdict

from pqtls.lab.listener import TlsListener
from pqtls.lab.messages import STATS_REQUEST, ServePlan, encode_line


def main() -> int:
    """Serve until standard input ends.

    Returns:
        Exit code: 0 after an orderly end, 2 if a library is missing.
    """
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to the log, not between the answers
    plan = ServePlan.decode(sys.stdin.buffer.readline())
    _end_with(plan.parent)
    try:
        from pqtls.lab.aws import LabApplication

        application = LabApplication()
    except ImportError as error:
        os.write(answers, encode_line({"missing": error.name or "moto"}))
        return 2
    listeners = {each.name: TlsListener(each, application) for each in plan.listeners}
    ports = {name: listener.port for name, listener in listeners.items()}
    os.write(answers, encode_line({"ports": ports, "openssl": ssl.OPENSSL_VERSION}))
    for line in sys.stdin.buffer:
        if line == STATS_REQUEST:
            stats: dict[str, object] = {name: asdict(listener.stats) for name, listener in listeners.items()}
            os.write(answers, encode_line(stats))
    return 0


def _end_with(parent: int) -> None:
    """End at once when the parent is gone, even if another of its children still holds our standard input."""
    try:
        descriptor = os.pidfd_open(parent)
    except (AttributeError, OSError):  # not Linux, or older than 5.3: the end of standard input must do
        return
    if os.getppid() != parent:
        os._exit(0)

    def wait() -> None:
        select.select([descriptor], [], [])
        os._exit(0)

    threading.Thread(target=wait, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
