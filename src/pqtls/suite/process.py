"""Run one client as a process of its own: bounded in time and output, and gone with all its children after."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.ending.keeper import Keeper
from pqtls.errors import BugError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from pqtls.ending.keeper import Program

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
    """Starts processes, each with a guard that ends whatever it leaves behind, and can end all that still run.

    Safe to use from several threads: `stop_all` is for the one that was interrupted. As a context manager it
    stops all at the end.

    Args:
        keeper: Of the run; None for one of its own, which needs the context manager.
    """

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._lock = threading.Lock()
        self._running: set[Program] = set()
        self._is_stopped = False
        self._keeper = keeper
        self._stack = ExitStack()

    def __enter__(self) -> ProcessGroups:
        if self._keeper is None:
            self._keeper = self._stack.enter_context(Keeper("pqtls-processes-"))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()
        self._stack.close()

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float) -> Finished:
        """Run a program to its end.

        Args:
            arguments: The program and its arguments.
            environment: Its whole environment.
            folder: Its working directory.
            timeout_s: Seconds after which it and its children are killed.

        Raises:
            BugError: The keeper has ended.
        """
        began = time.monotonic()
        if self._keeper is None:
            raise BugError("Processes are started outside of their context.")
        read_end, write_end = os.pipe()
        tail = _Tail(open(read_end, "rb"))  # noqa: SIM115, PTH123 - a descriptor, closed when read
        try:
            with self._lock:
                if self._is_stopped:
                    return Finished(None, "not started: interrupted", 0.0)
                program = self._keeper.start(arguments, environment, folder, write_end)
                self._running.add(program)
        finally:
            os.close(write_end)
        exit_code = program.wait(timeout_s)
        with self._lock:
            self._running.discard(program)
        return Finished(exit_code, tail.text(), time.monotonic() - began)

    def stop_all(self) -> None:
        """Kill every process that still runs, and start no more."""
        with self._lock:
            self._is_stopped = True
            running = list(self._running)
        for program in running:
            program.stop()


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
        # One that could not be ended may hold the pipe open: what was read by then is the output.
        self._thread.join(timeout=2.0)
        return self._data.decode("utf-8", "replace").strip()
