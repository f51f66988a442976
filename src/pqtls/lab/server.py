"""The lab's TLS servers, as seen by the process that starts them: one child process, several listeners."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from pqtls.errors import BugError
from pqtls.lab.ca import LabCA
from pqtls.lab.client_environment import lab_aws_variables
from pqtls.lab.extras import missing_library
from pqtls.lab.messages import STATS_REQUEST, ListenerName, ListenerPlan, ListenerStats, ServePlan
from pqtls.lab.names import LAB_NAMES, LOOPBACK, WRONG_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pqtls.lab.ca import ServerCertificate
    from pqtls.lab.messages import TlsVersion
    from pqtls.lab.names import Address

# Start-up takes 0.7 s on a laptop, most of it importing moto; a loaded CI machine may take 50 times that.
_START_TIMEOUT_S = 40.0
_ANSWER_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 5.0
_MAX_ANSWER_BYTES = 65_536
_LOG_TAIL_BYTES = 2_000


class LabServers:
    """Three TLS servers on loopback with AWS behind them, from entering the context to leaving it.

    "good" has a certificate of the lab's authority for all of `LAB_NAMES`; "wrong-name" has one of the same
    authority for a name that nobody asks for; "wrong-ca" has one for the right names of an authority that
    nobody trusts. They are one child process, which also ends if this process is killed.

    Args:
        ca: The authority that clients trust.
        python: The interpreter to run them; pqtls and its extras are installed for it.
        environment: The child's environment, but for AWS's settings. The libraries (LD_LIBRARY_PATH) and the
            groups (OPENSSL_CONF) of the servers are decided there.
        minimum_version: Oldest TLS version they accept, None for OpenSSL's own.
        maximum_version: Newest TLS version they accept, None for OpenSSL's own.
        addresses: Where each listens; None for loopback at any free ports.
        wrap: Turns the child's command line into one that starts it elsewhere, in the same process.
    """

    LISTENERS: ClassVar[tuple[ListenerName, ...]] = ("good", "wrong-name", "wrong-ca")

    def __init__(
        self,
        ca: LabCA,
        python: Path | str,
        environment: Mapping[str, str],
        *,
        minimum_version: TlsVersion | None = None,
        maximum_version: TlsVersion | None = None,
        addresses: Mapping[ListenerName, Address] | None = None,
        wrap: Callable[[list[str]], list[str]] | None = None,
    ) -> None:
        self._ca = ca
        command = [str(python), "-m", "pqtls.lab.serve"]
        self._command = command if wrap is None else wrap(command)
        self._addresses = dict(addresses or {})
        # moto reads AWS's settings as every AWS client does; a user's own have no part in the lab.
        self._environment = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
        self._environment.update(lab_aws_variables(Path(os.devnull)))
        self._versions: tuple[TlsVersion | None, TlsVersion | None] = (minimum_version, maximum_version)
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._ports: dict[ListenerName, int] = {}
        self.openssl_version = ""
        """The servers' OpenSSL, in its own words."""

    def __enter__(self) -> LabServers:
        """Start the child and wait until every listener accepts.

        Raises:
            UsageError: A library is not installed.
            BugError: The child did not start.
        """
        with ExitStack() as stack:
            # The child has read its keys once it accepts; they need not stay on the disk after that.
            with tempfile.TemporaryDirectory(prefix="pqtls-lab-") as folder:
                plan = ServePlan(os.getpid(), self._plan_listeners(Path(folder)))
                self._child = stack.enter_context(_Child(self._command, self._environment))
                answer = self._child.ask(plan.encode(), _START_TIMEOUT_S)
            if "missing" in answer:
                raise missing_library(answer["missing"])
            self._ports = answer["ports"]
            self.openssl_version = answer["openssl"]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def address(self, name: ListenerName) -> Address:
        """Return where a listener accepts.

        Args:
            name: Which one.
        """
        return self._place(name)[0], self._ports[name]

    def stats(self) -> dict[ListenerName, ListenerStats]:
        """Return what each listener has seen so far; safe to call from several threads.

        Raises:
            BugError: The child has ended.
        """
        with self._lock:
            answer = self._child.ask(STATS_REQUEST, _ANSWER_TIMEOUT_S)
        return {name: ListenerStats(**answer[name]) for name in self._ports}

    @property
    def pid(self) -> int:
        """Process ID of the child."""
        return self._child.pid

    def _place(self, name: ListenerName) -> Address:
        return self._addresses.get(name, (LOOPBACK, 0))

    def _plan_listeners(self, folder: Path) -> tuple[ListenerPlan, ...]:
        stranger = LabCA(folder / "stranger", name="pqtls lab, trusted by nobody")
        certificates: dict[ListenerName, ServerCertificate] = {
            "good": self._ca.issue(*LAB_NAMES, folder=folder),
            "wrong-name": self._ca.issue(WRONG_NAME, folder=folder),
            "wrong-ca": stranger.issue(*LAB_NAMES),
        }
        return tuple(
            ListenerPlan(name, str(each.chain), str(each.key), *self._place(name), *self._versions)
            for name, each in certificates.items()
        )


class _Child:
    """The server process and the pipes to it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child; it has no name
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd="/",  # -m puts the working directory on sys.path
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for us to act on; closing its input ends it
                bufsize=0,
            )
        except BaseException:
            self._log.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        try:
            assert process.stdin is not None  # noqa: S101 - a pipe was asked for
            process.stdin.close()
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()  # does nothing to a process that has been waited for
            process.wait()
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            process.stdout.close()
            self._log.close()

    def ask(self, line: bytes, timeout_s: float) -> dict[str, Any]:
        """Send a line and return the answer.

        Raises:
            BugError: No answer.
        """
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            self._process.stdin.write(line)
            answer = self._read_line(timeout_s)
        except BrokenPipeError:
            answer = b""
        if not answer.endswith(b"\n"):
            raise BugError(f"The lab's servers do not answer: {self._last_words()}")
        value: dict[str, Any] = json.loads(answer)
        return value

    def _read_line(self, timeout_s: float) -> bytes:
        """Return one line, or what came of it until the time was over or the stream ended."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - a pipe was asked for
        deadline = time.monotonic() + timeout_s
        data = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not data.endswith(b"\n") and len(data) < _MAX_ANSWER_BYTES:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    break
                chunk = os.read(stdout.fileno(), _MAX_ANSWER_BYTES)
                if not chunk:
                    break
                data += chunk
        return data

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        lines = self._log.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "they said nothing")
