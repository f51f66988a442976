"""Whose a process is, where the client is started by helpers of ours: a keeper, and a guard that it forks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pqtls.observe.client_processes import NOT_WATCHED, ClientProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = "PQTLS_CLIENT=of-this-test"

# A keeper that forks a guard when it is told to; the guard forks the program, which waits before it becomes another.
_KEEPER = """
import os, sys, ctypes, time
sys.stdin.readline()
if os.fork() == 0:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    program = os.fork()
    if program == 0:
        sys.stdin.readline()
        os.execve("/bin/sh", ["sh", "-c", sys.argv[1]], dict([sys.argv[2].split("=")]))
    print(program, flush=True)
    time.sleep(60)
time.sleep(60)
"""


@pytest.fixture
def keeper(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _KEEPER, *request.param]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
    )
    time.sleep(0.1)  # it is older than the watch
    yield process
    os.killpg(process.pid, 9)
    process.communicate(timeout=10)


def start_program(keeper: subprocess.Popen[str]) -> int:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdin.write("start\n")
    return int(keeper.stdout.readline())


def become_another(keeper: subprocess.Popen[str]) -> None:
    assert keeper.stdin is not None
    keeper.stdin.write("go\n")
    time.sleep(0.3)


@pytest.mark.parametrize("keeper", [("sleep 30; true", MARKER)], indirect=True)
def test_a_program_that_was_seen_before_it_became_the_client(keeper: subprocess.Popen[str]) -> None:
    """Between fork and exec it has the keeper's environment; what was thought of it then must not stand."""
    processes = ClientProcesses(MARKER, os.getpid())
    program = start_program(keeper)
    processes.refresh()
    assert program not in processes.list_clients()
    assert program not in processes.list_others()
    become_another(keeper)
    processes.refresh()
    assert program in processes.list_clients()
    assert keeper.pid in processes.list_others()


@pytest.mark.parametrize(
    ("keeper", "is_other"),
    [(("sleep 30; true", "A=b"), False), (("sleep 30; true", f"PQTLS_CLIENT={NOT_WATCHED}"), True)],
    indirect=["keeper"],
)
def test_an_orphan_that_a_guard_inherits_is_never_another(keeper: subprocess.Popen[str], is_other: bool) -> None:
    """Without the mark it looks like a client's daemon that gave all up; only what says so itself is another's."""
    processes = ClientProcesses(MARKER, os.getpid())
    program = start_program(keeper)
    become_another(keeper)
    processes.refresh()
    assert program not in processes.list_clients()
    assert (program in processes.list_others()) is is_other


def test_a_process_of_nobody_here_is_another() -> None:
    processes = ClientProcesses(MARKER, os.getpid())
    processes.refresh()
    assert os.getppid() in processes.list_others()
