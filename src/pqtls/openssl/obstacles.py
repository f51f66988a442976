"""What forbids a graft, told before anything is made: each with the reason and the way out."""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.paths import exists

if TYPE_CHECKING:
    from pqtls.openssl.interpreter import Interpreter

_CONTAINER = "or run in a container whose Python has OpenSSL 3.5, such as python:3-slim (Debian 13)"
_NEWER = (
    f"Use a Python with OpenSSL 3.5 (`uv python upgrade`, python.org, your distribution's next release), {_CONTAINER}."
)
_DISTRIBUTION = f"Use the distribution's own newer Python (such as `dnf install python3.12`), {_CONTAINER}."


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why there can be no graft.

    Attributes:
        reason: The second half of a sentence, after "but".
        next_step: What to do instead.
    """

    reason: str
    next_step: str


def find_policy_obstacle(root: Path = Path("/")) -> Obstacle | None:
    """Say whether this machine's crypto policy forbids an OpenSSL that does not know of it.

    Args:
        root: Where the file system starts.

    Returns:
        The obstacle for a graft that nobody asked for by name, None if there is none.
    """
    fips = _fips_obstacle(root)
    if fips is not None:
        return fips
    if exists(root / "etc/crypto-policies"):
        return Obstacle(
            "this machine's crypto-policies (/etc/crypto-policies) would not hold for an upstream OpenSSL.",
            f"{_DISTRIBUTION} `--openssl graft` insists.",
        )
    return None


def _fips_obstacle(root: Path = Path("/")) -> Obstacle | None:
    try:
        is_fips = (root / "proc/sys/crypto/fips_enabled").read_text(encoding="ascii").strip() == "1"
    except (OSError, ValueError):
        return None
    if not is_fips:
        return None
    return Obstacle("this machine is in FIPS mode, which an upstream OpenSSL would leave.", _DISTRIBUTION)


def find_venv_obstacle(
    interpreter: Interpreter, root: Path = Path("/"), *, has_to_follow_policies: bool = True
) -> Obstacle | None:
    """Say what forbids to enable a virtual environment.

    Args:
        interpreter: Its Python, as inspected.
        root: Where the file system starts.
        has_to_follow_policies: System-wide crypto-policies forbid it too; the user may insist.

    Returns:
        The obstacle, None if it may be tried. DT_RPATH is none: libraries that are mapped already win over it.
    """
    if interpreter.implementation != "cpython":
        return Obstacle(
            f"{interpreter.executable} is {interpreter.implementation}, whose `ssl` is not CPython's.",
            f"Use CPython; `pqtls run` changes the libraries of any program, {_CONTAINER}.",
        )
    if interpreter.is_musl:
        return Obstacle(
            f"{interpreter.executable} is linked to musl, which looks for libraries by name even if they are loaded.",
            f"Use `pqtls run`, which works there, {_CONTAINER}.",
        )
    obstacle = find_graft_obstacle(replace(interpreter, has_blocking_rpath=False), root)
    if obstacle is not None:
        return obstacle
    if _is_setuid(interpreter.executable):
        return Obstacle(
            f"{interpreter.executable} is setuid or setgid: it acts for more than the user who enables.",
            "Use a Python without these permissions.",
        )
    policy = find_policy_obstacle(root)
    if policy is not None and has_to_follow_policies:
        return Obstacle(policy.reason, f"{_DISTRIBUTION} `--ignore-crypto-policies` insists.")
    return None


def _is_setuid(executable: Path) -> bool:
    try:
        return bool(executable.stat().st_mode & (stat.S_ISUID | stat.S_ISGID))
    except OSError:
        return False


def find_graft_obstacle(interpreter: Interpreter, root: Path = Path("/")) -> Obstacle | None:
    """Say what makes a graft impossible for an interpreter.

    Args:
        interpreter: As inspected.
        root: Where the file system starts.

    Returns:
        The obstacle, None if a graft may be tried.
    """
    who = str(interpreter.executable)
    if interpreter.platform != "linux":
        return Obstacle(
            f"a graft works on Linux only (this is {interpreter.platform}).",
            f"Use a Python with OpenSSL 3.5 (Homebrew's, python.org's), {_CONTAINER}.",
        )
    reasons = {
        "no-ssl": f"{who} has no `ssl` module ({interpreter.ssl_error}).",
        "openssl-1.1": f"{who} is linked to {interpreter.openssl_version or 'OpenSSL 1.1'}, whose ABI ended with it.",
        "libressl": f"{who} is linked to {interpreter.openssl_version}, which OpenSSL cannot replace.",
        "other": f"{who} is linked to {interpreter.openssl_version}, which OpenSSL cannot replace.",
        "static": f"{who} has {interpreter.openssl_version} linked in statically, where nothing can replace it.",
    }
    if interpreter.linkage != "dynamic":
        return Obstacle(reasons[interpreter.linkage], _NEWER)
    if interpreter.has_blocking_rpath:
        return Obstacle(
            f"{who} finds its OpenSSL by DT_RPATH, over which LD_LIBRARY_PATH has no effect (conda builds so).",
            "Make a virtual environment of it (python -m venv DIR) and run `pqtls enable --venv DIR`, which works "
            f"there; or update its OpenSSL (`conda install 'openssl>=3.5'`), {_CONTAINER}.",
        )
    return _fips_obstacle(root)
