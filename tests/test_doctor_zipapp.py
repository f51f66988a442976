"""doctor.pyz: one file that needs only Python, the same bytes from the same source, the same findings as installed."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.schemas import validate

ROOT = Path(__file__).parent.parent
PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]
# What an interpreter is and has; the ways also depend on the wheels beside the pqtls that looks.
SAME = [
    *("schema", "pqtls", "system", "python", "openssl", "handshake_in_memory", "stacks", "through_ssl"),
    *("surroundings", "aws"),
]


def find_pythons() -> list[str]:
    """Return every CPython >= 3.10 of pyenv, and the system's."""
    found = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))]
    found += [path for path in ("/usr/bin/python3",) if Path(path).exists()]
    script = "import sys; sys.exit(sys.version_info < (3, 10) or sys.implementation.name != 'cpython')"
    return [path for path in found if subprocess.run([path, "-c", script], check=False).returncode == 0]


def build(target: Path, **environment: str) -> Path:
    script = ROOT / "scripts" / "build_doctor.py"
    command = [sys.executable, str(script), str(target)]
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True)
    return target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "doctor.pyz")


@pytest.fixture
def alone(built: Path, tmp_path: Path) -> Path:
    """The file in an otherwise empty folder."""
    folder = tmp_path / "server"
    folder.mkdir()
    return Path(shutil.copy(built, folder))


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as `env -i` would."""
    return subprocess.run(command, env={}, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def examine(command: list[str], folder: Path) -> dict[str, Any]:
    done = run([*command, "--json"], folder)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert validate(found) == "doctor-1"
    assert done.returncode == (0 if found["able"] else 1)
    return found


def test_the_same_source_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again.pyz", TZ="Pacific/Kiritimati", PYTHONHASHSEED="1", LC_ALL="C")
    assert again.read_bytes() == built.read_bytes()


def test_it_holds_what_the_doctor_needs_and_no_more(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names)
    rooms = {name.split("/")[1] for name in names if name.startswith("pqtls/")}
    assert rooms == {"__init__.py", "ending", "errors.py", "evidence.py", "openssl", "report", "wire"}
    assert all(name.endswith(".py") for name in names)


@pytest.mark.parametrize("python", find_pythons())
def test_it_finds_what_the_installed_doctor_finds(python: str, alone: Path) -> None:
    found = examine([python, "-I", alone.name], alone.parent)
    installed = examine([*PQTLS, "doctor", "--python", python], alone.parent)
    assert {name: found[name] for name in SAME} == {name: installed[name] for name in SAME}
    assert list(alone.parent.iterdir()) == [alone]


def test_where_pqtls_is_installed_it_says_word_for_word_the_same(alone: Path) -> None:
    found = examine([sys.executable, "-I", alone.name], alone.parent)
    installed = examine([*PQTLS, "doctor", "--python", sys.executable], alone.parent)
    assert found == installed
    assert found["next_command"].startswith("pqtls ")


def test_the_screen_is_the_same_too(alone: Path) -> None:
    done = run([sys.executable, "-I", alone.name], alone.parent)
    installed = run([*PQTLS, "doctor", "--python", sys.executable], alone.parent)
    assert done.stdout == installed.stdout
    assert done.returncode == installed.returncode


def next_command_of(python: Path | str, alone: Path, *arguments: str) -> str:
    done = run([str(python), "-I", alone.name, *arguments], alone.parent)
    assert "\x1b" not in done.stdout
    return done.stdout.splitlines()[-1].removeprefix("next     ")


def make_bare_venv(folder: Path) -> Path:
    """Make a venv with nothing in it, not even pip, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def test_where_pqtls_is_not_installed_it_says_how(alone: Path, tmp_path: Path) -> None:
    """By its own pip where there is one; else by that of a new venv."""
    python = make_bare_venv(tmp_path / "bare")
    assert next_command_of(python, alone) == f"{python} -m venv ~/pqtls && ~/pqtls/bin/pip install 'pqtls[all]'"
    (site,) = (tmp_path / "bare" / "lib").glob("python*/site-packages")
    (site / "pip-24.0.dist-info").mkdir()
    assert next_command_of(python, alone) == f"{python} -m pip install 'pqtls[all]'"


def test_no_pip_is_named_that_would_refuse(alone: Path) -> None:
    """Debian's own Python has a pip, which installs nothing outside of a venv (PEP 668)."""
    system = "/usr/bin/python3"
    script = "import os, pip, sysconfig; print(os.listdir(sysconfig.get_path('stdlib')))"
    done = subprocess.run([system, "-I", "-c", script], capture_output=True, text=True, check=False)
    if "EXTERNALLY-MANAGED" not in done.stdout:
        pytest.skip(f"{system} has no pip, or one that is not externally managed")
    assert next_command_of(system, alone).startswith(f"{system} -m venv ~/pqtls && ")


def test_pqtls_is_not_to_be_installed_where_it_cannot_run(alone: Path, tmp_path: Path) -> None:
    """A Python older than 3.10 can be grafted; pqtls itself belongs to a newer one."""
    old = next(iter(sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python3"))), None)
    if old is None:
        pytest.skip("no Python 3.8 or 3.9 here")
    python = make_bare_venv(tmp_path / "bare")
    assert next_command_of(python, alone, "--python", str(old)).startswith(f"{python} -m venv ~/pqtls && ")


def test_no_interpreter(alone: Path) -> None:
    done = run([sys.executable, "-I", alone.name, "--python", "/bin/true"], alone.parent)
    assert done.returncode == 2
    assert "is not a usable Python" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_old_a_python_says_so(alone: Path) -> None:
    old = next(iter(sorted(Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python3"))), None)
    if old is None:
        pytest.skip("no Python older than 3.10 here")
    done = run([str(old), "-I", alone.name], alone.parent)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("it examines older ones with --python.")
    examine([sys.executable, "-I", alone.name, "--python", str(old)], alone.parent)


def test_colours_on_a_terminal_alone(alone: Path) -> None:
    def show(**environment: str) -> bytes:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-I", alone.name]
        process = subprocess.Popen(command, stdout=theirs, env=environment, cwd=alone.parent)
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65_536):
                shown += data
        except OSError:
            pass  # Linux says so when the last writer is gone
        os.close(ours)
        assert process.wait(timeout=30) in (0, 1)
        return shown

    assert b"\x1b[" in show(TERM="xterm")
    assert b"\x1b" not in show(TERM="xterm", NO_COLOR="1")
