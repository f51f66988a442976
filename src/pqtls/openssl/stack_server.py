"""A TLS server with ML-KEM on loopback, for as long as the doctor asks the other stacks what they negotiate.

It is the examined interpreter itself, in the way that works (native or graft), with the default groups of its
OpenSSL: whatever openssl.cnf says is the clients' matter here. It ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from typing import TYPE_CHECKING

from pqtls.errors import PqtlsError
from pqtls.openssl.ways import Way, WayReport, choose_way

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pqtls.openssl.interpreter import Interpreter

_NO_CONF = "/dev/null"
_START_S = 5.0
"""It takes 0.1 s; without it the doctor says what is offered, so it need not be waited for longer."""

# Runs in the examined interpreter: Python 3.6 syntax.
_SCRIPT = r"""
import os, socket, ssl, sys, threading

def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)

def serve(connection):
    try:
        connection.settimeout(8)
        connection = context.wrap_socket(connection, server_side=True)
        connection.recv(1)
    except Exception:
        pass
    finally:
        connection.close()

threading.Thread(target=end_with_parent, daemon=True).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


class StackServer:
    """The server's process. Use it as a context manager: it ends with the block.

    Args:
        way: How the interpreter has ML-KEM; None: there is no server.
        pem: File with the public test certificate and its key.

    Attributes:
        port: Its port on loopback; None if there is no server.
    """

    def __init__(self, way: Way | None, pem: Path) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.port: int | None = None
        if way is None:
            return
        environment = way.apply({**os.environ, "OPENSSL_CONF": _NO_CONF})
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [str(way.interpreter.executable), "-I", "-c", _SCRIPT, str(pem)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self.port = self._read_port()

    def __enter__(self) -> StackServer:
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()

    def _read_port(self) -> int | None:
        assert self._process is not None  # noqa: S101 - it was just started
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        if not select.select([self._process.stdout], [], [], _START_S)[0]:
            return None
        line = self._process.stdout.readline().strip()
        return int(line) if line.isdigit() else None


def find_server_way(interpreter: Interpreter, ways: Sequence[WayReport], extra_sources: Sequence[Path]) -> Way | None:
    """Return a way in which an interpreter can be a server with ML-KEM.

    Args:
        interpreter: As inspected.
        ways: What is possible in this process's environment.
        extra_sources: Folders with OpenSSL that the user named.

    Returns:
        Native or graft, without OPENSSL_CONF if that is what forbids both; None if there is none.
    """
    possible = [report.way for report in ways if report.kind != "system" and report.way is not None]
    if possible:
        return possible[0]
    try:
        return choose_way("auto", interpreter, extra_sources, None, {**os.environ, "OPENSSL_CONF": _NO_CONF})
    except PqtlsError:
        return None
