"""Real virtual environments for tests, what a program in one sees, and a hash of the whole tree."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pqtls.openssl.enable import Enabled, Request, disable, enable
from pqtls.openssl.venv import Venv, find_venv
from pqtls.openssl.venv_settings import plan_settings

VERSION = "import ssl; print(ssl.OPENSSL_VERSION)"
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
"""As bare as cron's."""


def make_venv(root: Path, python: str = sys.executable, *, with_pip: bool = False) -> Path:
    """Make an environment; without pip it takes 0.1 s."""
    command = [python, "-m", "venv", *([] if with_pip else ["--without-pip"]), str(root)]
    subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True)
    return root


def enable_venv(
    root: Path, request: Request | None = None, environment: Mapping[str, str] = ENVIRONMENT
) -> tuple[Venv, Enabled]:
    venv = find_venv(root, environment)
    return venv, enable(venv, request or Request(), environment)


def required(groups: str = "", *, require_pq: bool = True) -> Request:
    """What the command line would ask for."""
    settings = plan_settings(groups, require_pq=require_pq)
    return Request(
        require_pq=require_pq,
        plugins=settings.plugins,
        settings=settings.values,
        has_own_list=settings.has_own_list,
        command=settings.command,
    )


def disable_venv(root: Path) -> bool:
    return disable(root.resolve())


def run(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python as a service would: in an empty environment."""
    return subprocess.run(
        [str(root / "bin" / "python"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def says_again(text: str, root: Path, options: str = "") -> bool:
    """It says what to type; if the loader is there, it names this environment."""
    said = re.search(r"; run `([^`]+)` again$", text, re.MULTILINE)
    where = [] if "pqtls: its loader is gone" in text else ["--venv", str(root)]
    return said is not None and shlex.split(said[1]) == ["pqtls", "enable", *options.split(), *where]


def hash_tree(root: Path) -> str:
    """Hash every name, mode, link and byte below a folder."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            status = path.lstat()
            content = b""
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            digest.update(f"{path.relative_to(root)}\0{status.st_mode:o}\0".encode())
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
