"""Where a system refuses: the reason in plain words, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pqtls.lab.mounts import name_files
from pqtls.lab.namespace import NamespacedLab
from pqtls.lab.namespace_refusal import NamespacesRefusedError, refusal
from tests.lab.namespace_tools import python, require_namespaces

START = "import json, os, sys\nsys.path[:] = json.loads(sys.argv[1])\n"

# Becomes an ordinary user in a user namespace: capabilities are there until the next exec.
CONFINE = """
from pqtls.lab.kernel import *
user, group = os.geteuid(), os.getegid()
unshare(CLONE_NEWUSER | CLONE_NEWNS)
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
write("/proc/self/setgroups", "deny")
write("/proc/self/uid_map", f"1000 {user} 1")
write("/proc/self/gid_map", f"1000 {group} 1")
"""

ASK = """
import threading
from pqtls.lab.namespace import find_namespace_obstacle
descriptors = set(os.listdir("/proc/self/fd"))
obstacle = find_namespace_obstacle()
assert set(os.listdir("/proc/self/fd")) == descriptors
assert threading.active_count() == 1
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print(obstacle)
"""

# Docker's default profile answers EPERM to unshare.
FILTER = """
import ctypes, struct
call = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
header = struct.pack("=H6xQ", len(code), ctypes.addressof(program))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, header) == 0
"""


def run_script(script: str, *arguments: str) -> str:
    path = json.dumps([each for each in sys.path if each])
    result = subprocess.run(
        python(START + script, path, *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def confined(setting: str) -> str:
    again = f"write('/proc/sys/user/{setting}', '0')\n" if setting else ""
    execute = "os.execv(sys.executable, [sys.executable, '-c', sys.argv[2], sys.argv[1]])"
    return run_script(CONFINE + again + execute, START + ASK)


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("max_user_namespaces", "make a user namespace (No space left on device)"),
        ("max_net_namespaces", "make a network namespace (No space left on device)"),
        ("max_mnt_namespaces", "put its own hosts file over /etc/hosts in a mount namespace (No space left on device)"),
    ],
)
def test_switched_off_by_a_limit(setting: str, what: str) -> None:
    require_namespaces()
    assert confined(setting) == (
        f"The system does not let the lab {what}: they are switched off here (user.{setting} is 0). "
        f"Its owner may allow it: sudo sysctl user.{setting}=10000"
    )


def test_the_same_without_the_limit() -> None:
    require_namespaces()
    assert confined("") == ""


def test_a_seccomp_filter() -> None:
    require_namespaces()
    obstacle = run_script(FILTER + ASK)
    kind = "network" if os.geteuid() == 0 else "user"
    assert obstacle.startswith(f"The system does not let the lab make a {kind} namespace (Operation not permitted)")
    assert "seccomp filter" in obstacle


def test_no_process_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    descriptors = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing itself opens one
    with pytest.raises(NamespacesRefusedError, match="start a process"), NamespacedLab():
        pass
    assert set(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("sys/kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"),
        ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "AppArmor"),
        ("self/status", "Name:\tpython\nSeccomp:\t2\nSeccomp_filters:\t1\n", "--security-opt seccomp=unconfined"),
        ("self/status", "Name:\tpython\nSeccomp:\t0\n", "As root, and outside of a chroot, it may be allowed."),
    ],
)
def test_each_refuser_is_named(tmp_path: Path, file: str, text: str, words: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text, encoding="ascii")
    error = refusal("user namespace", "Operation not permitted", tmp_path)
    assert words in str(error)
    assert error.exit_code == 3


ETC = """
import shutil, socket
for name in ("passwd", "group", "ssl"):
    assert os.path.exists("/etc/" + name), name
stage, *shape = sys.argv[2:]
mount("none", "/", flags=MS_REC | MS_PRIVATE)
os.mkdir(stage + "/etc")
shutil.copy("/etc/passwd", stage + "/etc/passwd")
os.mkdir(stage + "/etc/ssl")
with open(stage + "/etc/ssl/inside", "w") as file:
    file.write("inside")
os.symlink("ssl/inside", stage + "/etc/link")
if "hosts" in shape:
    write(stage + "/etc/hosts", "192.0.2.99 old.example\\n")
if "nsswitch" in shape:
    write(stage + "/etc/nsswitch.conf", "passwd: files\\nhosts: files dns\\n")
if "dangling" in shape:
    os.symlink("../run/nowhere/resolv.conf", stage + "/etc/resolv.conf")
if "linked" in shape:
    write(stage + "/resolv.conf", "nameserver 192.0.2.53\\n")
    os.symlink(stage + "/resolv.conf", stage + "/etc/resolv.conf")
mount(stage + "/etc", "/etc", flags=MS_BIND)
mount("tmpfs", "/run", "tmpfs")
os.mkdir("/run/nscd")
write("/run/nscd/socket", "")
from pqtls.lab.mounts import enter_private_names
enter_private_names({"a.example": "192.0.2.7"})
def read(path):
    with open(path) as file:
        return file.read()
assert read("/etc/hosts") == "127.0.0.1\\tlocalhost\\n::1\\tlocalhost\\n192.0.2.7\\ta.example\\n"
assert read("/etc/resolv.conf").startswith("# The lab")
assert read("/etc/nsswitch.conf").count("hosts:") == 1
assert ("passwd: files" in read("/etc/nsswitch.conf")) == ("nsswitch" in shape)
assert read("/etc/passwd") == read(stage + "/etc/passwd")
assert read("/etc/link") == read("/etc/ssl/inside") == "inside"
assert os.listdir("/run/nscd") == []
assert {i[4][0] for i in socket.getaddrinfo("a.example", 443)} == {"192.0.2.7"}
try:
    socket.getaddrinfo("old.example", 443)
except socket.gaierror:
    print(sorted(os.listdir(stage + "/etc")) == sorted(set(os.listdir(stage + "/etc"))))
"""


@pytest.mark.parametrize(
    "shape",
    [
        ["hosts", "nsswitch", "linked"],
        ["hosts", "nsswitch"],
        ["hosts", "nsswitch", "dangling"],
        ["nsswitch", "linked"],
        [],
    ],
    ids=lambda shape: "+".join(shape) or "none",
)
def test_whatever_etc_has(tmp_path: Path, shape: list[str]) -> None:
    """Files that are absent, links, and links that lead nowhere, in an /etc that stays as it was."""
    require_namespaces()
    assert run_script(CONFINE + ETC, str(tmp_path), *shape) == "True"
    assert ("hosts" in shape) == (tmp_path / "etc" / "hosts").exists()
    assert ("nsswitch" in shape) == (tmp_path / "etc" / "nsswitch.conf").exists()


def test_users_are_looked_up_as_the_system_has_it() -> None:
    files = name_files({}, "passwd: files sss\n  hosts: dns\n# hosts of old\ngroup: files\n")
    assert files["nsswitch.conf"] == "hosts: files\npasswd: files sss\n# hosts of old\ngroup: files\n"
