"""However the lab ends, nothing of it is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from pqtls.errors import BugError
from pqtls.lab.leftovers import end_processes, find_processes, namespace_id
from pqtls.lab.namespace import NamespacedLab
from tests.lab.namespace_tools import python, require_namespaces, run, wait_until

MARK = "PQTLS_TEST_MARK"

# A main process with a client that has left its group and ignores what can be ignored.
MAIN = """
import json, os, subprocess, sys, time
sys.path[:] = json.loads(sys.argv[1])
from pqtls.lab.leftovers import namespace_id
from pqtls.lab.namespace import NamespacedLab
with NamespacedLab() as lab:
    command = lab.wrap(["sh", "-c", "trap '' TERM HUP INT; sleep 300 & echo ready; sleep 300"])
    client = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    client.stdout.readline()
    print(json.dumps([lab.holder_pid, client.pid, namespace_id(f"/proc/{client.pid}/ns/net")]), flush=True)
    time.sleep(300)
"""


def main_command() -> list[str]:
    return python(MAIN, json.dumps([each for each in sys.path if each]))


def marked(mark: str) -> list[int]:
    """Every process that descends from the one that was started with this mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_daemon_that_was_forgotten_is_ended() -> None:
    require_namespaces()
    with NamespacedLab() as lab:
        script = (
            "from subprocess import *; print(Popen(['sleep', '300'], start_new_session=True, stdout=-3, stderr=-3).pid)"
        )
        daemon = int(run(lab, python(script)).stdout)
        assert alive(daemon)
    assert not alive(daemon)


def test_nothing_is_left_after_an_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_namespaces()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptors = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing itself opens one
    threads = set(threading.enumerate())
    lab = NamespacedLab()
    with pytest.raises(KeyboardInterrupt), lab:  # noqa: PT012 - what is left is the point
        holder = lab.holder_pid
        with lab.open_capture_socket():
            assert list(tmp_path.iterdir()) == []
            raise KeyboardInterrupt
    assert not Path(f"/proc/{holder}").exists()
    assert set(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    assert set(threading.enumerate()) == threads


def test_the_main_process_is_killed() -> None:
    require_namespaces()
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    mark = str(uuid.uuid4())
    environment = {**os.environ, MARK: mark}
    with subprocess.Popen(main_command(), env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        holder, client, network = json.loads(process.stdout.readline())
        namespaces = frozenset([(network[0], network[1])])
        assert {holder, client} < set(find_processes(namespaces))  # and the client's own children
        process.kill()
    assert wait_until(lambda: not alive(holder) and not alive(client))
    assert find_processes(namespaces) == []
    assert marked(mark) == []
    assert Path("/proc/self/mountinfo").read_text(encoding="utf-8") == mounts


def test_the_main_process_is_killed_at_any_moment() -> None:
    require_namespaces()
    environment = {**os.environ, MARK: str(uuid.uuid4())}
    delays = random.Random(3)  # noqa: S311 - not for cryptography
    for _ in range(15):
        process = subprocess.Popen(main_command(), env=environment, stdout=subprocess.DEVNULL)
        time.sleep(delays.uniform(0.03, 0.25))
        process.kill()
        process.wait()
    # A holder that is still making its network learns of the end after that.
    assert wait_until(lambda: marked(environment[MARK]) == [])


def test_a_process_that_ends_while_it_is_looked_for_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the list of processes, and gone when its namespace is read; its child is not in that list."""
    require_namespaces()
    script = "import os, time; input(); os.fork() and os._exit(0); time.sleep(300)"
    environment = {**os.environ, MARK: str(uuid.uuid4())}
    with NamespacedLab() as lab:
        client = subprocess.Popen(lab.wrap(python(script)), env=environment, stdin=subprocess.PIPE)
        network = namespace_id(f"/proc/{lab.holder_pid}/ns/net")
        assert wait_until(lambda: set(find_processes(frozenset([network]))) == {lab.holder_pid, client.pid})
        list_folder, lists = os.listdir, []

        def list_and_let_it_end(folder: str) -> list[str]:
            lists.append([name for name in list_folder(folder) if name != str(lab.holder_pid)])
            if len(lists) == 1:
                client.communicate(b"\n", timeout=10)
            return lists[-1]

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", list_and_let_it_end)
            assert end_processes(frozenset([network])) == []
        assert str(client.pid) in lists[0]
        assert wait_until(lambda: not any(alive(pid) for pid in marked(environment[MARK])))


def test_the_holder_is_killed() -> None:
    require_namespaces()
    with NamespacedLab() as lab:
        command = lab.wrap(["true"])
        client = subprocess.Popen(lab.wrap(["sh", "-c", "echo; exec sleep 300"]), stdout=subprocess.PIPE)
        assert client.stdout is not None
        client.stdout.readline()
        network = namespace_id(f"/proc/{client.pid}/ns/net")
        os.kill(lab.holder_pid, signal.SIGKILL)
        assert wait_until(lambda: not alive(lab.holder_pid))
        assert subprocess.run(command, stderr=subprocess.PIPE, check=False).returncode == 125
        with pytest.raises(BugError, match="holder of the lab's namespaces has ended"):
            lab.wrap(["true"])
        with pytest.raises(BugError, match="does not answer"):
            lab.open_capture_socket()
    assert client.wait(10) == -signal.SIGKILL
    client.stdout.close()
    assert find_processes(frozenset([network])) == []


def test_a_command_line_outlives_its_lab() -> None:
    require_namespaces()
    with NamespacedLab() as lab:
        command = lab.wrap(["echo", "must not run"])
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == "pqtls: the lab's namespaces cannot be entered: No such file or directory.\n"


def test_clients_that_start_while_it_ends() -> None:
    """None slips in behind the one that clears up."""
    require_namespaces()
    mark = str(uuid.uuid4())
    environment = {**os.environ, MARK: mark}
    for delay_ms in range(0, 40, 4):
        with NamespacedLab() as lab:
            clients = [subprocess.Popen(lab.wrap(["sleep", "300"]), env=environment, stderr=-3) for _ in range(4)]
            time.sleep(delay_ms / 1000)
        assert all(client.wait(10) in (125, -signal.SIGKILL) for client in clients)
    assert marked(mark) == []


def test_processes_elsewhere_are_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as other:
        assert end_processes(frozenset([(0, 0)])) == []
        assert alive(other.pid)
        other.kill()
