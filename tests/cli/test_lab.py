"""`pqtls lab`: faults on real packets come out as what they are, programs run behind them, nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pqtls.cli import run_app
from pqtls.lab.paths.draws import draw
from pqtls.lab.paths.remains import PREFIX
from pqtls.suite.path_runs import find_problem, render_table, run_path, run_paths
from tests.lab.namespace_tools import require_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Quick ones: what is silent takes a minute. `make lab-verify` does all of them.
QUICK = {
    *(("F01", 0), ("F02", 0), ("F03", 0), ("F08", 0), ("F09", 1), ("F16", 2), ("F17", 0), ("F18", 0)),
    *(("F23", 0), ("F25", 0), ("F31", 0), ("F33", 1), ("F35", 0), ("F46", 0), ("rough", 0)),
}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from pqtls.cli import main; main()", "lab", *arguments]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files that is empty before and after."""
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def environment(place: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place)}


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_what_is_made_is_what_comes_out() -> None:
    """Real packets, real handshakes; and the same path without its fault is healthy."""
    require_namespaces()
    found = run_paths(sorted(QUICK), 7)
    assert [(run.fault, run.problem, run.control_problem) for run in found if not run.is_right] == []
    assert len(found) == len(QUICK)
    assert all(line.count("| 1 | 1 | 1 |") == 1 for line in render_table(found)[2:])


def test_the_comparison_can_fail() -> None:
    """The same diagnosis held against another class's path is wrong, and so is a path that lost its fault."""
    require_namespaces()
    from pqtls.lab.paths.path_lab import PathLab
    from pqtls.path.examine import examine
    from pqtls.probe.run import Prober

    with PathLab() as lab:
        lab.apply("F35", 0, is_removed=True)
        found = examine(Prober(lab.network(), lab.server_name), lab.network())
    assert "F35" in find_problem(draw("F35", 0), found)
    assert find_problem(draw("F17", 0), found) == "the cost F17 is not told"


def test_on_loopback_without_namespaces() -> None:
    run = run_path("F31", 0, is_loopback=True)
    assert (run.problem, run.control_problem, run.named) == ("", "", ("F31",))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["lab", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("F13    fault") and "loopback" not in line for line in lines)
    assert any(line.startswith("F27    fault") and line.endswith("loopback too") for line in lines)
    classes = [line for line in lines if not line.startswith("rough")]
    told = f"({sum(line.endswith('loopback too') for line in classes)} of {len(classes)} classes)"
    docs = Path(__file__).parent.parent.parent / "docs"
    assert told in (docs / "lab.md").read_text(encoding="utf-8")


def test_no_such_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["lab", "run", "F99", "--", "true"]) == 2
    assert "lab list" in capsys.readouterr().err
    assert run_app(["lab", "run", "F01", "--", "no-such-program"]) == 2


CLIENT = """
import socket, ssl, sys
context = ssl.create_default_context()
context.set_alpn_protocols([f"padding-{n:06}" for n in range(int(sys.argv[2]))])
with socket.create_connection((sys.argv[1], 443), timeout=4) as plain:
    with context.wrap_socket(plain, server_hostname=sys.argv[1]) as tls:
        tls.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
        print(tls.recv(1000).decode().splitlines()[-1])
"""


@pytest.mark.parametrize(
    ("options", "padding", "is_through"),
    [(["F13"], 0, True), (["F13"], 100, False), (["F13", "--without-fault"], 100, True)],
)
def test_a_program_behind_a_black_hole(options: list[str], padding: int, is_through: bool, place: Path) -> None:
    """A small hello passes, a big one does not, and does where the hole is gone: the hello is what makes it."""
    require_namespaces()
    host = "shop.example"
    words = [*options, "--name", host, "--", sys.executable, "-c", CLIENT, host, str(padding)]
    result = subprocess.run(
        command("run", *words), env=environment(place), capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode == 0, "pqtls lab: " in result.stdout) == (is_through, is_through), result.stderr
    assert is_through or "timed out" in result.stderr


def test_the_program_s_exit_code_is_ours(place: Path) -> None:
    require_namespaces()
    words = command("run", "F33", "--", "sh", "-c", "exit 7")
    assert subprocess.run(words, env=environment(place), timeout=60, check=False).returncode == 7


def test_up_tells_how_to_reach_it_and_ends_on_ctrl_c(place: Path) -> None:
    require_namespaces()
    with subprocess.Popen(command("up", "F33"), env=environment(place), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "behind F33" in process.stdout.readline()
        script = process.stdout.readline().split()[0]
        result = subprocess.run(
            [script, sys.executable, "-c", CLIENT, "server.example", "0"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "pqtls lab: " in result.stdout, result.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_up_on_loopback_needs_no_namespaces(place: Path) -> None:
    """Any program of this machine meets the server at a port; the certificate fits, and so does what is named."""
    words = command("up", "F22", "--loopback")
    with subprocess.Popen(words, env=environment(place), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split(", ")[1].removeprefix("port "))
            script, *told = process.stdout.readline().split()
            result = subprocess.run(
                [script, sys.executable, "-c", CLIENT.replace("443", str(port)), "localhost", "0"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            named = subprocess.run(
                [sys.executable, "-c", "from pqtls.cli import main; main()", *told[1:], "-4"],
                env=environment(place),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert told == ["pqtls", "path", f"localhost:{port}"]
    assert "pqtls lab: " in result.stdout, result.stderr
    assert named.returncode == 1
    assert "F22 unknown-group-intolerant" in named.stdout


def test_where_namespaces_are_refused_the_way_without_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pqtls.lab.holder import Holder
    from pqtls.lab.namespace_refusal import refusal

    def refuse(_: Holder) -> None:
        raise refusal("user namespace", "Operation not permitted")

    monkeypatch.setattr(Holder, "start", refuse)
    way = "Without namespaces: pqtls lab"
    for words, told in (
        (["run", "F22", "--", "true"], f"{way} up F22 --loopback"),
        (["up", "F22"], f"{way} up F22 --loopback"),
        (["verify", "F22"], f"{way} verify --loopback"),
        (["up", "F13"], ""),
    ):
        assert run_app(["lab", *words]) == 3
        error = capsys.readouterr().err
        assert "user namespace" in error
        assert told in error
        assert told or way not in error, "a black hole is about packets"
    assert run_app(["lab", "up", "F13", "--loopback"]) == 2
    assert "about packets" in capsys.readouterr().err


def start_sleeper(place: Path) -> tuple[subprocess.Popen[bytes], int, Path]:
    mark = place.parent / f"{place.name}-pid"
    words = command("run", "F33", "--", "sh", "-c", f"echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 600")
    process = subprocess.Popen(words, env=environment(place), stderr=subprocess.DEVNULL)
    wait_for(mark.exists)
    return process, int(mark.read_text()), next(place.glob(PREFIX + "*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_after_a_kill(number: signal.Signals, place: Path) -> None:
    require_namespaces()
    process, sleeper, folder = start_sleeper(place)
    process.send_signal(number)
    process.wait(20)
    wait_for(lambda: not is_alive(sleeper) and not folder.exists())


def test_clean_finds_what_a_lab_and_its_keeper_left(place: Path) -> None:
    require_namespaces()
    process, sleeper, folder = start_sleeper(place)

    def clean() -> str:
        return subprocess.run(
            command("clean"), env=environment(place), capture_output=True, text=True, timeout=60, check=True
        ).stdout

    assert (clean(), folder.exists(), is_alive(sleeper)) == ("Nothing was left.\n", True, True), "a lab that is alive"
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for pid in [process.pid, *(child for child in children if child != sleeper)]:
        os.kill(pid, signal.SIGSTOP)  # so that none of them sees another's end
    for pid in [*(child for child in children if child != sleeper), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait(20)
    assert (folder.exists(), is_alive(sleeper)) == (True, True)
    said = clean()
    assert f"removed {folder}" in said
    assert f"ended process {sleeper}" in said
    wait_for(lambda: not is_alive(sleeper))


@pytest.mark.parametrize("fault", ["F35", "f35", "inspection-downgrade"])
def test_a_fault_goes_by_its_id_and_by_its_name(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_app(["lab", "verify", fault, "--loopback"]) == 0
    assert "| F35 inspection-downgrade | 1 | 1 | 1 |" in capfd.readouterr().out
    assert run_app(["lab", "verify", fault + "x", "--loopback"]) == 2
