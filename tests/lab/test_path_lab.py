"""Whole paths, in this process: also run as an ordinary user, by test_namespace_user."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pqtls.lab.paths.path_lab import PathLab
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.probe.run import Prober
from pqtls.suite.path_runs import run_path
from tests.lab.namespace_tools import require_namespaces


@pytest.mark.parametrize("fault", ["F08", "F17"])
def test_a_path_is_what_it_was_made_to_be(fault: str) -> None:
    require_namespaces()
    run = run_path(fault, 0)
    assert (run.problem, run.control_problem) == ("", "")


def test_segments_are_real() -> None:
    """A hybrid hello is two segments of at most 1448 bytes, which only packets on a cable can show."""
    require_namespaces()
    with PathLab() as lab:
        lab.apply("F17", 0, is_removed=True)
        network = lab.network()
        attempt = Prober(network, lab.server_name).attempt(EXPERIMENTS["E5"], 0, 0.0, 5.0)
        assert attempt.ending == "answered"
        assert attempt.tcp_at_connect is not None
        assert attempt.tcp_at_connect.advmss == 1448
        lab.apply("F13", 0)
        lost = Prober(lab.network(), lab.server_name).attempt(EXPERIMENTS["E2s"], 1, 0.0, 2.0)
        assert lost.tcp is not None
        assert (lost.ending, lost.tcp.bytes_acked) == ("timeout", 0)
        assert lost.tcp.total_retrans


def test_programs_end_with_the_holder() -> None:
    require_namespaces()
    with PathLab() as lab:
        lab.apply("F33", 0)
        with subprocess.Popen(lab.wrap(["sleep", "600"])) as process:
            deadline = time.monotonic() + 10
            while "sleep" not in Path(f"/proc/{process.pid}/comm").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(lab.holder_pid, signal.SIGTERM)
            lab.__exit__()
            assert process.wait(10) == -signal.SIGKILL


def test_labs_run_side_by_side() -> None:
    require_namespaces()
    with PathLab() as one, PathLab() as other:
        one.apply("F27", 0)
        other.apply("F33", 0)
        assert one.address == other.address
        endings = [
            Prober(lab.network(), lab.server_name).attempt(EXPERIMENTS["E12c"], 0, 0.0, 5.0).ending
            for lab in (one, other)
        ]
    assert endings[0] != "answered"
    assert endings[1] == "answered"
