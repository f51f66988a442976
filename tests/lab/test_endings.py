"""What is left of a lab whose process was ended from outside."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.conftest import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAB = """
import os, signal, sys, tempfile
from pathlib import Path
from pqtls.lab.ca import LabCA
from pqtls.lab.router import Router
from pqtls.lab.server import LabServers
with tempfile.TemporaryDirectory() as folder, Router() as router:
    with LabServers(LabCA(Path(folder) / "ca"), sys.executable, dict(os.environ)) as servers:
        entry = router.open_entry({}, dial=servers.address("good"))
        holder = 0
        if "fork" in sys.argv:
            holder = os.fork()  # a child that holds the pipe to the servers open
            if not holder:
                os.close(1)
                signal.pause()
        print(servers.pid, holder, flush=True)
        sys.stdin.read()
"""


@contextmanager
def lab(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """Run a lab in a process of its own, in a session of its own; yield it, its servers' and its holder's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAB, *arguments],
        env={**child_environment(), "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            servers, holder = process.stdout.readline().split()
            yield process, int(servers), int(holder)
        finally:
            process.kill()


def has_ended(pid: int, timeout_s: float = 10.0) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def test_the_servers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    with lab(tmp_path) as (process, servers, _):
        assert not has_ended(servers, timeout_s=0.0)
        process.kill()
        assert has_ended(servers)


def test_the_servers_end_even_if_another_holds_their_pipe(tmp_path: Path) -> None:
    with lab(tmp_path, "fork") as (process, servers, holder):
        try:
            assert not has_ended(servers, timeout_s=0.0)
            process.kill()
            assert has_ended(servers)
        finally:
            os.kill(holder, signal.SIGKILL)


@pytest.mark.parametrize("ending", [signal.SIGINT, None])
def test_nothing_is_left_after_ctrl_c_or_an_orderly_end(tmp_path: Path, ending: signal.Signals | None) -> None:
    with lab(tmp_path) as (process, servers, _):
        if ending is None:
            process.communicate(timeout=10)
            assert process.returncode == 0
        else:
            os.killpg(process.pid, ending)
            assert process.wait(10) != 0
        assert has_ended(servers, timeout_s=0.0)
        assert list(tmp_path.iterdir()) == []
