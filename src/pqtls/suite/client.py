"""Run one case once: its process, the two witnesses around it, and what they saw, joined."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pqtls.observe.observation import Observation, find_disagreements, merge
from pqtls.observe.recorder import RecorderFolder
from pqtls.openssl.environment import strip_graft

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.observe.recorder import Recording
    from pqtls.openssl.ways import Way
    from pqtls.suite.case import Case
    from pqtls.suite.network import Network, WireReport
    from pqtls.suite.process import Finished, ProcessGroups

TargetT = TypeVar("TargetT")
_SEEN_BY_CAPTURE_ALONE = "what the capture alone judges it judges by TCP: no QUIC (HTTP/3), nothing over UNIX sockets"


@dataclass(frozen=True, slots=True)
class ClientRun:
    """What one process did.

    Attributes:
        finished: How it ended.
        connections: Every TLS connection that a witness saw, joined where both did.
        disagreements: Facts on which the witnesses differ, as sentences.
        blind_spots: What no witness can have seen, as sentences.
        notes: What the recorder did not see, but the witness on the wire did.
    """

    finished: Finished
    connections: tuple[Observation, ...]
    disagreements: tuple[str, ...]
    blind_spots: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Client(Generic[TargetT]):
    """Runs cases.

    Args:
        network: How they reach servers, with the witness on the way.
        processes: Where processes are started.
        folder: Private folder for their home folders.
        way: The OpenSSL for them.
        timeout_s: Seconds that each may take.
    """

    def __init__(
        self, network: Network[TargetT], processes: ProcessGroups, folder: Path, way: Way, timeout_s: float
    ) -> None:
        self._network = network
        self._processes = processes
        self._folder = folder
        self._way = way
        self._timeout_s = timeout_s

    def stop(self) -> None:
        """Kill every client that still runs, and start no more."""
        self._processes.stop_all()

    def run(
        self,
        case: Case,
        target: TargetT,
        extra: Mapping[str, str],
        *,
        port: int = 0,
        pcap_path: Path | None = None,
    ) -> ClientRun:
        """Run a case once.

        Args:
            case: The case.
            target: The server; in the lab, the address that every AWS name leads to.
            extra: More environment, such as OPENSSL_CONF.
            port: Port of its proxy on loopback, 0 for any free one.
            pcap_path: Where to write its handshakes' packets, None for nowhere.

        Raises:
            UsageError: The port is taken.
            BugError: A witness failed.
        """
        home = Path(tempfile.mkdtemp(prefix="client-", dir=self._folder))
        with RecorderFolder() as recorder:
            with self._network.open_passage(target, port) as passage:
                environment = passage.environment(case, home)
                environment["PATH"] = _scripts_first(environment.get("PATH", ""))
                environment = {**environment, **extra, **dict(case.environment)}
                apply = strip_graft if case.brings_own_openssl else self._way.apply
                environment = recorder.environment(apply(environment))
                command, folder = passage.wrap(_command(case)), passage.working_folder(home)
                finished = self._processes.run(command, environment, folder, self._timeout_s)
            recording = recorder.read()
        wire = passage.report([each.id for each in recording.observations])
        if pcap_path is not None:
            passage.write_packets(pcap_path)
        connections, disagreements = join_witnesses(recording.observations, wire.observations)
        blind_spots, notes = self._find_blind_spots(case, recording, wire, connections)
        return ClientRun(finished, connections, disagreements, blind_spots, notes)

    def _find_blind_spots(
        self, case: Case, recording: Recording, wire: WireReport, connections: tuple[Observation, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what no witness can have seen, and what one did not see but the other did."""
        unrecorded = recording.blind_spots
        if case.may_start_anything:
            unrecorded += ("not visible here: what the shell script started that is not Python",)
        if not unrecorded:
            unrecorded = _find_unrecorded(recording, connections)
        blind_spots = list(wire.blind_spots)
        blind_spots += [f"asked for {host}, which the lab does not have" for host in wire.refused_hosts]
        missed = [
            f"the recorder saw a connection to {each.server or each.host} that the wire did not"
            for each in connections
            if each.sources == ("recorder",) and self._network.sees_the_wire
        ]
        if not self._network.sees_every_program:
            remedy = [self._network.remedy] if unrecorded and self._network.remedy else []
            return (*unrecorded, *blind_spots, *missed, *remedy), ()
        if unrecorded:
            return (*blind_spots, *missed, *wire.doubts), (*unrecorded, _SEEN_BY_CAPTURE_ALONE)
        if wire.doubts:  # the capture lost something, and the recorder nothing
            return tuple(blind_spots), (*wire.doubts, *missed)
        return (*blind_spots, *missed), ()


def _find_unrecorded(recording: Recording, connections: tuple[Observation, ...]) -> tuple[str, ...]:
    """Tell of what the recorder missed although it watched every process: a TLS library that it does not know.

    Such a library may have made more connections, past a router.
    """
    ids = {each.id for each in recording.observations}
    sentences = [
        f"not visible here: what made a TLS connection to {each.host or each.server}, of which the recorder saw nothing"
        for each in connections
        if each.id and each.id not in ids
    ]
    return tuple(dict.fromkeys(sentences))


def _command(case: Case) -> list[str]:
    if case.path.suffix == ".sh":
        return ["/bin/sh", str(case.path)]
    return [sys.executable, str(case.path)]


def _scripts_first(path: str) -> str:
    """Put this environment's own programs (`aws`) before all others."""
    scripts = sysconfig.get_path("scripts")
    return f"{scripts}:{path}" if path else scripts


def join_witnesses(
    recorded: tuple[Observation, ...], on_the_wire: tuple[Observation, ...]
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Join what the recorder and the witness on the wire saw, connection by connection.

    Args:
        recorded: From inside the process; those of a server's role are left out, being another's connections.
        on_the_wire: From the relay or the capture.

    Returns:
        All connections, each once, and the facts on which the two differ.
    """
    mine = [each for each in recorded if each.role != "server"]
    # A list for each id: two connections with the same random are two connections.
    by_id: dict[str, list[Observation]] = {}
    for each in on_the_wire:
        by_id.setdefault(each.id, []).append(each)
    joined: list[Observation] = []
    disagreements: list[str] = []
    for each in mine:
        others = by_id.get(each.id)
        if not others:
            joined.append(each)
            continue
        other = others.pop(0)
        disagreements += [f"{each.host or each.id}: {text}" for text in find_disagreements(each, other)]
        joined.append(merge(each, other))
    joined += [each for others in by_id.values() for each in others]
    joined.sort(key=lambda each: each.started_ns or 0)
    return tuple(joined), tuple(disagreements)
