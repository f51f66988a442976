"""`pqtls test`, killed at any moment, leaves no file, process, namespace or mount.

`make test-kill` does it 200 times (PQTLS_KILLS) and says how long it took until nothing was left.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from pqtls.lab.namespace import find_namespace_obstacle
from tests.cli.test_network import NOBODY, make_python_for_others
from tests.cli.test_test import bare_environment, command

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = int(os.environ.get("PQTLS_KILLS", "24"))
COMBINATIONS = 4
# What is ended, and how: most often the worst.
HOW: list[tuple[str, signal.Signals]] = [
    ("process", signal.SIGKILL),
    ("group", signal.SIGKILL),
    ("process", signal.SIGKILL),
    ("process", signal.SIGTERM),
    ("process", signal.SIGKILL),
    ("group", signal.SIGINT),
]
PATIENCE_S = 15.0

# A client that leaves a daemon without its session, environment or folder, a file nobody can enter, and links.
CLIENT = """
mkdir -p "$TMPDIR/a/b"; ln -s / "$TMPDIR/a/root"; echo x > "$TMPDIR/a/b/c"; chmod 0 "$TMPDIR/a/b" "$TMPDIR/a"
(cd /; setsid env -i /bin/sleep MARK & setsid /bin/sleep MARK &)
python3 - <<'EOF'
import os, socket, ssl, time, urllib.request
if "PQTLS_DIAL" in os.environ:
    socket.getaddrinfo = lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", int(os.environ["PQTLS_DIAL"].split(":")[1])))]
    for name in list(os.environ):
        if name.lower().endswith("_proxy"): del os.environ[name]
print(urllib.request.urlopen("https://secretsmanager.us-west-1.amazonaws.com/ping").status)
EOF
"""

Moment: TypeAlias = Callable[["Run"], bool]


@dataclass
class Run:
    """One `pqtls test` that is going to be ended."""

    process: subprocess.Popen[bytes]
    folder: Path
    mark: str
    began: float
    namespaces: set[int] = field(default_factory=set)

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    def find(self, pattern: str) -> list[Path]:
        """Find files that may be going meanwhile."""
        with contextlib.suppress(OSError):
            return list(self.tmp.glob(pattern))
        return []

    def homes(self) -> int:
        return len(self.find("*/client-*"))

    def lines(self) -> int:
        path = self.folder / "lines.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def sleepers(self) -> int:
        return sum(f"sleep\0{self.mark}\0".encode() in line for line in read_all("cmdline").values())

    def processes(self) -> list[int]:
        """Everything that is of this run: by its environment, its command line or where it is."""
        needle = str(self.folder).encode()
        found = {pid for what in ("environ", "cmdline") for pid, text in read_all(what).items() if needle in text}
        for pid in read_all("cmdline"):
            try:
                if str(self.folder) in str(Path(f"/proc/{pid}/cwd").readlink()):
                    found.add(pid)
            except OSError:
                continue
        return sorted(found - {self.process.pid})

    def note_namespaces(self) -> None:
        self.namespaces |= {network_of(pid) for pid in self.processes()} - {network_of("self"), 0}

    def in_namespaces(self) -> list[int]:
        return [pid for pid in read_all("cmdline") if network_of(pid) in self.namespaces]

    def leftovers(self) -> dict[str, object]:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        left = {
            "files": [name for _, folders, files in os.walk(self.tmp) for name in (*folders, *files)],
            "graft": [path.name for path in (self.folder / "cache").rglob(".*")],
            "reports": [path.name for path in self.folder.glob(".*")],
            "processes": self.processes(),
            "daemons": self.sleepers(),
            "namespaces": self.in_namespaces(),
            "mounts": [line for line in mounts if str(self.folder) in line],
        }
        return {name: what for name, what in left.items() if what}


def read_all(what: str) -> dict[int, bytes]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (folder / what).read_bytes()
        except OSError:
            continue
    return found


def network_of(pid: int | str) -> int:
    """Return which network namespace a process is in; 0 if it is gone."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return 0


# By progress: each is true from some step of the run on.
PROGRESS: dict[str, Moment] = {
    "folder": lambda run: bool(list(run.tmp.iterdir())),
    "authority": lambda run: bool(run.find("*/ca")),
    "server keys": lambda run: bool(run.find("*/pqtls-lab-*")),
    "setting": lambda run: run.lines() >= 1,
    "first client": lambda run: run.homes() >= 1,
    "recorder": lambda run: bool(run.find("*/pqtls-record-*/*")),
    "daemon": lambda run: run.sleepers() >= 1,
    "second client": lambda run: run.homes() >= 2,
    "case": lambda run: run.lines() >= 3,
    "last client": lambda run: run.homes() >= 4,
    "end": lambda run: run.lines() >= 5,
}


def by_time(after_s: float) -> Moment:
    return lambda run: time.monotonic() - run.began >= after_s


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def start(folder: Path, network: str, prefix: list[str], python: str, mark: str) -> Run:
    environment = {**bare_environment(folder), "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    (folder / "lines.jsonl").unlink(missing_ok=True)
    arguments = command("--network", network, "--case", str(folder / "client.sh"))
    arguments += ["--json", str(folder / "lines.jsonl"), "--junit", str(folder / "junit.xml")]
    arguments[0] = python
    process = subprocess.Popen(
        [*prefix, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    return Run(process, folder, mark, time.monotonic())


def end(run: Run, moment: Moment, what: str, number: signal.Signals) -> bool:
    """End a run at a moment; tell whether it was still there."""
    while run.process.poll() is None and not moment(run):
        time.sleep(0.002)
    if run.process.poll() is None and time.monotonic() - run.began > 0.5:
        run.note_namespaces()
    was_running = run.process.poll() is None
    if was_running:
        (os.killpg if what == "group" else os.kill)(run.process.pid, number)
    run.process.wait(60)
    return was_running


@pytest.mark.parametrize("user", [None, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("network", ["router", "namespaces"])
@pytest.mark.timeout(600 + 10 * KILLS)
def test_nothing_is_left(folder: Path, network: str, user: int | None) -> None:
    if network == "namespaces" and (why := find_namespace_obstacle()):
        pytest.skip(f"no namespaces here: {why}")
    chances = random.Random(f"{network} {user}")  # noqa: S311 - not for cryptography
    mark = f"{chances.randrange(10**6, 10**7)}.{os.getpid()}"
    (folder / "client.sh").write_text(CLIENT.replace("MARK", mark))
    prefix, python = [], command()[0]
    if user is not None:
        setpriv = shutil.which("setpriv")
        if setpriv is None or os.geteuid() != 0:
            pytest.skip("only root can become another user, by setpriv")
        prefix = [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        python = make_python_for_others(folder, prefix)
        bare_environment(folder)
        for path in (folder, folder / "tmp"):
            os.chown(path, user, user)
    progress = list(PROGRESS.items())
    chances.shuffle(progress)
    hits, longest_s = 0, 0.0
    for number in range(max(1, KILLS // COMBINATIONS)):
        delay_s = chances.uniform(0.0, 2.5)
        by_progress = progress[number // 2 % len(progress)]
        name, moment = by_progress if number % 2 else (f"{delay_s:.3f} s", by_time(delay_s))
        what, ending = HOW[number % len(HOW)]
        run = start(folder, network, prefix, python, mark)
        hits += end(run, moment, what, ending)
        ended = time.monotonic()
        while (left := run.leftovers()) and time.monotonic() - ended < PATIENCE_S:
            time.sleep(0.02)
        assert not left, f"{ending.name} to the {what} at {name}"
        longest_s = max(longest_s, time.monotonic() - ended)
    print(
        f"\n{network}, user {user or 'root'}: {number + 1} ended, {hits} of them under way; "
        f"nothing left after {longest_s:.2f} s at most"
    )
    assert hits >= (number + 1) // 2
