"""Which distributions the programs of an interpreter can import, told by the names of its folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pqtls.openssl.child import MARK, ask

if TYPE_CHECKING:
    from pqtls.openssl.interpreter import Interpreter

# Runs in the examined interpreter: Python 3.6 syntax. `-I` leaves out PYTHONPATH and the user's own packages, which
# the programs of this interpreter do see.
_SCRIPT = r"""
import json, os, re, sys, sysconfig
answer = {"path": [], "found": {}}
user_site = sys.argv[1]
is_venv = sys.prefix != getattr(sys, "base_prefix", sys.prefix)
marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
answer["is_externally_managed"] = not is_venv and os.path.exists(marker)
sees_system = True
if is_venv:
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg")) as lines:
            sees_system = any(re.match(r"(?i)include-system-site-packages\s*=\s*true", line) for line in lines)
    except (OSError, UnicodeError):
        pass
named = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
own = [user_site] if user_site and sees_system and not os.environ.get("PYTHONNOUSERSITE") else []
for entry in named + [each for each in sys.path if each] + [each for each in own if os.path.isdir(each)]:
    if entry not in answer["path"]:
        answer["path"].append(entry)
for entry in answer["path"]:
    try:
        names = sorted(os.listdir(entry))
    except OSError:
        continue
    for name in names:
        match = re.match(r"([A-Za-z0-9._]+?)-([0-9][A-Za-z0-9._+!]*?)(?:-py[0-9.]+)?\.(?:dist-info|egg-info)$", name)
        if match:
            key = re.sub(r"[-_.]+", "-", match.group(1)).lower()
            answer["found"].setdefault(key, [match.group(2), os.path.join(entry, name)])
print("@MARK@" + json.dumps(answer))
""".replace("@MARK@", MARK)


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed in an interpreter's environment.

    Attributes:
        path: Its sys.path, with PYTHONPATH and the user's own packages where programs see them.
        found: Normalised name to (version, metadata folder).
        is_externally_managed: Its pip refuses to install anything (PEP 668), as Debian's does outside of a venv.
    """

    path: tuple[str, ...]
    found: dict[str, tuple[str, Path]]
    is_externally_managed: bool = False


def list_installed(interpreter: Interpreter) -> Installed:
    """List the distributions that an interpreter's programs can import, from its folders' names alone.

    Args:
        interpreter: As inspected.
    """
    user_site = str(interpreter.site_packages[-1]) if interpreter.site_packages else ""
    answer = ask(interpreter.executable, _SCRIPT, [user_site])
    value: dict[str, Any] = answer.value or {"path": [], "found": {}}
    found = {name: (str(version), Path(folder)) for name, (version, folder) in value["found"].items()}
    return Installed(tuple(value["path"]), found, bool(value.get("is_externally_managed")))
