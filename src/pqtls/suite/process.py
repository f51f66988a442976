"""Run one client as a process of its own: bounded in time and output, and gone with all its children after."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import IO

# Kept of what a client prints: enough for its last words, whatever it prints before.
OUTPUT_TAIL_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended.

    Attributes:
        exit_code: Its exit code, negative for a signal; None if it was stopped after its time.
        output: The end of what it printed on both streams.
        seconds: Wall time.
    """

    exit_code: int | None
    output: str
    seconds: float


class ProcessGroups:
    """Starts processes, each in a session of its own, and can end all that still run.

    Safe to use from several threads: `stop_all` is for the one that was interrupted. As a context manager it
    stops all at the end.
    """

    def __enter__(self) -> ProcessGroups:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = False

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float) -> Finished:
        """Run a program to its end.

        Args:
            arguments: The program and its arguments.
            environment: Its whole environment.
            folder: Its working directory.
            timeout_s: Seconds after which it and its children are killed.
        """
        began = time.monotonic()
        with self._lock:
            if self._is_stopped:
                return Finished(None, "not started: interrupted", 0.0)
            process = subprocess.Popen(
                list(arguments),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        tail = _Tail(process.stdout)
        exit_code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            exit_code = process.wait(timeout_s)
        self._end(process)
        return Finished(exit_code, tail.text(), time.monotonic() - began)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill what is left of a process's group; the group outlives its leader while a child runs."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with self._lock:
            self._running.discard(process)

    def stop_all(self) -> None:
        """Kill every process that still runs, and start no more."""
        with self._lock:
            self._is_stopped = True
            running = list(self._running)
        for process in running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


class _Tail:
    """Reads a pipe to its end in a thread and keeps the last of it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._data = b""
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while chunk := os.read(self._pipe.fileno(), 65_536):
                self._data = (self._data + chunk)[-OUTPUT_TAIL_BYTES:]

    def text(self) -> str:
        # A child that left the group may hold the pipe open: what was read by then is the output.
        self._thread.join(timeout=2.0)
        return self._data.decode("utf-8", "replace").strip()
