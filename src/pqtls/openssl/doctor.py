"""Is this interpreter able? What stands under it, what a handshake in memory does, which ways there are."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pqtls import __version__
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.probe import Probe, probe_mlkem
from pqtls.openssl.sources import Source, find_sources
from pqtls.openssl.ways import WayReport, explain_ways
from pqtls.wire.groups import group_name, is_grease

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA = "pqtls/doctor/1"


@dataclass(frozen=True, slots=True)
class Examination:
    """What the doctor found.

    Attributes:
        system: Operating system and machine, as a few words.
        interpreter: The interpreter.
        probe: What it does by itself, without pqtls.
        ways: The three ways, each possible or not, and why.
        sources: Every OpenSSL found that could be grafted, the rejected ones with their reasons.
        next_command: The one command to go on with.
    """

    system: str
    interpreter: Interpreter
    probe: Probe
    ways: tuple[WayReport, ...]
    sources: tuple[Source, ...]
    next_command: str

    @property
    def is_able(self) -> bool:
        """A handshake in memory was post-quantum, natively or by a graft."""
        return any(way.is_possible for way in self.ways if way.kind != "system")

    def to_json(self) -> dict[str, Any]:
        """Return the examination as `pqtls/doctor/1`."""
        python, probe = self.interpreter, self.probe
        return {
            "schema": SCHEMA,
            "pqtls": __version__,
            "system": self.system,
            "python": {
                "executable": str(python.executable),
                "version": python.version,
                "implementation": python.implementation,
            },
            "openssl": {
                "version": python.openssl_version,
                "linkage": python.linkage,
                "libssl": None if python.libssl is None else str(python.libssl),
                "libcrypto": None if python.libcrypto is None else str(python.libcrypto),
                "cafile": python.cafile,
                "capath": python.capath,
            },
            "handshake_in_memory": {
                "post_quantum": probe.has_mlkem,
                "group": probe.group or None,
                "groups_offered": [group_name(group) for group in probe.offered_groups],
                "explanation": probe.explanation,
            },
            "ways": [
                {
                    "way": way.kind,
                    "possible": way.is_possible,
                    "why": way.reason,
                    "next_step": way.next_step or None,
                    "openssl": None if way.way is None else way.way.openssl_version,
                }
                for way in self.ways
            ],
            "sources": [
                {
                    "origin": source.origin,
                    "version": source.version or None,
                    "libssl": str(source.libssl),
                    "lts": source.is_lts,
                    "supported_until": source.supported_until or None,
                    "rejected": source.rejected or None,
                }
                for source in self.sources
            ],
            "able": self.is_able,
            "next_command": self.next_command,
        }


def examine(executable: Path | str, extra_sources: Sequence[Path] = ()) -> Examination:
    """Examine an interpreter.

    Args:
        executable: The interpreter.
        extra_sources: Folders with OpenSSL that the user named.

    Returns:
        What was found. A graft is made in the user's cache, to try it.

    Raises:
        UsageError: It is no Python interpreter.
    """
    interpreter = inspect_interpreter(executable)
    ways = tuple(explain_ways(interpreter, extra_sources))
    return Examination(
        system=f"{platform.system()} {platform.machine()}",
        interpreter=interpreter,
        probe=probe_mlkem(interpreter.executable),
        ways=ways,
        sources=tuple(find_sources(interpreter, extra_sources)),
        next_command=_next_command(ways, interpreter),
    )


def _next_command(ways: tuple[WayReport, ...], interpreter: Interpreter) -> str:
    possible = {way.kind for way in ways if way.is_possible}
    if "native" in possible or "graft" in possible:
        is_own = str(interpreter.executable) == sys.executable or interpreter.version == platform.python_version()
        return "pqtls test" if is_own else f"pqtls run -- {interpreter.executable} YOUR_PROGRAM.py"
    graft = next(way for way in ways if way.kind == "graft")
    return graft.next_step or "use a Python built with OpenSSL 3.5 or newer"


def offered_names(probe: Probe) -> str:
    """Return the groups that a probe's ClientHello offered, for people.

    Args:
        probe: The probe.
    """
    return " ".join(group_name(group) for group in probe.offered_groups if not is_grease(group)) or "none"
