"""OpenSSH under a graft: a build that refuses a newer libcrypto, and the real one with a real server."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pqtls.errors import UsageError
from pqtls.openssl.environment import strip_graft
from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.openssh import find_wrapper, keep_openssh_working, wrapper_folder
from tests.openssl.handshakes import free_port, wait_for_port

PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]

# What OpenSSH before 9.4 does (entropy.c, seed_rng): the libcrypto that is really loaded must be the one of the build.
REFUSING = """#!{python} -I
import os, ssl, sys
if ssl.OPENSSL_VERSION != {version!r}:
    sys.exit("OpenSSL version mismatch. Built against " + {version!r} + ", you have " + ssl.OPENSSL_VERSION)
print(os.path.basename(sys.argv[0]), sys.argv[1:], os.environ.get("LD_LIBRARY_PATH"))
"""


@pytest.fixture
def refusing(tmp_path: Path, interpreter: Interpreter, graft: Graft) -> Path:
    """A folder with an ssh, scp and ssh-keygen that refuse the graft."""
    if graft.source.version == interpreter.openssl_version:
        pytest.skip("the graft is no newer than the interpreter's own OpenSSL")
    folder = tmp_path / "refusing bin"
    folder.mkdir()
    for name in ("ssh", "scp", "ssh-keygen"):
        script = folder / name
        script.write_text(REFUSING.format(python=sys.executable, version=interpreter.openssl_version))
        script.chmod(0o755)
    return folder


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def run_in_path(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As a program does that looks for another on its PATH."""
    return run(["/bin/sh", "-c", 'exec "$0" "$@"', *command], environment)


def test_an_openssh_that_accepts_it_is_left_alone(graft: Graft, tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "ssh").chmod(0o755)
    given = graft.apply({"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert keep_openssh_working(graft.folder, given) == given


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "no program", None])
def test_one_that_works_neither_way_is_left_alone(graft: Graft, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "ssh").write_text(text)
        (tmp_path / "ssh").chmod(0o755)
    given = graft.apply({"PATH": str(tmp_path)})
    assert keep_openssh_working(graft.folder, given) == given


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, None), ("/a", "/a"), ("/a:/b", "/a:/b"), ("/with space:/$HOME/'x'", "/with space:/$HOME/'x'")],
)
def test_only_the_graft_is_taken_out(graft: Graft, refusing: Path, before: str | None, after: str | None) -> None:
    given = {"PATH": f"{refusing}:/usr/bin:/bin"}
    if before is not None:
        given["LD_LIBRARY_PATH"] = before
    grafted = graft.apply(given)
    control = run_in_path(["ssh", "-V"], grafted)
    assert control.returncode != 0
    assert "version mismatch" in control.stderr
    kept = keep_openssh_working(graft.folder, grafted)
    assert kept["PATH"] == f"{wrapper_folder(kept)}:{grafted['PATH']}"
    assert {**kept, "PATH": ""} == {**grafted, "PATH": ""}
    arguments = ["-o", "ProxyCommand=x $(touch /tmp/no) `y` 'z'", "", "a\nb", "*"]
    for name in ("ssh", "scp", "ssh-keygen"):
        done = run_in_path([name, *arguments], kept)
        assert done.stdout.strip() == f"{name} {arguments} {after}", done.stderr


@pytest.mark.parametrize("given", ["{graft}", "/a:{graft}", "/a:{graft}:/b", "{graft}:{graft}:/b", ":/a:{graft}:/b:"])
def test_wherever_the_graft_stands(graft: Graft, refusing: Path, given: str) -> None:
    kept = keep_openssh_working(graft.folder, graft.apply({"PATH": f"{refusing}:/usr/bin:/bin"}))
    value = given.format(graft=graft.folder)
    done = run_in_path(["ssh"], {**kept, "LD_LIBRARY_PATH": value})
    expected = ":".join(each for each in value.split(":") if each != str(graft.folder)) or None
    assert done.stdout.strip() == f"ssh [] {expected}", done.stderr


def test_the_folder_is_private_and_used_again(graft: Graft, refusing: Path) -> None:
    grafted = graft.apply({"PATH": f"{refusing}:/usr/bin:/bin"})
    kept = keep_openssh_working(graft.folder, grafted)
    folder = Path(wrapper_folder(kept))
    assert folder.parent == graft.folder.parent
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o700}
    inode = folder.stat().st_ino
    assert keep_openssh_working(graft.folder, grafted) == kept
    assert folder.stat().st_ino == inode
    (folder / "ssh").write_text("#!/bin/sh\necho changed\n")
    assert keep_openssh_working(graft.folder, grafted) == kept
    assert "changed" not in (folder / "ssh").read_text(), "what was damaged is made anew"
    (folder / "ssh").chmod(0o777)
    with pytest.raises(UsageError, match="open to other users"):
        keep_openssh_working(graft.folder, grafted)
    shutil.rmtree(folder)
    assert not list(graft.folder.parent.glob(".making-*"))


def test_it_is_taken_out_again_with_the_graft(graft: Graft, refusing: Path) -> None:
    given = {"PATH": f"{refusing}:/usr/bin:/bin", "X": "1"}
    kept = keep_openssh_working(graft.folder, graft.apply(given))
    assert strip_graft(kept) == given
    assert keep_openssh_working(graft.folder, graft.apply(kept)) == kept, "a run inside a run changes nothing"


def test_a_program_named_by_its_path(graft: Graft, refusing: Path) -> None:
    kept = keep_openssh_working(graft.folder, graft.apply({"PATH": f"{refusing}:/usr/bin:/bin"}))
    assert find_wrapper(str(refusing / "ssh"), kept) == f"{wrapper_folder(kept)}/ssh"
    assert find_wrapper("/bin/sh", kept) == "/bin/sh"
    assert find_wrapper("/bin/sh", {"PATH": "/bin"}) == "/bin/sh"


def test_names_with_everything_a_shell_reads(graft: Graft, refusing: Path, tmp_path: Path) -> None:
    """The graft's and the programs' folders are data in the wrapper, never words of it."""
    odd = tmp_path / "a $(touch ran) `touch ran` 'q' \"d\" *\n#"
    shutil.copytree(refusing, odd / "bin")
    shutil.copytree(graft.folder, odd / "graft" / graft.folder.name)
    (odd / "graft").chmod(0o700)
    moved = replace(graft, folder=odd / "graft" / graft.folder.name)
    kept = keep_openssh_working(moved.folder, moved.apply({"PATH": f"{odd}/bin:/usr/bin:/bin"}))
    assert wrapper_folder(kept)
    done = subprocess.run(
        ["/bin/sh", "-c", "ssh -V"], env=kept, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ssh ['-V'] None", done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["by name", "by path", "by a child"])
def test_pqtls_run(form: str, refusing: Path) -> None:
    environment = {"PATH": f"{refusing}:/usr/bin:/bin", "HOME": str(Path.home())}
    command = {"by name": ["ssh"], "by path": [str(refusing / "ssh")], "by a child": ["sh", "-c", "ssh"]}[form]
    done = run([*PQTLS, "run", "--openssl", "graft", "--", *command], environment)
    assert (done.returncode, done.stdout.strip()) == (0, "ssh [] None"), done.stderr


def test_pqtls_shell(refusing: Path, tmp_path: Path) -> None:
    """Also where the user's own start-up file puts other folders first."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    (tmp_path / ".bashrc").write_text(f"PATH='{refusing}':$PATH\n")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SHELL": bash, "TERM": "dumb"}
    environment = {**environment, "PATH": f"{refusing}:/usr/bin:/bin", "XDG_CACHE_HOME": str(Path.home() / ".cache")}
    done = subprocess.run(
        [*PQTLS, "shell", "--openssl", "graft"],
        input="ssh one\nexit 3\n",
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "ssh ['one'] None" in done.stdout, done.stderr


@pytest.fixture(scope="module")
def tools() -> str:
    """PATH with the OpenSSH under test; PQTLS_OPENSSH names a folder with another one, such as an old build."""
    path = ":".join(filter(None, [os.environ.get("PQTLS_OPENSSH", ""), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]))
    for name in ("ssh", "sshd", "ssh-keygen", "git", "rsync"):
        if shutil.which(name, path=path) is None:
            if os.environ.get("PQTLS_NEED_PROGRAMS") == "1":
                pytest.fail(f"{name} is not installed")
            pytest.skip(f"{name} is not installed")
    return path


@contextlib.contextmanager
def ssh_server(folder: Path, path: str) -> Iterator[Path]:
    """Run an SSH server on loopback for this user's key.

    Yields:
        A client configuration in which it is called "here".
    """
    port = free_port()
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, env={"PATH": path}, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    (folder / "config").write_text(
        f"Host here\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n BatchMode yes\n StrictHostKeyChecking no\n UserKnownHostsFile {folder}/known\n"
    )
    sshd = shutil.which("sshd", path=path) or ""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation wants it
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(folder / "sshd_config")], env={"PATH": path}, stderr=log
        )
    try:
        wait_for_port(port, lambda: process.poll() is None)
        yield folder / "config"
    finally:
        process.terminate()
        process.wait(30)


def test_git_and_rsync_over_ssh(tools: str, tmp_path: Path) -> None:
    """Real programs and a real server; where this OpenSSH refuses the graft, the control without wrappers fails."""
    environment = {"PATH": tools, "HOME": str(Path.home())}
    repository, copied = tmp_path / "repository", tmp_path / "copied"
    assert run(["git", "init", "-q", "--bare", str(repository)], environment).returncode == 0
    commit = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@x"]
    tree = run([*commit, "hash-object", "-t", "tree", "-w", "--stdin"], environment).stdout.strip()
    made = run([*commit, "commit-tree", "-m", "first", tree], environment).stdout.strip()
    run([*commit, "update-ref", "refs/heads/main", made], environment)
    with ssh_server(tmp_path, tools) as config:
        environment["GIT_SSH_COMMAND"] = f"ssh -F '{config}'"
        before = [*PQTLS, "run", "--openssl", "graft", "--"]
        listed = run([*before, "git", "ls-remote", f"ssh://here{repository}"], environment)
        assert f"{made}\trefs/heads/main" in listed.stdout, (listed.stderr, (tmp_path / "log").read_text())
        done = run([*before, "rsync", "-e", f"ssh -F {config}", f"here:{tmp_path}/user.pub", str(copied)], environment)
        assert done.returncode == 0, done.stderr
        assert copied.read_bytes() == (tmp_path / "user.pub").read_bytes()
        done = run([*before, "ssh", "-F", str(config), "here", "echo", "$LD_LIBRARY_PATH-"], environment)
        assert done.stdout == "-\n", done.stderr


def test_ansible_over_ssh(tools: str, tmp_path: Path) -> None:
    """A module that is copied by sftp or scp and run by ssh, whose Python is not grafted there."""
    if shutil.which("ansible", path=tools) is None:
        if os.environ.get("PQTLS_NEED_PROGRAMS") == "1":
            pytest.fail("ansible is not installed")
        pytest.skip("ansible is not installed")
    environment = {
        "PATH": tools,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(Path.home() / ".cache"),
        "LANG": "C.UTF-8",
    }
    with ssh_server(tmp_path, tools) as config:
        settings = {"SSH_ARGS": f"-F {config} -o ControlMaster=no", "REMOTE_TMP": f"{tmp_path}/remote", "NOCOLOR": "1"}
        environment |= {f"ANSIBLE_{name}": value for name, value in settings.items()}
        before = [*PQTLS, "run", "--openssl", "graft", "--"]
        done = run([*before, "ansible", "all", "-i", "here,", "-m", "ping"], environment)
        assert '"ping": "pong"' in done.stdout, (done.stdout, done.stderr, (tmp_path / "log").read_text())
        code = "import os; print(os.environ.get(chr(76) + 'D_LIBRARY_PATH'))"
        there = [*before, "ansible", "all", "-i", "here,", "-m", "raw", "-a", f'/usr/bin/python3 -c "{code}"']
        assert "None" in run(there, environment).stdout.splitlines()
