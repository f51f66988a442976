"""A folder goes, whatever was put into it, and nothing beside it does."""

from __future__ import annotations

import inspect
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pqtls.ending import removal
from pqtls.ending.removal import remove

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def fill(folder: Path, outside: Path) -> None:
    """Put into a folder what a hostile program might."""
    folder.mkdir()
    (folder / "to-file").symlink_to(outside / "file")
    (folder / "to-folder").symlink_to(outside)
    (folder / "dangling").symlink_to("/nonexistent")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(folder)  # a socket's path may not be long
        listener.bind("socket")
        os.chdir(before)
    (folder / "inner").mkdir()
    (folder / "inner" / "up").symlink_to("../..")
    (folder / "inner" / "d").mkdir()
    (folder / "inner" / "d" / "file").write_text("x")
    (folder / os.fsdecode(b"bad\xff\nname")).write_text("x")
    deep = folder
    for _ in range(100):
        deep = deep / "deep"
        deep.mkdir()
    for path in (folder / "inner" / "d", folder / "inner", folder / "deep" / "deep", folder):
        path.chmod(0)


def test_whatever_is_in_it(place: Path) -> None:
    outside = place / "outside"
    outside.mkdir(mode=0o700)
    (outside / "file").write_text("mine")
    fill(place / "folder", outside)
    (place / "link").symlink_to(outside)
    assert remove(str(place / "folder"), 1.0)
    assert remove(str(place / "link"), 1.0)
    assert remove(str(place / "nothing"), 1.0)
    assert [path.name for path in place.iterdir()] == ["outside"]
    assert (outside / "file").read_text() == "mine"
    assert outside.stat().st_mode & 0o777 == 0o700


def test_without_root(place: Path) -> None:
    """Modes stop an ordinary user, where root would not even notice."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can become another user, by setpriv")
    os.chown(place, NOBODY, NOBODY)
    shutil.copy(removal.__file__, place / "removal.py")
    script = (
        "import os, socket, sys\nfrom pathlib import Path\nplace = Path(sys.argv[1])\n"
        "sys.path.append(sys.argv[1])\nsys.dont_write_bytecode = True\nfrom removal import remove\n"
        f"{inspect.getsource(fill)}\n"
        "(place / 'outside').mkdir(mode=0o500)\nfill(place / 'folder', place / 'outside')\n"
        "assert remove(sys.argv[1] + '/folder', 1.0)\n"
        "print(oct((place / 'outside').stat().st_mode), *sorted(path.name for path in place.iterdir()))"
    )
    done = subprocess.run(
        [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python_for_all(), "-c", script, place],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.stdout == "0o40500 outside removal.py\n", done.stderr


def python_for_all() -> str:
    """Return a Python that every user can start: this one may lie where only its owner can go."""
    for python in (Path(sys.executable), Path("/usr/bin/python3")):
        if python.exists() and all(parent.stat().st_mode & 0o001 for parent in python.resolve().parents):
            return str(python)
    pytest.skip("no Python here that another user may start")


def test_what_cannot_be_removed_is_told_in_time() -> None:
    assert not removal.remove("/proc/self/ns", 0.2)
