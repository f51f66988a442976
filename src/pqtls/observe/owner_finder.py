"""The process that finds owners (`owner_process`), as seen by the one that captures."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pqtls
from pqtls.errors import CannotProveError
from pqtls.observe.socket_owner import INTERVAL_S, ClientSocket
from pqtls.wire.packets import Endpoint

if TYPE_CHECKING:
    from pqtls.observe.socket_owner import Claim, Owner

_START_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 10.0
# Answers that came before the capture has read the packet; an answer that is let go of leaves an unknown.
MAX_EARLY = 65_536
_IMPORT_ROOT = str(Path(pqtls.__file__).parent.parent)


class OwnerFinder:
    """Runs the process from `start` to `stop`.

    Attributes:
        client_sockets: After `stop`: the TCP connections that the client's processes were seen to hold.
        losses: After `stop`: what could not be seen of the client's processes, as sentences.
    """

    def __init__(self) -> None:
        self.client_sockets: tuple[ClientSocket, ...] = ()
        self.losses: tuple[str, ...] = ()
        self._claims: dict[str, Claim] = {}
        self._early: dict[str, tuple[Owner, int, int]] = {}
        self._rest = b""
        self._end: dict[str, Any] | None = None
        self._has_ended = False

    def start(self, interfaces: list[tuple[str, int]], marker: str | None, interval_s: float = INTERVAL_S) -> None:
        """Start it in the network namespace of the calling thread, and wait until it sees everything.

        Args:
            interfaces: Names and numbers of the interfaces.
            marker: See `ClientProcesses`.
            interval_s: See `SocketOwners`.

        Raises:
            CannotProveError: The system does not allow it.
        """
        # Isolated: nothing that steers this Python, or the client's, is for the process that judges them.
        script = (
            f"import sys; sys.path.insert(0, {_IMPORT_ROOT!r}); from pqtls.observe.owner_process import main; main()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", script],
            env={name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us to act on; the end of its input ends it
        )
        settings = {
            "interfaces": interfaces,
            "marker": marker,
            "starter": os.getpid(),
            "interval_s": interval_s,
        }
        self._write(json.dumps(settings))
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        answer = self._process.stdout.readline().decode().strip() if poll.poll(_START_TIMEOUT_S * 1000) else ""
        if answer != "ready":
            self._kill()
            why = answer.removeprefix("refused ") or "the process that finds it did not start."
            raise CannotProveError(f"Whose a connection is cannot be told here: {why}")
        os.set_blocking(self.fileno(), False)

    def fileno(self) -> int:
        """Return the descriptor, to wait for answers."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        return self._process.stdout.fileno()

    def follow(self, pid: int) -> None:
        """Name a process of the client.

        Args:
            pid: Its number.
        """
        self._write(f"follow {pid}")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def register(self, claim: Claim) -> None:
        """Ask for the owner of a connection; what is known of it is filled in now, and as it becomes known.

        Args:
            claim: The connection.
        """
        self._claims[claim.key] = claim
        early = self._early.pop(claim.key, None)
        if early is not None:
            claim.take_answer(*early)

    def forget(self, claim: Claim) -> None:
        """Ask no more for a connection.

        Args:
            claim: The connection.
        """
        self._claims.pop(claim.key, None)

    def take_answers(self) -> bool:
        """Take in what has been found out; return False once nothing more will come."""
        try:
            data = os.read(self.fileno(), 1 << 16)
        except BlockingIOError:
            return True
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            kind, _, rest = line.decode().partition(" ")
            if kind == "end":
                self._end = json.loads(rest)
            elif kind == "claim":
                key, owner, *times = rest.split()
                self._take_answer(key, (cast("Owner", owner), int(times[0]), int(times[1])))
        self._has_ended |= not data
        return bool(data)

    def _take_answer(self, key: str, answer: tuple[Owner, int, int]) -> None:
        claim = self._claims.get(key)
        if claim is not None:
            claim.take_answer(*answer)
        else:
            self._early[key] = answer
            if len(self._early) > MAX_EARLY:
                del self._early[next(iter(self._early))]

    def stop(self) -> None:
        """Let it find what it still can, take that in, and end it."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while not self._has_ended and poll.poll(_END_TIMEOUT_S * 1000):
            self.take_answers()
        self._kill()
        self._sum_up()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _sum_up(self) -> None:
        end = self._end
        if end is None:
            self.losses = ("not visible here: the process that tells whose a connection is ended too early",)
            return
        self.client_sockets = tuple(
            ClientSocket(Endpoint(bytes.fromhex(a), b), Endpoint(bytes.fromhex(c), d), first, last, True)
            for a, b, c, d, first, last in end["sockets"]
        )
        sentences = (
            (end["failure"], f"not visible here: {end['failure']}"),
            (end["unreadable"], "not visible here: the sockets of one of the client's processes may not be looked at"),
            (
                end["foreign_namespace"],
                "not visible here: one of the client's processes uses another network namespace",
            ),
            (end["uses_tls_proxy"], "not visible here: the handshakes inside a connection to an https:// proxy"),
        )
        self.losses = tuple(sentence for applies, sentence in sentences if applies)
