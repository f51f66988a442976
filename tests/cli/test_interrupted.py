"""Ctrl-C before the command line is even loaded: a second on a busy machine, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The import hook stands for a person who presses Ctrl-C while modules load.
HOOK = """
import importlib.abc, os, signal, sys
class Press(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "pqtls.cli.path":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
sys.argv = ["pqtls", "--help"]
from pqtls.__main__ import main
main()
"""


def test_no_traceback_while_modules_load(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    words = [sys.executable, "-c", HOOK]
    found = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "pqtls: interrupted.\n")


def test_the_script_starts_there() -> None:
    project = Path(__file__).parent.parent.parent / "pyproject.toml"
    assert '\npqtls = "pqtls.__main__:main"\n' in project.read_text(encoding="utf-8")
