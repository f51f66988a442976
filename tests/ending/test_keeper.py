"""The folder and the programs of a run go with it: at its end, and when it is killed, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pqtls.ending.keeper import Keeper, temporary_name
from pqtls.errors import BugError, UsageError
from tests.lab.namespace_tools import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pqtls.ending.keeper import Program

# What a program leaves behind in order not to be found: a session, an environment, a folder and a parent of its own.
DAEMON = (
    "import os, sys, time\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "os.chdir('/')\n"
    "os.execve('/bin/sleep', ['sleep', sys.argv[1]], {})\n"
)
SHELL = {"PATH": os.defpath}


def sleepers(mark: str) -> list[int]:
    """Every process that sleeps for this many seconds."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == f"sleep\0{mark}\0".encode():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def mark() -> str:
    return f"{random.randrange(10**6, 10**7)}.25"  # noqa: S311 - not for cryptography


def start(keeper: Keeper, *arguments: str, environment: dict[str, str] | None = None) -> tuple[Program, int]:
    read_end, write_end = os.pipe()
    program = keeper.start(arguments, SHELL if environment is None else environment, keeper.folder, write_end)
    os.close(write_end)
    return program, read_end


def run(keeper: Keeper, *arguments: str, timeout_s: float = 10.0) -> tuple[int | None, str]:
    program, output = start(keeper, *arguments)
    code = program.wait(timeout_s)
    with open(output, "rb") as file:  # noqa: PTH123 - a descriptor
        return code, file.read().decode()


def test_the_folder_is_private_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Keeper("pqtls-x-") as keeper:
        assert keeper.folder.parent == tmp_path
        assert keeper.folder.stat().st_mode & 0o777 == 0o700
        with keeper.holds_temporary_files(), tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == keeper.folder
            outside = temporary_name(tmp_path, ".making-")
            (keeper.folder / "a").mkdir()
            outside.mkdir()
        assert tempfile.gettempdir() == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BugError):
        _ = keeper.folder


def test_no_folder_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nonexistent")
    with pytest.raises(UsageError, match="No such file"), Keeper("pqtls-x-"):
        pass


def inherited_ignored() -> str:
    """What this process was started to ignore (in a script's background: SIGQUIT), without what Python ignores."""
    text = Path("/proc/self/status").read_text().partition("SigIgn:")[2].split()[0]
    own = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    return f"{int(text, 16) & ~own:016x}"


def test_a_program_runs_as_asked() -> None:
    with Keeper("pqtls-x-") as keeper:
        assert run(keeper, "sh", "-c", "pwd; cat; echo $0 >&2; exit 7") == (7, f"{keeper.folder}\nsh\n")
        assert run(keeper, "env") == (0, f"PATH={os.defpath}\n")
        assert run(keeper, "sh", "-c", "kill -9 $$") == (-9, "")
        assert run(keeper, "sh", "-c", "yes | head -1; trap") == (0, "y\n")
        code, text = run(keeper, f"{keeper.folder}/no-such-program")
        assert (code, text) == (127, "pqtls: the program cannot be started: No such file or directory.\n")
        assert run(keeper, "/etc/passwd")[0] == 126
        ignored = "grep -E '^Sig(Ign|Blk)' /proc/self/status"
        assert run(keeper, "sh", "-c", ignored)[1].split() == ["SigBlk:", "0" * 16, "SigIgn:", inherited_ignored()]
        descriptors = "import os; print([each for each in os.listdir('/proc/self/fd')])"
        assert run(keeper, sys.executable, "-I", "-c", descriptors) == (0, "['0', '1', '2', '3']\n")


def test_its_daemon_ends_with_it(mark: str) -> None:
    with Keeper("pqtls-x-") as keeper:
        other, _ = start(keeper, "sleep", f"{mark}0")
        script = f"{sys.executable} -I -c \"$0\" {mark} && sleep 0.3 && ps -eo args | grep -c '^sleep {mark}$'"
        assert run(keeper, "sh", "-c", script, DAEMON) == (0, "1\n")
        assert sleepers(mark) == []
        assert len(sleepers(f"{mark}0")) == 1, "another program's are left alone"
    assert other.wait(1.0) is None
    assert sleepers(f"{mark}0") == []


def test_it_is_stopped_after_its_time(mark: str) -> None:
    with Keeper("pqtls-x-") as keeper:
        began = time.monotonic()
        assert run(keeper, "sh", "-c", f"trap '' TERM; sleep {mark} & sleep {mark}", timeout_s=0.3)[0] is None
        assert time.monotonic() - began < 3
        assert sleepers(mark) == []


def test_what_forks_all_the_time_ends_too(mark: str) -> None:
    script = f"while :; do sleep {mark} & sleep 0.01; done"
    with Keeper("pqtls-x-") as keeper:
        assert run(keeper, "sh", "-c", f"({script}) & ({script}) & sleep 0.3")[0] == 0
        assert sleepers(mark) == []


def test_a_guard_that_was_killed_leaves_it_to_the_keeper(mark: str) -> None:
    with Keeper("pqtls-x-") as keeper:
        program, _ = start(keeper, "sh", "-c", f"sleep {mark} & sleep {mark}")
        assert wait_until(lambda: len(sleepers(mark)) == 2)
        shell = int(Path(f"/proc/{sleepers(mark)[0]}/stat").read_text().split()[3])
        guard = int(Path(f"/proc/{shell}/stat").read_text().split()[3])
        os.kill(guard, signal.SIGKILL)
        assert program.wait(5.0) is None
    assert sleepers(mark) == []


def test_a_keeper_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Keeper("pqtls-x-") as keeper:
        program, _ = start(keeper, "sleep", mark)
        assert wait_until(lambda: len(sleepers(mark)) == 1)
        os.kill(keeper.pid, signal.SIGKILL)
        assert wait_until(lambda: Path(f"/proc/{keeper.pid}/stat").read_text().split()[2] == "Z")
        with pytest.raises(BugError, match="has ended"):
            start(keeper, "true")
        program.stop()
    assert program.wait(5.0) is None
    assert list(tmp_path.iterdir()) == []
    assert sleepers(mark) == []


# A run that is killed: with a daemon, with a fork that holds its sockets open, and with files.
RUN = f"""
import os, signal, sys, tempfile
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from pqtls.ending.keeper import Keeper, temporary_name
with Keeper("pqtls-x-") as keeper, keeper.holds_temporary_files():
    Path(tempfile.mkdtemp(), "key").write_text("secret")
    temporary_name(Path(sys.argv[2]), ".making-").mkdir()
    if not os.fork():
        os.close(1)
        signal.alarm(20)
        signal.pause()
    _, output = os.pipe()
    held = []
    for _ in range(3):
        script = f"trap '' TERM HUP INT; mkdir -m 0 x; {{sys.executable}} -I -c \\"$0\\" $1; sleep $1"
        command = ["/bin/sh", "-c", script, {DAEMON!r}, sys.argv[3]]
        held.append(keeper.start(command, {{"PATH": os.defpath}}, keeper.folder, output))
    print("ready", flush=True)
    signal.pause()
"""


@contextmanager
def start_run(tmp_path: Path, mark: str) -> Iterator[subprocess.Popen[str]]:
    source = str(Path(__file__).parent.parent.parent / "src")
    with subprocess.Popen(
        [sys.executable, "-I", "-c", RUN, source, str(tmp_path), mark],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "group"])
def test_a_run_that_is_killed(tmp_path: Path, mark: str, *, whole_group: bool) -> None:
    with start_run(tmp_path, mark) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert wait_until(lambda: len(sleepers(mark)) == 6)
        assert len(list(tmp_path.iterdir())) == 2
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not list(tmp_path.iterdir()))
    assert sleepers(mark) == []


def test_a_run_that_is_killed_at_any_moment(tmp_path: Path, mark: str) -> None:
    delays = random.Random(5)  # noqa: S311 - not for cryptography
    for _ in range(20):
        with start_run(tmp_path, mark):
            time.sleep(delays.uniform(0.02, 0.25))
    assert wait_until(lambda: not list(tmp_path.iterdir()) and not sleepers(mark))
    time.sleep(0.3)
    assert (list(tmp_path.iterdir()), sleepers(mark)) == ([], [])
