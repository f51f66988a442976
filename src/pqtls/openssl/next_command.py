"""The one command to go on with after an examination: one that works there as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.installed import Installed, list_installed
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.obstacles import find_graft_obstacle, find_policy_obstacle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.openssl.sources import Source
    from pqtls.openssl.ways import WayReport

_OLDEST_PYTHON = (3, 10)
# What `pqtls test` needs beside pqtls itself, as its metadata names it: `moto[server]>=5.0; extra == 'aws'`.
_TEST_REQUIREMENT = re.compile(r"^Requires-Dist: ([A-Za-z0-9._-]+).*\bextra == ['\"](?:suite|aws)['\"]", re.MULTILINE)


def choose_next_command(
    interpreter: Interpreter,
    installed: Installed,
    ways: Sequence[WayReport],
    sources: Sequence[Source],
    *,
    is_standalone: bool,
) -> str:
    """Choose the command.

    Args:
        interpreter: The examined one.
        installed: What is installed in its environment.
        ways: The three ways, each possible or not.
        sources: Every OpenSSL found that could be grafted, the rejected ones too.
        is_standalone: The doctor runs from its one-file form: pqtls itself may have to be installed.

    Returns:
        The command; where there is none, a sentence on what to do.
    """
    is_able = any(way.is_possible for way in ways if way.kind != "system")
    is_forbidden = find_graft_obstacle(interpreter) is not None or find_policy_obstacle() is not None
    lacks_a_source = not sources and not is_forbidden
    if not is_able and not lacks_a_source:
        graft = next(way for way in ways if way.kind == "graft")
        return graft.next_step or "use a Python built with OpenSSL 3.5 or newer"
    has_pqtls = "pqtls" in installed.found
    if not is_able or (is_standalone and not has_pqtls):
        return _install(interpreter, installed, is_standalone=is_standalone)
    if not is_standalone and not _runs_pqtls(interpreter):
        return f"pqtls run -- {shlex.quote(str(interpreter.executable))} YOUR_PROGRAM.py"
    if _lacks_clients(installed):
        return _install(interpreter, installed, is_standalone=is_standalone)
    return "pqtls test"


def _runs_pqtls(interpreter: Interpreter) -> bool:
    """Tell whether it is the one that runs this: the same environment, by whichever of its names."""
    return interpreter.executable.parent == Path(sys.executable).parent


def _lacks_clients(installed: Installed) -> bool:
    """Tell whether something is missing that `pqtls test` needs; what pqtls's metadata does not tell is not missing."""
    _, folder = installed.found.get("pqtls", ("", Path()))
    try:
        metadata = (folder / "METADATA").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    needed = {re.sub(r"[-_.]+", "-", name).lower() for name in _TEST_REQUIREMENT.findall(metadata)}
    return not needed <= installed.found.keys()


def _install(interpreter: Interpreter, installed: Installed, *, is_standalone: bool) -> str:
    """Return how pqtls and all that it needs come to where they can be: not to each Python, nor by its pip."""
    if (not is_standalone and not _runs_pqtls(interpreter)) or not _can_run_pqtls(interpreter):
        interpreter = inspect_interpreter(sys.executable)
        installed = list_installed(interpreter)
    python = shlex.quote(str(interpreter.executable))
    if "pip" in installed.found and not installed.is_externally_managed:
        return f"{python} -m pip install 'pqtls[all]'"
    return f"{python} -m venv ~/pqtls && ~/pqtls/bin/pip install 'pqtls[all]'"


def _can_run_pqtls(interpreter: Interpreter) -> bool:
    return tuple(int(part) for part in interpreter.version.split(".")[:2]) >= _OLDEST_PYTHON
