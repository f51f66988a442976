"""Is an environment's TLS really held to what `pqtls enable` was asked to hold it to?

What counts is the ClientHello of an ordinary start of its Python, and the guard in place there; and, before anything
is written, whether its OpenSSL can be told at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pqtls.inject
from pqtls.errors import UsageError
from pqtls.evidence import is_post_quantum_group
from pqtls.openssl.child import MARK, ask
from pqtls.openssl.groups_conf import find_group_mismatch
from pqtls.openssl.venv_settings import GUARD, SETTINGS
from pqtls.wire.groups import group_name, is_grease

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pqtls.openssl.probe import Probe
    from pqtls.openssl.venv import Venv

_TLS13 = 0x0304

# Runs in the environment's Python, which is told nothing yet.
_SCRIPT = """
import importlib.util, json, ssl, sys
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("pqtls_settings", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print("@MARK@" + json.dumps({"obstacle": module.find_obstacle()}))
""".replace("@MARK@", MARK)


def find_settings_obstacle(venv: Venv, environment: Mapping[str, str]) -> str:
    """Say why the OpenSSL of an environment's Python cannot be told its groups; "" if it can.

    Args:
        venv: The environment.
        environment: What its Python is started with.
    """
    path = Path(pqtls.inject.__file__).with_name(f"{SETTINGS}.py")
    answer = ask(venv.python, _SCRIPT, [str(path)], environment, is_bare=True)
    return f"it {answer.failure}" if answer.value is None else str(answer.value["obstacle"])


def list_offered(probe: Probe) -> list[str]:
    """Return the names of the groups that a ClientHello offered, without GREASE.

    Args:
        probe: What the interpreter did.
    """
    return [group_name(code) for code in probe.offered_groups if not is_grease(code)]


def find_unheld(plugins: Sequence[str], settings: Mapping[str, Any], probe: Probe, *, has_guard: bool) -> list[str]:
    """Say in what an ordinary start of an environment's Python is not held to its settings.

    Args:
        plugins: Modules that should be installed in it.
        settings: What they were given.
        probe: What it did.
        has_guard: The guard was in place in it.

    Returns:
        Each a sentence; empty if it is held.
    """
    found = []
    groups = str(settings.get("groups") or "")
    if SETTINGS in plugins:
        try:
            found.append(find_group_mismatch(probe, groups) if groups else "")
        except UsageError as error:
            found.append(str(error))
        codes = [code for code in probe.offered_groups if not is_grease(code)]
        is_pure = all(map(is_post_quantum_group, codes)) and set(probe.offered_versions) == {_TLS13}
        if settings.get("require") and codes and not is_pure:
            found.append(f"{probe.openssl_version} offers more than post-quantum TLS 1.3.")
    if GUARD in plugins and not has_guard:
        found.append("The guard is not in place: a connection that is not post-quantum would not be refused.")
    return [why for why in found if why]
