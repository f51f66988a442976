"""Is this interpreter able? What stands under it, what every TLS stack in it does, which ways there are."""

from __future__ import annotations

import platform
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pqtls import __version__
from pqtls.ending.keeper import Keeper
from pqtls.openssl.aws_program import AwsProgram, find_aws_program
from pqtls.openssl.installed import Installed, list_installed
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.next_command import choose_next_command
from pqtls.openssl.paths import map_texts, to_json_text
from pqtls.openssl.probe import Probe, probe_mlkem
from pqtls.openssl.probe_child import PUBLIC_TEST_PEM
from pqtls.openssl.sources import Source, find_sources
from pqtls.openssl.stack_server import StackServer, find_server_way
from pqtls.openssl.stacks import (
    THROUGH_SSL,
    TIMEOUT_S,
    StackReport,
    examine_stacks,
    find_stacks,
)
from pqtls.openssl.surroundings import Surroundings, look_around
from pqtls.openssl.ways import WayReport, explain_ways
from pqtls.wire.groups import group_name, is_grease

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        stacks: Every other TLS stack that is installed, and what it did.
        through_ssl: Installed distributions that do what `ssl` does, as (name, version).
        surroundings: CAs, openssl.cnf, policies, proxies.
        aws: The AWS CLI on PATH; None if there is none.
        next_command: The one command to go on with.
    """

    system: str
    interpreter: Interpreter
    probe: Probe
    ways: tuple[WayReport, ...]
    sources: tuple[Source, ...]
    stacks: tuple[StackReport, ...]
    through_ssl: tuple[tuple[str, str], ...]
    surroundings: Surroundings
    aws: AwsProgram | None
    next_command: str

    @property
    def is_able(self) -> bool:
        """A handshake in memory was post-quantum, natively or by a graft."""
        return any(way.is_possible for way in self.ways if way.kind != "system")

    def to_json(self) -> dict[str, Any]:
        """Return the examination as `pqtls/doctor/1`."""
        python, probe = self.interpreter, self.probe
        found = {
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
            "ways": [_way_to_json(way) for way in self.ways],
            "sources": [_source_to_json(source) for source in self.sources],
            "stacks": [_stack_to_json(stack) for stack in self.stacks],
            "through_ssl": [{"distribution": name, "version": version} for name, version in self.through_ssl],
            "surroundings": asdict(self.surroundings),
            "aws": None if self.aws is None else {**asdict(self.aws), "path": str(self.aws.path)},
            "able": self.is_able,
            "next_command": self.next_command,
        }
        return {name: map_texts(value, to_json_text) for name, value in found.items()}


def _way_to_json(way: WayReport) -> dict[str, Any]:
    return {
        "way": way.kind,
        "possible": way.is_possible,
        "why": way.reason,
        "next_step": way.next_step or None,
        "openssl": None if way.way is None else way.way.openssl_version,
    }


def _source_to_json(source: Source) -> dict[str, Any]:
    return {
        "origin": source.origin,
        "version": source.version or None,
        "libssl": str(source.libssl),
        "lts": source.is_lts,
        "supported_until": source.supported_until or None,
        "rejected": source.rejected or None,
    }


def _stack_to_json(stack: StackReport) -> dict[str, Any]:
    return {
        "name": stack.name,
        "distribution": stack.distribution,
        "version": stack.version,
        "library": stack.library or None,
        "ml_kem": stack.ml_kem,
        "group": stack.group or None,
        "groups_offered": [group_name(group) for group in stack.offered],
        "explanation": stack.explanation,
    }


def examine(
    executable: Path | str,
    extra_sources: Sequence[Path] = (),
    *,
    is_standalone: bool = False,
    stack_timeout_s: float = TIMEOUT_S,
) -> Examination:
    """Examine an interpreter and every TLS stack in its environment.

    Args:
        executable: The interpreter.
        extra_sources: Folders with OpenSSL that the user named.
        is_standalone: pqtls runs from its one-file form, so that the next command may have to install it.
        stack_timeout_s: When to give one stack up, in seconds.

    Returns:
        What was found. A graft is made in the user's cache, to try it.

    Raises:
        UsageError: It is no Python interpreter.
    """
    with ExitStack() as stack:
        if sys.platform == "linux":  # killed at any moment, it leaves no file
            keeper = stack.enter_context(Keeper("pqtls-doctor-"))
            stack.enter_context(keeper.holds_temporary_files())
        return _examine(executable, extra_sources, is_standalone, stack_timeout_s)


def _examine(
    executable: Path | str, extra_sources: Sequence[Path], is_standalone: bool, stack_timeout_s: float
) -> Examination:
    interpreter = inspect_interpreter(executable)
    installed = list_installed(interpreter)
    ways, stacks = _explain_and_examine(interpreter, installed, extra_sources, stack_timeout_s)
    sources = tuple(find_sources(interpreter, extra_sources))
    return Examination(
        system=f"{platform.system()} {platform.machine()}",
        interpreter=interpreter,
        probe=probe_mlkem(interpreter.executable),
        ways=ways,
        sources=sources,
        stacks=stacks,
        through_ssl=tuple((name, installed.found[name][0]) for name in THROUGH_SSL if name in installed.found),
        surroundings=look_around(interpreter, installed),
        aws=find_aws_program(),
        next_command=choose_next_command(interpreter, installed, ways, sources, is_standalone=is_standalone),
    )


def _explain_and_examine(
    interpreter: Interpreter, installed: Installed, extra_sources: Sequence[Path], timeout_s: float
) -> tuple[tuple[WayReport, ...], tuple[StackReport, ...]]:
    """Try the ways while the stacks start; a way that works then becomes the server that they talk to."""
    if not find_stacks(installed):
        return tuple(explain_ways(interpreter, extra_sources)), ()
    port: Future[int | None] = Future()
    with tempfile.TemporaryDirectory(prefix="pqtls-stacks-") as folder, ThreadPoolExecutor(1) as pool:  # 0700
        pem = Path(folder, "public-test-material.pem")
        pem.touch(mode=0o600)
        pem.write_text(PUBLIC_TEST_PEM, encoding="ascii")
        stacks = pool.submit(examine_stacks, interpreter, installed, pem, port, timeout_s)
        try:
            ways = tuple(explain_ways(interpreter, extra_sources))
            with StackServer(find_server_way(interpreter, ways, extra_sources), pem) as server:
                port.set_result(server.port)
                return ways, tuple(stacks.result())
        finally:
            if not port.done():
                port.set_result(None)  # the listeners wait for it


def offered_names(probe: Probe) -> str:
    """Return the groups that a probe's ClientHello offered, for people.

    Args:
        probe: The probe.
    """
    return " ".join(group_name(group) for group in probe.offered_groups if not is_grease(group)) or "none"
