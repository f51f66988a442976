"""All tests of the namespaces once more, as an ordinary user: root may have them another way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from tests.lab.namespace_tools import require_namespaces

NOBODY = 65534
ROOT = Path(__file__).parent.parent.parent
TESTS = ("test_namespace.py", "test_namespace_endings.py", "test_namespace_refusals.py", "test_path_lab.py")


def _as_nobody(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT / "src"), sysconfig.get_path("purelib")]
    return subprocess.run(
        [shutil.which("setpriv") or "", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command],
        env={"PATH": os.defpath, "HOME": folder, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def _find_python(folder: str) -> str:
    """Return an interpreter that this user may run, too: the developer's own is often in root's home folder."""
    again = (
        "import cryptography.x509, pytest, pqtls, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            if _as_nobody([candidate, "-c", again], folder).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip(f"user {NOBODY} can run no Python {version} with what the tests need")


def test_as_an_ordinary_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    if not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is not installed")
    require_namespaces()
    with tempfile.TemporaryDirectory(prefix="pqtls-nobody-") as folder:
        os.chown(folder, NOBODY, NOBODY)
        python = _find_python(folder)
        options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tests"]
        files = [f"tests/lab/{name}" for name in TESTS]
        result = _as_nobody([python, "-m", "pytest", *options, *files], folder)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-1000:]
    assert " passed" in result.stdout
    skipped = [line for line in result.stdout.splitlines() if line.startswith("SKIPPED")]
    if skipped:
        pytest.skip(f"passed as user {NOBODY}, but for: {'; '.join(skipped)}")
