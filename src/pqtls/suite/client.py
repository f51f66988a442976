"""Run one case once: its process, the two witnesses around it, and what they saw, joined."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import BugError
from pqtls.lab.client_environment import lab_client_environment
from pqtls.lab.names import AWS_HOSTS
from pqtls.observe.observation import Observation, find_disagreements, merge
from pqtls.observe.recorder import RecorderFolder
from pqtls.observe.relay import RelayWitness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.lab.ca import LabCA
    from pqtls.lab.router import Router
    from pqtls.openssl.ways import Way
    from pqtls.suite.case import Case
    from pqtls.suite.process import Finished, ProcessGroups


@dataclass(frozen=True, slots=True)
class ClientRun:
    """What one process did.

    Attributes:
        finished: How it ended.
        connections: Every TLS connection that a witness saw, joined where both did.
        disagreements: Facts on which the witnesses differ, as sentences.
        blind_spots: What was not visible here, as sentences.
        refused_hosts: Hosts that it asked the lab's proxy for and that the lab does not have.
    """

    finished: Finished
    connections: tuple[Observation, ...]
    disagreements: tuple[str, ...]
    blind_spots: tuple[str, ...]
    refused_hosts: tuple[str, ...]


class Client:
    """Runs cases against the lab.

    Args:
        router: The lab's name router.
        ca: The lab's authority.
        processes: Where processes are started.
        folder: Private folder for their home folders.
        way: The OpenSSL for them.
        timeout_s: Seconds that each may take.
    """

    def __init__(
        self, router: Router, ca: LabCA, processes: ProcessGroups, folder: Path, way: Way, timeout_s: float
    ) -> None:
        self._router = router
        self._ca = ca
        self._processes = processes
        self._folder = folder
        self._way = way
        self._timeout_s = timeout_s

    def stop(self) -> None:
        """Kill every client that still runs, and start no more."""
        self._processes.stop_all()

    def run(self, case: Case, target: tuple[str, int], extra: Mapping[str, str], *, port: int = 0) -> ClientRun:
        """Run a case once.

        Args:
            case: The case.
            target: Address of the server that every AWS name leads to.
            extra: More environment, such as OPENSSL_CONF.
            port: Port of its proxy on loopback, 0 for any free one.

        Raises:
            UsageError: The port is taken.
            BugError: A witness failed.
        """
        relayed: list[Observation] = []

        def make_witness(client: str, server: str, _host: str) -> RelayWitness:
            return RelayWitness(client, server, relayed.append)

        home = Path(tempfile.mkdtemp(prefix="client-", dir=self._folder))
        routes = dict.fromkeys(AWS_HOSTS, target)
        with RecorderFolder() as recorder:
            with self._router.open_entry(routes, dial=target, witness_factory=make_witness, port=port) as entry:
                environment = lab_client_environment(
                    ca_bundle=self._ca.bundle, proxy_port=entry.proxy_port, dial_port=entry.dial_port, home=home
                )
                environment["PATH"] = _scripts_first(environment.get("PATH", ""))
                environment = recorder.environment(self._way.apply({**environment, **extra}))
                finished = self._processes.run(_command(case), environment, home, self._timeout_s)
            recording = recorder.read()
        if entry.witness_errors:
            raise BugError(f"The relay could not read a connection: {entry.witness_errors[0]!r}.")
        connections, disagreements = join_witnesses(recording.observations, tuple(relayed))
        return ClientRun(finished, connections, disagreements, recording.blind_spots, tuple(entry.refused))


def _command(case: Case) -> list[str]:
    if case.path.suffix == ".sh":
        return ["/bin/sh", str(case.path)]
    return [sys.executable, str(case.path)]


def _scripts_first(path: str) -> str:
    """Put this environment's own programs (`aws`) before all others."""
    scripts = sysconfig.get_path("scripts")
    return f"{scripts}:{path}" if path else scripts


def join_witnesses(
    recorded: tuple[Observation, ...], relayed: tuple[Observation, ...]
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Join what the recorder and the relay saw, connection by connection.

    Args:
        recorded: From inside the process; those of a server's role are left out, being another's connections.
        relayed: From the wire.

    Returns:
        All connections, each once, and the facts on which the two differ.
    """
    mine = [each for each in recorded if each.role != "server"]
    by_id = {each.id: each for each in relayed}
    joined: list[Observation] = []
    disagreements: list[str] = []
    for each in mine:
        other = by_id.pop(each.id, None)
        if other is None:
            joined.append(each)
            continue
        disagreements += [f"{each.host or each.id}: {text}" for text in find_disagreements(each, other)]
        joined.append(merge(each, other))
    joined += by_id.values()
    joined.sort(key=lambda each: each.started_ns or 0)
    return tuple(joined), tuple(disagreements)
