"""The lab's TLS servers, in one child process that ends with its parent."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from pqtls.errors import BugError, CannotProveError
from pqtls.lab.names import AWS_HOSTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.lab.ca import LabCA

START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class ListenerStats:
    """What came to one listener so far.

    Attributes:
        connections: TCP connections accepted.
        handshakes: TLS handshakes completed.
        requests: HTTP requests received.
    """

    connections: int
    handshakes: int
    requests: int


class LabServers:
    """Three TLS servers on loopback: `good`, `wrong-name` and `wrong-ca`. Use it as a context manager.

    Args:
        ca: The lab's authority.
        python: Interpreter that runs them.
        environment: Its whole environment: which OpenSSL (LD_LIBRARY_PATH) and which groups (OPENSSL_CONF).
        max_version: Newest TLS version that they speak, such as "TLSv1_2"; None for OpenSSL's own.
    """

    def __init__(
        self, ca: LabCA, python: str, environment: Mapping[str, str], *, max_version: str | None = None
    ) -> None:
        self._python = python
        self._environment = dict(environment)
        names = (*AWS_HOSTS, "localhost")
        self._config = {
            "listeners": {
                "good": str(ca.issue(names)),
                "wrong-name": str(ca.issue(("wrong-name.example",))),
                "wrong-ca": str(ca.issue(names, is_trusted=False)),
            },
            "max_version": max_version,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._ports: dict[str, int] = {}
        self._lock = threading.Lock()
        self.openssl_version = ""

    def __enter__(self) -> LabServers:
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [self._python, "-m", "pqtls.lab.serve"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
            )
            ready = self._ask(self._config)
            self._ports = {name: int(port) for name, port in ready["ports"].items()}
            self.openssl_version = str(ready["openssl"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is not None:
            process.kill()
            process.communicate()
            self._process = None
        if self._log is not None:
            self._log.close()

    def _ask(self, question: object) -> dict[str, Any]:
        """Send one line to the servers and return the line that they answer."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise BugError("The lab's servers were used before they were started.")
        with self._lock:
            timer = threading.Timer(START_TIMEOUT_S, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = b""
            finally:
                timer.cancel()
        if not answer:
            raise CannotProveError(f"The lab's servers ended early: {self._last_words()}.")
        reply: dict[str, Any] = json.loads(answer)
        return reply

    def _last_words(self) -> str:
        if self._log is None:
            return "no reason given"
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"

    def address(self, listener: str) -> tuple[str, int]:
        """Return where a listener is.

        Args:
            listener: "good", "wrong-name" or "wrong-ca".
        """
        return "127.0.0.1", self._ports[listener]

    def stats(self) -> dict[str, ListenerStats]:
        """Return what came to each listener so far."""
        return {name: ListenerStats(**counts) for name, counts in self._ask("stats").items()}
