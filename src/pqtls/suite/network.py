"""How a client of the suite reaches the lab, and the witness on that way: by a router, or by a network of its own.

Either carries the real AWS names to the lab's servers, and to nothing else, and reads every connection from its
bytes on the way, whatever the client believes.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from pqtls.errors import BugError, CannotProveError, PqtlsError, UsageError
from pqtls.lab.client_environment import lab_client_environment
from pqtls.lab.names import AWS_HOSTS
from pqtls.lab.namespace import NamespacedLab
from pqtls.lab.router import Router
from pqtls.lab.server import LabServers
from pqtls.observe.capture import LiveCapture, write_captures
from pqtls.observe.relay import RelayWitness

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pqtls.lab.ca import LabCA
    from pqtls.lab.messages import TlsVersion
    from pqtls.lab.names import Address
    from pqtls.observe.observation import Observation
    from pqtls.suite.case import Case

NetworkChoice = Literal["auto", "namespaces", "router"]
TargetT_contra = TypeVar("TargetT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class WireReport:
    """What the witness on the way saw of one client.

    Attributes:
        observations: Every TLS connection that passed.
        blind_spots: What it could not see, as sentences.
        refused_hosts: Hosts that the client asked for and that the lab does not have.
        doubts: What it could not see or tell on a network that other programs use too, as sentences: blind spots,
            unless the recorder saw all of the client.
    """

    observations: tuple[Observation, ...]
    blind_spots: tuple[str, ...] = ()
    refused_hosts: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


class Passage(Protocol):
    """One client's way to one server, while it is open."""

    def environment(self, case: Case, home: Path) -> dict[str, str]:
        """Return a client's whole environment, but for the OpenSSL.

        Args:
            case: What it runs.
            home: A private folder for it.
        """

    def working_folder(self, home: Path) -> Path:
        """Return where a client runs, which may be its private folder."""

    def wrap(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line that starts a client on this way."""

    def report(self, recorded_ids: Collection[str]) -> WireReport:
        """Return what the witness saw; for after the passage is closed.

        Args:
            recorded_ids: `Observation.id` of the connections that the recorder saw in the client's processes.
        """

    def write_packets(self, path: Path) -> None:
        """Write the packets of the handshakes as a pcap file; for after the passage is closed.

        Raises:
            UsageError: This witness sees no packets, or the file cannot be written.
        """


class Network(Protocol[TargetT_contra]):
    """How clients reach servers.

    Attributes:
        witnesses: Who looks at the connections, as a sentence.
        parallel_clients: How many clients may be under way at once.
        sees_the_wire: It has a witness on the way, and all connections of clients pass it.
        sees_every_program: That witness sees the connections of every program, not only of those that honour a
            proxy variable.
        remedy: What would show more than is visible here, as a sentence; "" where nothing would.
    """

    witnesses: str
    parallel_clients: int
    sees_the_wire: bool
    sees_every_program: bool
    remedy: str

    def open_passage(self, target: TargetT_contra, port: int = 0) -> AbstractContextManager[Passage]:
        """Open one client's way to a server."""


class LabNetwork(Network["Address"], Protocol):
    """How clients reach the lab's servers."""

    def make_servers(
        self, ca: LabCA, python: str, environment: Mapping[str, str], newest: TlsVersion | None = None
    ) -> LabServers:
        """Return servers that clients can reach, not yet started; `newest` is the newest TLS version they accept."""


class RouterNetwork:
    """Loopback, with the names carried by a CONNECT proxy and a dial port; the relay is the witness.

    Args:
        router: The running router.
        ca_bundle: The authority that clients trust, PEM.
        why: Why not a network of its own, as a clause; "" if it was chosen.
        parallel_clients: How many clients may be under way at once.
    """

    sees_the_wire = True
    sees_every_program = False
    remedy = "what only the relay can see proves nothing; --network namespaces captures its packets"

    def __init__(self, router: Router, ca_bundle: Path, why: str, parallel_clients: int) -> None:
        self._router = router
        self._ca_bundle = ca_bundle
        self.parallel_clients = parallel_clients
        because = f" ({why})" if why else ""
        self.witnesses = f"the recorder inside each client, and the relay on loopback{because}; they must agree"

    def make_servers(
        self, ca: LabCA, python: str, environment: Mapping[str, str], newest: TlsVersion | None = None
    ) -> LabServers:
        """Return servers on loopback, at any free ports."""
        return LabServers(ca, python, environment, maximum_version=newest)

    @contextmanager
    def open_passage(self, target: Address, port: int = 0) -> Iterator[Passage]:
        """Open a proxy port and a dial port that lead to a server.

        Args:
            target: The server's address.
            port: Of the proxy on loopback, 0 for any free one.

        Raises:
            UsageError: The port is taken.
        """
        passage = _RouterPassage(self._ca_bundle)
        routes = dict.fromkeys(AWS_HOSTS, target)
        with self._router.open_entry(routes, dial=target, witness_factory=passage.witness, port=port) as entry:
            passage.ports = (entry.proxy_port, entry.dial_port)
            yield passage
        if entry.witness_errors:
            raise BugError(f"The relay could not read a connection: {entry.witness_errors[0]!r}.")
        passage.refused = tuple(entry.refused)


class _RouterPassage:
    def __init__(self, ca_bundle: Path) -> None:
        self._ca_bundle = ca_bundle
        self.ports = (0, 0)
        self.refused: tuple[str, ...] = ()
        self._seen: list[Observation] = []

    def witness(self, client: str, server: str, _host: str) -> RelayWitness:
        return RelayWitness(client, server, self._seen.append)

    def environment(self, case: Case, home: Path) -> dict[str, str]:
        _ = case
        return _client_environment(self._ca_bundle, self.ports, home)

    def working_folder(self, home: Path) -> Path:
        return home

    def wrap(self, arguments: Sequence[str]) -> list[str]:
        return list(arguments)

    def report(self, recorded_ids: Collection[str]) -> WireReport:
        _ = recorded_ids
        return WireReport(tuple(self._seen), refused_hosts=self.refused)

    def write_packets(self, path: Path) -> None:
        raise UsageError(f"{path}: the relay sees no packets.", "A packet capture needs --network namespaces.")


class NamespaceNetwork:
    """A network of the lab's own: real names, port 443, no proxy; a capture of its packets is the witness.

    Clients run one after the other, so that every packet belongs to one of them.

    Args:
        lab: The namespaces.
        ca_bundle: The authority that clients trust, PEM.
    """

    witnesses = "the recorder inside each client, and a capture of the packets; they must agree"
    parallel_clients = 1
    sees_the_wire = True
    sees_every_program = True
    remedy = ""

    def __init__(self, lab: NamespacedLab, ca_bundle: Path) -> None:
        self._lab = lab
        self._ca_bundle = ca_bundle
        self._free_addresses = iter(lab.server_addresses)

    def make_servers(
        self, ca: LabCA, python: str, environment: Mapping[str, str], newest: TlsVersion | None = None
    ) -> LabServers:
        """Return servers at port 443 of addresses of their own."""
        addresses = {name: (next(self._free_addresses), 443) for name in LabServers.LISTENERS}
        return LabServers(
            ca,
            python,
            environment,
            maximum_version=newest,
            addresses=addresses,
            wrap=lambda command: self._lab.wrap(command, side="server"),
        )

    @contextmanager
    def open_passage(self, target: Address, port: int = 0) -> Iterator[Passage]:
        """Capture everything, loopback too, and lead the AWS names to a server.

        Args:
            target: The server's address; its port is 443.
            port: Of no use here.
        """
        _ = port
        with ExitStack() as stack:
            sockets = [self._lab.open_capture_socket(each) for each in self._lab.client_interfaces]
            captures = [stack.enter_context(LiveCapture.adopt(each)) for each in sockets]
            for each in captures:  # all at once, before each is waited for
                stack.callback(each.begin_to_stop)
            yield _NamespacePassage(self._lab, self._ca_bundle, target[0], captures)


class _NamespacePassage:
    def __init__(self, lab: NamespacedLab, ca_bundle: Path, address: str, captures: Sequence[LiveCapture]) -> None:
        self._lab = lab
        self._ca_bundle = ca_bundle
        self._hosts = dict.fromkeys(AWS_HOSTS, address)
        self._captures = captures

    def environment(self, case: Case, home: Path) -> dict[str, str]:
        _ = case
        return _client_environment(self._ca_bundle, (None, None), home)

    def working_folder(self, home: Path) -> Path:
        return home

    def wrap(self, arguments: Sequence[str]) -> list[str]:
        return self._lab.wrap(arguments, hosts=self._hosts)

    def report(self, recorded_ids: Collection[str]) -> WireReport:
        _ = recorded_ids
        reports = [each.report for each in self._captures]
        observations = [seen for each in reports for seen in each.observations]
        blind_spots = [spot for each in reports for spot in each.blind_spots]
        plain = sum(each.counts.not_tls for each in reports)
        doubts = (f"not visible here: what {plain} connections carry that do not begin as TLS",) if plain else ()
        return WireReport(tuple(observations), tuple(blind_spots), doubts=doubts)

    def write_packets(self, path: Path) -> None:
        write_captures(self._captures, path)


def _client_environment(ca_bundle: Path, ports: tuple[int | None, int | None], home: Path) -> dict[str, str]:
    """Return a client's environment, with a folder of its own for temporary files.

    A client that is killed can't remove them, but its home goes.
    """
    folder = home / "tmp"
    folder.mkdir(mode=0o700)
    return {**lab_client_environment(ca_bundle, *ports, home), "TMPDIR": str(folder)}


def open_network(choice: NetworkChoice, stack: ExitStack, ca_bundle: Path, parallel_clients: int) -> LabNetwork:
    """Make a network for the lab.

    Args:
        choice: "auto" takes namespaces where their whole set-up succeeds, else the router.
        stack: What closes it.
        ca_bundle: The authority that clients trust, PEM.
        parallel_clients: How many clients the router may carry at once.

    Raises:
        CannotProveError: Namespaces were asked for, and the system does not allow them.
    """
    why = ""
    if choice != "router":
        try:
            return NamespaceNetwork(stack.enter_context(NamespacedLab()), ca_bundle)
        except PqtlsError as error:
            if choice == "namespaces":
                raise CannotProveError(error.message, error.next_step or "Use --network router.") from error
            why = f"no network of its own here: {error.message.rstrip('.')}"
    return RouterNetwork(stack.enter_context(Router()), ca_bundle, why, parallel_clients)
