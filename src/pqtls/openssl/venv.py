"""Which virtual environment is meant, and where in it things lie; its Python is asked without its `.pth` files.

Only virtual environments are switched. A system's Python runs the system's own tools (apt, dnf, cloud-init), is
shared by users who did not ask, and belongs to a package manager that would not know of the change.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.openssl.child import MARK, ask
from pqtls.openssl.environment import strip_graft
from pqtls.openssl.paths import exists, is_file
from pqtls.openssl.private_folder import find_parent_obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GRAFT_FOLDER = "pqtls-graft"
"""Below an environment's lib/."""

OLDEST = (3, 8)
"""The oldest Python that is enabled: the loader and the recorder have its syntax."""

PATIENCE_S = 120.0
"""An enable takes 2 s; on a machine that is busy, several at once take their time."""
_POLL_S = 0.05

# Runs in the environment's Python, without `site`: sys.prefix may be that of its base (before 3.14).
_SCRIPT = """
import json, sys, sysconfig
base = {"base": sys.argv[1], "platbase": sys.argv[1]}
print("@MARK@" + json.dumps({
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "base_prefix": sys.base_prefix,
    "site_packages": sysconfig.get_path("purelib", "posix_prefix", base),
}))
""".replace("@MARK@", MARK)


@dataclass(frozen=True, slots=True)
class Venv:
    """A virtual environment.

    Attributes:
        root: Its folder, symbolic links resolved.
        python: Its interpreter.
        site_packages: Where its packages are installed.
        version: Of its Python, such as (3, 11, 7).
        implementation: "cpython", "pypy".
        base_prefix: sys.base_prefix of its Python.
        chosen_by: How it was found: "--venv", "VIRTUAL_ENV" or "the environment that pqtls runs in".
    """

    root: Path
    python: Path
    site_packages: Path
    version: tuple[int, ...]
    implementation: str
    base_prefix: str
    chosen_by: str

    @property
    def graft_root(self) -> Path:
        """Where everything of ours lies that is not in site-packages."""
        return graft_root(self.root)

    def name_in(self, command: str) -> str:
        """Return a command line that means this environment wherever it is typed, in cron too.

        Args:
            command: Such as "pqtls status".
        """
        return f"{command} --venv {shlex.quote(str(self.root))}"


def graft_root(root: Path) -> Path:
    """Return where everything of ours lies that is not in site-packages.

    Args:
        root: The environment's folder.
    """
    return root / "lib" / GRAFT_FOLDER


def find_venv(named: Path | None, environment: Mapping[str, str] | None = None) -> Venv:
    """Find the virtual environment that is meant.

    Args:
        named: What the user named; None for $VIRTUAL_ENV, else the one that pqtls runs in.
        environment: Whose VIRTUAL_ENV; None for this process's environment.

    Returns:
        The environment, its Python asked.

    Raises:
        UsageError: There is none, or its Python does not start or is too old.
    """
    given = os.environ if environment is None else environment
    root, chosen_by = choose_root(named, given)
    python = next((path for name in ("python", "python3") if is_file(path := root / "bin" / name)), None)
    if python is None:
        raise UsageError(f"{root} has no bin/python.", "Make the environment anew: python3 -m venv DIR.")
    answer = ask(python, _SCRIPT, [str(root)], strip_graft(given), is_bare=True)
    if answer.value is None:
        raise UsageError(f"{python} {answer.failure}.", "Make the environment anew: python3 -m venv DIR.")
    version = tuple(int(part) for part in answer.value["version"])
    if version[:2] < OLDEST:
        raise UsageError(
            f"{python} is Python {version[0]}.{version[1]}; enable needs {OLDEST[0]}.{OLDEST[1]} or newer.",
            "Use `pqtls run`, or a newer Python.",
        )
    return Venv(
        root=root,
        python=python,
        site_packages=Path(str(answer.value["site_packages"])),
        version=version,
        implementation=str(answer.value["implementation"]),
        base_prefix=str(answer.value["base_prefix"]),
        chosen_by=chosen_by,
    )


def choose_root(named: Path | None, environment: Mapping[str, str] | None = None) -> tuple[Path, str]:
    """Decide which virtual environment is meant; its Python is not asked and need not start.

    Args:
        named: What the user named; None for $VIRTUAL_ENV, else the one that pqtls runs in.
        environment: Whose VIRTUAL_ENV; None for this process's environment.

    Returns:
        Its folder, symbolic links resolved, and how it was found.

    Raises:
        UsageError: There is none, or it is another user's, and we are root.
    """
    activated = (os.environ if environment is None else environment).get("VIRTUAL_ENV", "")
    if named is not None:
        folder, chosen_by = named, "--venv"
    elif activated:
        folder, chosen_by = Path(activated), "VIRTUAL_ENV"
    elif sys.prefix != sys.base_prefix:
        folder, chosen_by = Path(sys.prefix), "the environment that pqtls runs in"
    else:
        raise UsageError(
            f"There is no virtual environment here: pqtls runs in {sys.prefix}, and VIRTUAL_ENV is not set.",
            "Name one: --venv DIR. A system's Python is not switched as a whole, since the system's own tools run on "
            "it; `pqtls run` and `pqtls shell` work with it.",
        )
    try:
        root = folder.resolve(strict=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be examined: {error.strerror}.", "Name a virtual environment.") from error
    if not is_file(root / "pyvenv.cfg"):
        raise UsageError(
            f"{folder} is no virtual environment: it has no pyvenv.cfg.",
            "Make one (python3 -m venv DIR). A system's or conda's Python is not switched as a whole; `pqtls run` and "
            "`pqtls shell` work with it.",
        )
    _protect_root(root)
    return root, chosen_by


def _protect_root(root: Path) -> None:
    """Refuse that root runs, or changes by name, what another user can replace: it would be that user's way to root."""
    if os.geteuid() != 0:
        return
    folders = [root / name for name in ("bin", "lib") if exists(root / name)]
    for folder in (root, *folders, *(each.resolve() for each in folders)):
        obstacle = find_parent_obstacle(folder / "any")
        if obstacle:
            raise UsageError(
                f"{obstacle}, so root does not run or change what is in it.",
                "Run it as the owner of the environment (sudo -u OWNER pqtls ...), and take write permission from "
                "others (chmod go-w).",
            )


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold an environment against other enables and disables; they wait. It leaves nothing behind.

    Args:
        root: The environment's folder.

    Yields:
        While nobody else holds it.

    Raises:
        UsageError: Somebody else holds it for longer than one of them can take.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, root)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, root: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:  # whoever can read the folder can lock it
                raise UsageError(
                    f"{root} has been locked by another process for {PATIENCE_S:g} seconds.",
                    f"`fuser {root}` says by which; if it is no `pqtls enable` or `disable`, end it.",
                ) from error
            time.sleep(_POLL_S)
        except OSError as error:
            # NFS has no locks on folders. Every step is a rename all the same, so that two at once leave one of them.
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            return
        else:
            return
