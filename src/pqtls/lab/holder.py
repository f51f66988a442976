"""A process that holds namespaces, as seen by the process that starts it, and the socket between the two."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from pqtls.errors import BugError
from pqtls.lab.leftovers import NamespaceId, end_processes
from pqtls.lab.namespace_refusal import refusal

_IMPORT_ROOT = str(Path(__file__).parent.parent.parent)
_ANSWER_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 5.0
_MAX_ANSWER_BYTES = 65_536
_LOG_TAIL_BYTES = 2_000


def isolated_python(module: str, *, has_site: bool = False) -> list[str]:
    """Return how to run a module of this folder apart from the user's settings for Python.

    Args:
        module: Its name within `pqtls.lab`; its `main` takes the arguments and returns the exit code.
        has_site: What can be imported here can be there; else nothing but pqtls and the standard library.
    """
    # The very places that this process imports from, in its order, and nothing found by itself.
    places = [each for each in sys.path if Path(each).is_absolute()] if has_site else []
    path = f"sys.path[:] = {[*places, _IMPORT_ROOT]!r}" if has_site else f"sys.path.append({_IMPORT_ROOT!r})"
    start = f"from pqtls.lab.{module} import main; sys.exit(main(sys.argv[1:]))"
    options = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    return [sys.executable, *options, "-c", f"import sys; {path}; {start}"]


class Holder:
    """The process that holds the namespaces, and the socket to it.

    Args:
        command: Starts it; the process ID of this one is added. It answers on its standard input, line by line,
            first with the namespaces ("descriptors", "networks") or with why there are none ("refused", "reason").
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._control, self._other_end = socket.socketpair()
        self._control.settimeout(_ANSWER_TIMEOUT_S)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end; it has no name
        self._process: subprocess.Popen[bytes] | None = None
        self._descriptors: dict[str, int | None] = {}
        self._networks: frozenset[NamespaceId] = frozenset()

    @property
    def pid(self) -> int:
        """Process ID of the holder."""
        assert self._process  # noqa: S101 - start() came first
        return self._process.pid

    def start(self) -> dict[str, Any]:
        """Start it and wait until the namespaces are there.

        Returns:
            Its first answer.

        Raises:
            NamespacesRefusedError: The system does not allow it.
            BugError: It failed otherwise.
        """
        try:
            self._process = subprocess.Popen(
                [*self._command, str(os.getpid())],
                cwd="/",
                stdin=self._other_end.fileno(),
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for us to act on; closing the socket ends it
            )
        except OSError as error:
            raise refusal("start a process", error.strerror or str(error)) from error
        finally:
            self._other_end.close()
        answer, _ = self.ask(b"")
        if "refused" in answer:
            raise refusal(answer["refused"], answer["reason"])
        self._descriptors = answer["descriptors"]
        self._networks = frozenset((device, inode) for device, inode in answer["networks"].values())
        return answer

    def ask(self, line: bytes) -> tuple[dict[str, Any], list[int]]:
        """Send a line and return the answer, with the descriptors that came with it.

        Args:
            line: The line with its end; nothing to wait for an answer that comes by itself.

        Raises:
            BugError: No answer.
        """
        data = b""
        descriptors: list[int] = []
        with contextlib.suppress(OSError):
            self._control.sendall(line)
            while not data.endswith(b"\n"):
                chunk, received, _, _ = socket.recv_fds(self._control, _MAX_ANSWER_BYTES, 1)
                descriptors += received
                data += chunk
                if not chunk:
                    break
        if not data.endswith(b"\n"):
            raise BugError(f"The holder of the lab's namespaces does not answer: {self._last_words()}")
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        answer: dict[str, Any] = json.loads(data)
        return answer, descriptors

    def paths(self, side: str) -> dict[str, str | None]:
        """Return where the namespaces of one side can be entered.

        Args:
            side: Name of the network namespace.

        Raises:
            BugError: They are gone.
        """
        assert self._process  # noqa: S101 - start() came first
        if self._process.poll() is not None:
            raise BugError(f"The holder of the lab's namespaces has ended: {self._last_words()}")
        folder = f"/proc/{self.pid}/fd"
        user = self._descriptors["user"]
        return {"user": None if user is None else f"{folder}/{user}", "network": f"{folder}/{self._descriptors[side]}"}

    def end(self) -> None:
        """End it, and with it all that runs in the namespaces."""
        self._control.close()
        try:
            if self._process:
                self._wait(self._process)
        finally:
            self._log.close()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()  # does nothing to a process that has been waited for
            if process.wait() != 0 and self._networks:
                end_processes(self._networks)  # which it did not come to

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        lines = self._log.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
