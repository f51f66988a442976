"""Run one step of a build: its output into a log, every line told, and nothing of it left running after us.

make starts hundreds of processes. A small supervisor in a session of their own waits for our end of a pipe to
close, which it does however we end, kill -9 included, and then ends them all at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

TIMEOUT_S = 3 * 3600.0
"""A build takes 2 minutes on 2 cores; the smallest boards with one core take an hour."""
LAST_LINES = 8
_MAX_LINE_BYTES = 64 * 1024

_SUPERVISOR = r"""
import os, signal, subprocess, sys, threading
def wait_for_the_end():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=wait_for_the_end, daemon=True).start()
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
sys.stdout.flush()
os._exit(code if code >= 0 else 128 - code)
"""


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step ended.

    Attributes:
        code: Its exit code; 128 and more for a signal.
        last_lines: The last lines that it wrote.
        is_timed_out: It was ended by us, since it took longer than `TIMEOUT_S`.
    """

    code: int
    last_lines: tuple[str, ...]
    is_timed_out: bool = False


def run_step(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: IO[bytes],
    on_line: Callable[[str], None],
    timeout_s: float = TIMEOUT_S,
) -> StepResult:
    """Run a program to its end.

    Args:
        arguments: The program and its arguments.
        folder: Where to run it.
        environment: Its whole environment.
        log: Where its output goes.
        on_line: Told every line of output.
        timeout_s: When to give up, in seconds.

    Returns:
        How it ended.

    Raises:
        OSError: The log cannot be written; the program was ended.
    """
    last: deque[str] = deque(maxlen=LAST_LINES)
    timed_out = threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SUPERVISOR, *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def give_up() -> None:
        timed_out.set()
        _end(process)

    timer = threading.Timer(timeout_s, give_up)
    timer.daemon = True
    try:
        timer.start()
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        while line := process.stdout.readline(_MAX_LINE_BYTES):
            log.write(line)
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                last.append(text)
                on_line(text)
        code = process.wait()
        log.flush()
    finally:
        timer.cancel()
        _end(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    return StepResult(code if code >= 0 else 128 - code, tuple(last), timed_out.is_set())


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
