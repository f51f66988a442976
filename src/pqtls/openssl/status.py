"""What is active in a virtual environment, from where, how old, and whether it really does post-quantum TLS.

All bytes are hashed, and the environment's Python is started as any program starts it: what counts is which libssl
it mapped and what a handshake in memory just did, not what the manifest promises.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pqtls.errors import EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_PROVEN, UsageError
from pqtls.openssl.child import MARK, ask
from pqtls.openssl.environment import strip_graft
from pqtls.openssl.graft import LIBSSL
from pqtls.openssl.held import find_unheld, list_offered
from pqtls.openssl.probe import Probe, forget_probes, probe_mlkem
from pqtls.openssl.venv_files import is_touched
from pqtls.openssl.venv_manifest import VenvManifest, find_active_id, read_manifest, read_version
from pqtls.openssl.venv_settings import GUARD, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pqtls.openssl.venv import Venv

SCHEMA = "pqtls/status/1"

State = Literal["active", "stepped-aside", "native", "off", "unknown"]

_KINDS = {
    "graft": "The graft is damaged",
    "loader": "The loader is damaged",
    "source": "What it was made from changed",
    "own": "The OpenSSL that it stands in for changed",
}

# Runs in the environment's Python as any program does.
_SCRIPT = """
import json, sys
loader = sys.modules.get("_pqtls_graft")
answer = {"loader": None if loader is None else (loader._state or [""])[0], "libssl": [], "error": "", "guard": False}
try:
    import ssl
    answer["guard"] = bool(getattr(getattr(ssl, "_pqtls_guard", None), "is_everywhere", False))
except Exception as error:
    answer["error"] = "{}: {}".format(type(error).__name__, error)
with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
    for line in lines:
        path = line.rstrip("\\n").partition("/")[2]
        if "libssl" in path and "/" + path not in answer["libssl"]:
            answer["libssl"].append("/" + path)
print("@MARK@" + json.dumps(answer))
""".replace("@MARK@", MARK)


@dataclass(frozen=True, slots=True)
class VenvStatus:
    """What was found.

    Attributes:
        venv: The environment.
        state: "active": the graft is loaded; "native": its own OpenSSL does ML-KEM, and is held to the settings of
            `enable` if there are any; "stepped-aside": enabled, but the graft is not loaded, or its own OpenSSL is
            not held; "off": not enabled, and without ML-KEM; "unknown": its Python did not answer,
            or its `ssl` made no handshake.
        manifest: Of what `enable` made; None if it made nothing, or it cannot be read.
        findings: What is wrong, each a sentence.
        unheld: Those of them that say what it is not held to.
        probe: What a handshake in memory did.
        hashed_at_start_bytes: What each start of its Python reads to tell that nothing changed, where times do not.
    """

    venv: Venv
    state: State
    manifest: VenvManifest | None
    findings: tuple[str, ...]
    probe: Probe
    unheld: tuple[str, ...] = ()
    hashed_at_start_bytes: int = 0

    @property
    def is_proven(self) -> bool:
        """A handshake in memory just finished with ML-KEM."""
        return self.probe.has_mlkem

    @property
    def group(self) -> str:
        """The group that it chose; "" without one."""
        return self.probe.group

    @property
    def detail(self) -> str:
        """What the handshake did, as a sentence."""
        return self.probe.explanation

    @property
    def exit_code(self) -> int:
        """0: active or native, proven, nothing wrong; 3: it cannot be told; 1: everything else."""
        if self.state == "unknown":
            return EXIT_INCONCLUSIVE
        is_fine = self.state in ("active", "native") and self.is_proven and not self.findings
        return EXIT_PROVEN if is_fine else EXIT_FINDING

    def to_json(self) -> dict[str, Any]:
        """Return it as one JSON object (docs/schemas/status-1.schema.json)."""
        manifest = self.manifest
        graft: dict[str, Any] | None = None
        held: dict[str, Any] | None = None
        if manifest is not None and manifest.held_to:
            held = {
                "groups": manifest.settings.get("groups") or None,
                "require_pq": manifest.require_pq,
                "by": [name for name in manifest.plugins if name in (SETTINGS, GUARD)],
                "offers": list_offered(self.probe),
                "enabled_at": manifest.enabled_at,
            }
        if manifest is not None and not manifest.is_native:
            graft = {
                "id": manifest.id,
                "openssl": manifest.version,
                "origin": manifest.origin,
                "released": manifest.released,
                "built": manifest.built,
                "age_days": _days_since(manifest.released),
                "enabled_at": manifest.enabled_at,
                "enabled_days": _days_since(manifest.enabled_at[:10]),
                "supported_until": manifest.supported_until,
                "stands_in_for": manifest.own_version,
                "groups": manifest.settings.get("groups") or None,
                "require_pq": manifest.require_pq,
                "source_folder": manifest.source_folder or None,
                "hashed_at_start_bytes": self.hashed_at_start_bytes,
                "files": [each.to_json() for each in manifest.files if each.kind != "loader"],
            }
        return {
            "schema": SCHEMA,
            "venv": str(self.venv.root),
            "chosen_by": self.venv.chosen_by,
            "python": ".".join(map(str, self.venv.version)),
            "state": self.state,
            "openssl": self.probe.openssl_version,
            "is_proven": self.is_proven,
            "group": self.group,
            "detail": self.detail,
            "graft": graft,
            "held": held,
            "findings": list(self.findings),
            "exit_code": self.exit_code,
        }


def examine_venv(
    venv: Venv, environment: Mapping[str, str] | None = None, *, oldest: tuple[int, ...] = ()
) -> VenvStatus:
    """Find out what is active in an environment, and prove it.

    Args:
        venv: The environment.
        environment: What its Python is started with; None for this process's. A graft of `pqtls run` is left out.
        oldest: An OpenSSL older than this version is a finding; empty for none.

    Returns:
        What was found; nothing is raised for what is wrong with the environment.
    """
    given = strip_graft(os.environ if environment is None else environment)
    forget_probes()
    probe = probe_mlkem(venv.python, given)
    active = find_active_id(venv.site_packages)
    answer = ask(venv.python, _SCRIPT, (), given)
    findings: list[str] = []
    manifest: VenvManifest | None = None
    unheld: list[str] = []
    if answer.value is None:
        return VenvStatus(venv, "unknown", None, (f"{venv.python} {answer.failure}.",), probe)
    if not active:
        if is_touched(venv.root):
            findings.append("An enable or disable did not finish; run `pqtls enable` or `pqtls disable`.")
        # No ClientHello, as of a Python without `_ssl`: then nothing was seen of what it can do.
        state: State = "native" if probe.has_mlkem else "off" if probe.handshake is not None else "unknown"
    else:
        manifest = _check_files(venv, active, findings)
        if manifest is not None and manifest.is_native:
            # Its loader's last word, and no `import ssl` that was refused: the libraries are whichever are its own.
            state = "native" if answer.value["loader"] == "" and not answer.value["error"] else "stepped-aside"
        else:
            # As the kernel names it: links followed, a line's end escaped.
            libssl = str((venv.graft_root / active / LIBSSL).resolve()).replace("\n", "\\012")
            state = "active" if answer.value["libssl"] == [libssl] else "stepped-aside"
        if state == "stepped-aside":
            findings.append(_why_aside(answer.value))
        elif manifest is not None:
            has_guard = bool(answer.value["guard"])
            unheld = find_unheld(manifest.plugins, manifest.settings, probe, has_guard=has_guard)
            findings += unheld
        if state == "native" and (unheld or not probe.has_mlkem):
            state = "stepped-aside"
    version = read_version(probe.openssl_version)
    if oldest and version[: len(oldest)] < oldest:
        findings.append(f"{probe.openssl_version or 'OpenSSL'} is older than {'.'.join(map(str, oldest))}.")
    hashed = 0
    if manifest is not None and state == "active":
        slow = (each for each in manifest.files if each.kind != "loader" and each.is_hashed_at_start(venv.root))
        hashed = sum(each.size_bytes for each in slow)
    return VenvStatus(venv, state, manifest, tuple(findings), probe, tuple(unheld), hashed)


def parse_oldest(text: str) -> tuple[int, ...]:
    """Read the argument of --fail-if-older-than.

    Args:
        text: Such as "3.5.8".

    Returns:
        Such as (3, 5, 8).

    Raises:
        UsageError: It is no version.
    """
    parts = text.split(".")
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() for part in parts):
        raise UsageError(f"{text!r} is no version of OpenSSL.", "Write it as 3.5.9.")
    return tuple(int(part) for part in parts)


def _check_files(venv: Venv, active: str, findings: list[str]) -> VenvManifest | None:
    folder = venv.graft_root / active
    try:
        manifest = read_manifest(folder)
    except ValueError as error:
        findings.append(f"What `enable` made is damaged: {folder}/manifest.json ({error}).")
        return None
    for each in manifest.files:
        if each.kind == "source" and each.is_out_of_sight(venv.root):
            findings.append(
                f"What it was made from cannot be looked at from here ({each.path}), so it is not known whether there "
                "is a newer one; its graft is complete without it."
            )
            continue
        change = each.find_change(venv.root)
        if change and not (each.path.endswith(".pyc") and _is_own_bytecode(venv.root / each.path)):
            findings.append(f"{_KINDS.get(each.kind, 'A file changed')}: {change}.")
    days = _days_since(manifest.supported_until)
    if days is not None and days > 0 and not manifest.is_native:  # an interpreter's own is its distribution's matter
        findings.append(f"Support of {manifest.version} ended on {manifest.supported_until}.")
    return manifest


def _is_own_bytecode(path: Path) -> bool:
    """Tell whether bytecode was cleaned away, or written anew by Python itself, which compares it with its source."""
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == bytes(4)  # PEP 552: no flags, so time and size of the source follow
    except OSError:
        return True


def _why_aside(answer: Mapping[str, Any]) -> str:
    if answer["loader"]:
        return f"It stepped aside: {answer['loader']}."
    if answer["error"]:
        return f"`import ssl` fails: {answer['error']}."
    if answer["loader"] is None:
        return "Its loader did not run: it is gone or damaged."
    return f"Its loader ran, but Python uses {', '.join(answer['libssl']) or 'no libssl'}."


def _days_since(date: str) -> int | None:
    """Return the whole days since a date (YYYY-MM-DD), negative before it; None if it is none."""
    try:
        then = time.strptime(date, "%Y-%m-%d")
    except ValueError:
        return None
    import calendar

    return int((time.time() - calendar.timegm(then)) // 86_400)
