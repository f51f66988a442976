"""`kill -9` at whatever point of enable and disable: Python works, and the next command ends where it should.

The suite kills at every eighteenth change of the file system, `make test-kill-enable` at each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.probe import forget_probes, probe_mlkem
from pqtls.openssl.sources import Source
from pqtls.openssl.status import examine_venv
from pqtls.openssl.venv import find_venv
from tests.openssl.venv_tools import ENVIRONMENT, disable_venv, enable_venv, hash_tree, make_venv, required

STRIDE = int(os.environ.get("PQTLS_TEST_KILL_STRIDE", "18"))
HELPER = [sys.executable, "-m", "tests.openssl.kill_child"]


def kill_at(verb: str, root: Path, number: int, report: Path, *native: str) -> bool:
    """Run a verb that is killed at its n-th change; tell whether it was."""
    report.unlink(missing_ok=True)
    command = [*HELPER, verb, str(root), str(number), str(report), *native]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -9), done.stderr
    assert report.exists() == (done.returncode == 0)
    return done.returncode == -9


def kill_all_along(
    verb: str,
    root: Path,
    report: Path,
    *native: str,
    prepare: Callable[[], None],
    check: Callable[[int], None],
    mend: Callable[[int], None],
) -> None:
    """Kill a verb at each change in turn, or at every `STRIDE`-th; after each the environment must be what it was.

    Args:
        verb: "enable" or "disable".
        root: The environment, not enabled.
        report: Where the helper counts changes.
        native: More arguments for the helper.
        prepare: Brings the environment to where the verb starts.
        check: Looks at what a kill left, and is told where it was.
        mend: Enables it again after a kill, and looks at that.
    """
    before = hash_tree(root)
    number, kills, was_killed = 1, 0, True
    while was_killed:
        prepare()
        was_killed = kill_at(verb, root, number, report, *native)
        forget_probes()
        check(number)
        if was_killed:
            mend(number)
            kills += 1
        disable_venv(root)
        assert hash_tree(root) == before, number
        number += STRIDE
    assert kills >= max(1, int(report.read_text()) // STRIDE), "too little was killed: the test shows nothing"


@pytest.mark.parametrize("verb", ["enable", "enable-again", "disable"])
def test_killed_at_every_point(verb: str, source: Source, tmp_path: Path) -> None:
    root = make_venv(tmp_path / "venv")
    own = inspect_interpreter(sys.executable, {}).openssl_version
    seen = set()

    def prepare() -> None:
        if verb != "enable":
            enable_venv(root)
        if verb == "enable-again":  # over a damaged one, which stays switched on until the new one is
            next((root / "lib" / "pqtls-graft").glob("2*/libssl.so.3")).unlink()

    def check(number: int) -> None:
        probe = probe_mlkem(root / "bin" / "python", ENVIRONMENT)
        assert probe.handshake is not None, f"killed at {number}: {probe.failure}"
        assert not probe.failure, f"killed at {number}: {probe.failure}"
        assert probe.openssl_version in (own, source.version), number
        seen.add(probe.openssl_version)

    def mend(number: int) -> None:
        enable_venv(root)
        status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
        assert (status.state, status.exit_code) == ("active", 0), (number, status.findings)

    name = verb.partition("-")[0]
    kill_all_along(name, root, tmp_path / "report", prepare=prepare, check=check, mend=mend)
    if STRIDE == 1:
        assert seen == {own, source.version}
    shutil.rmtree(root)


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_killed_where_there_is_no_graft(verb: str, own_libraries: Path, tmp_path: Path) -> None:
    """A native Python, by the stand-in of test_enable_native, that is held to post-quantum."""
    environment = {**ENVIRONMENT, "LD_LIBRARY_PATH": str(own_libraries)}
    root = make_venv(tmp_path / "venv")
    seen = set()

    def prepare() -> None:
        if verb == "disable":
            enable_venv(root, required(), environment)

    def check(number: int) -> None:
        probe = probe_mlkem(root / "bin" / "python", environment)
        assert probe.has_mlkem, f"killed at {number}: {probe.failure}"
        offered = probe.offered_groups
        assert 0x001D in offered or offered == (0x11EC, 0x11EB, 0x11ED), number
        seen.add(offered)

    def mend(number: int) -> None:
        enable_venv(root, required(), environment)
        status = examine_venv(find_venv(root, environment), environment)
        assert (status.state, status.exit_code, status.unheld) == ("native", 0, ()), (number, status.findings)

    libraries = str(own_libraries)
    kill_all_along(verb, root, tmp_path / "report", libraries, prepare=prepare, check=check, mend=mend)
    if STRIDE == 1:
        assert len(seen) == 2
