"""A real target over sockets: straight, through a proxy, by STARTTLS; each address family that it has is examined."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pqtls.errors import CannotProveError
from pqtls.faults.catalogue import fault_name
from pqtls.path.examine import Limits, conclude_early, examine, limits_for
from pqtls.path.reach import Reach, qualify
from pqtls.probe.http_proxy import open_tunnel
from pqtls.probe.network import SocketNetwork
from pqtls.probe.prepared import PreparedNetwork
from pqtls.probe.run import Prober
from pqtls.probe.starttls.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.x509 import verification

    from pqtls.path.diagnosis import Diagnosis
    from pqtls.path.plan import PlanOptions
    from pqtls.path.target import Target
    from pqtls.probe.dialogue import Dialogue
    from pqtls.probe.model import Attempt
    from pqtls.probe.network import Network

_MAX_ADDRESSES = 3
# Of each family, before any is looked at further: what a healthy path takes.
_LOOK_CONNECTIONS = 3
_FAMILIES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Place:
    """One address, as sockets take it.

    Attributes:
        family: AF_INET or AF_INET6.
        address: For `socket.connect`.
    """

    family: socket.AddressFamily
    address: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The IP address."""
        return str(self.address[0])

    @property
    def family_name(self) -> str:
        """IPv4 or IPv6."""
        return _FAMILIES.get(self.family, "another family")


@dataclass(frozen=True, slots=True)
class Examined:
    """What came out at one address.

    Attributes:
        diagnosis: The diagnosis.
        address: The IP address; "" where a proxy knows it alone.
    """

    diagnosis: Diagnosis
    address: str


class InterruptedExaminationError(KeyboardInterrupt):
    """A person ended an examination.

    Args:
        examined: What was known by then, of each address that was tried.
    """

    def __init__(self, examined: tuple[Examined, ...]) -> None:
        super().__init__()
        self.examined = examined


def open_network(place: Place, target: Target, reach: Reach) -> Network:
    """Return the network whose connections are ready for TLS with a target.

    Args:
        place: Where to connect to: the target's, or the proxy's.
        target: The target.
        reach: How it is reached.
    """
    network = SocketNetwork(place.family, place.address)
    preambles: list[Callable[[Dialogue], None]] = []
    proxy = reach.proxy
    if proxy is not None:
        preambles.append(lambda dialogue: open_tunnel(dialogue, proxy, target.host, target.port))
    if reach.starttls:
        preambles.append(PROTOCOLS[reach.starttls].ask)
    if not preambles:
        return network
    first_peer = "" if proxy is None else f"the proxy {proxy}"
    return PreparedNetwork(network, preambles, is_relayed=proxy is not None, first_peer=first_peer)


def resolve(host: str, port: int, family: int = socket.AF_UNSPEC) -> tuple[Place, ...]:
    """Return the addresses of a name, in the system's order of preference.

    Args:
        host: Name, or IP address without brackets.
        port: TCP port.
        family: AF_INET or AF_INET6 for addresses of that family only.

    Raises:
        CannotProveError: There is none, or none of that family.
    """
    name = _FAMILIES.get(family, "")
    own = _family_of(host)
    if name and own not in (None, family):
        other = _FAMILIES[own or family]
        raise CannotProveError(
            f"{host} is an {other} address, and -{name[-1]} asks for {name}.", f"Leave out -{name[-1]}."
        )
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if name and _has_another_family(host, port):
            raise CannotProveError(f"{host} has no {name} address.", f"Leave out -{name[-1]}.") from error
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CannotProveError(f"{host} does not resolve: {reason}.", "Check the name.") from error
    return tuple(dict.fromkeys(Place(kind, place) for kind, _, _, _, place in found if kind in _FAMILIES))


def _family_of(host: str) -> int | None:
    """Return the family of an IP address, None for a name."""
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return None


def _has_another_family(host: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False


def examine_target(
    target: Target,
    options: PlanOptions,
    limits: Limits | None = None,
    family: int = socket.AF_UNSPEC,
    report: Callable[[Attempt], None] | None = None,
    reach: Reach | None = None,
) -> tuple[Examined, ...]:
    """Examine a real server: of each address family the first address that takes a connection.

    A look at each family comes first. Those that are well take three connections; what the limits leave goes to those
    that are not.

    Args:
        target: The server.
        options: What was asked for.
        limits: How much may be done, for all families together; None for the usual.
        family: AF_INET or AF_INET6 for that family only; through a proxy, of the proxy's addresses.
        report: Is told every attempt as it ends.
        reach: How it is reached; None for straight, TLS from the start.

    Returns:
        One for each family that takes connections; if none does, one that says so.

    Raises:
        CannotProveError: The name does not resolve.
        InterruptedExaminationError: Ctrl-C; it has what was known by then.
    """
    from pqtls.probe.certificates import load_system_roots

    reach = reach or Reach()
    limits = limits or limits_for(options)
    hop = target if reach.proxy is None else reach.proxy
    places = resolve(hop.host, hop.port, family)
    store = load_system_roots()
    # A proxy is a proxy over either family, and chooses the target's address itself.
    groups = _by_family(places) if reach.proxy is None else [places]
    routes = [_Route(each, target, reach, store, options, report) for each in groups]
    try:
        if len(routes) == 1:
            routes[0].go_on(limits)
            return (routes[0].examined(),)
        return _examine_all(routes, limits)
    except KeyboardInterrupt as stop:
        known = tuple(route.conclude_early() for route in routes if route.made)
        raise InterruptedExaminationError(known) from stop


def _by_family(places: Sequence[Place]) -> list[tuple[Place, ...]]:
    families: dict[int, list[Place]] = {}
    for place in places:
        families.setdefault(place.family, []).append(place)
    return [tuple(each) for each in families.values()]


class _Route:
    """The addresses of one family, of which the first that takes a connection is examined."""

    def __init__(
        self,
        places: Sequence[Place],
        target: Target,
        reach: Reach,
        store: verification.Store | None,
        options: PlanOptions,
        report: Callable[[Attempt], None] | None,
    ) -> None:
        self._places = places[:_MAX_ADDRESSES]
        self._address_count = len(places)
        self._target = target
        self._reach = reach
        self._store = store
        self._options = options
        self._report = report
        self.place = places[0]
        self.began: float | None = None
        self.found: Diagnosis | None = None
        self.made: list[Attempt] = []

    @property
    def is_connected(self) -> bool:
        return self.found is not None and any(attempt.is_connected for attempt in self.found.attempts)

    @property
    def is_answered(self) -> bool:
        """Somebody took a connection there, though TLS may not have begun on it."""
        return any(attempt.is_connected or attempt.ended_before_tls for attempt in self._attempts)

    @property
    def is_clean(self) -> bool:
        return self.found is not None and self.found.verdict == "healthy"

    @property
    def count(self) -> int:
        """How many connections it took so far."""
        return 0 if self.found is None else len(self.found.attempts)

    def go_on(self, limits: Limits) -> None:
        """Examine within limits, or go on where it ended before."""
        if self.is_connected:
            self._examine(limits)
            return
        for place in self._places:
            self.place, self.found = place, None
            self._examine(limits)
            # Who says no is no reason to ask at another address.
            if self.is_connected or any(each.ending == "turned-away" for each in self._attempts):
                break

    def conclude_early(self) -> Examined:
        """Return what is known after what was made, where more was to come."""
        self.found = conclude_early(self.made, self._options)
        return self.examined()

    def examined(self, *notes: str) -> Examined:
        """Return what came out, with what is to be said beside it."""
        assert self.found is not None  # noqa: S101 - it has been examined
        found = qualify(self.found, self._reach)
        others = self._address_count - 1
        if others and found.verdict != "healthy" and self._reach.proxy is None:
            family = self.place.family_name
            notes = (*notes, f"The name has {others} more {family} address{'es' * (others > 1)}: not examined.")
        address = "" if self._reach.proxy is not None else self.place.text
        return Examined(replace(found, notes=(*found.notes, *notes)), address)

    @property
    def _attempts(self) -> Sequence[Attempt]:
        return () if self.found is None else self.found.attempts

    def _examine(self, limits: Limits) -> None:
        network = open_network(self.place, self._target, self._reach)
        self.began = network.now() if self.began is None else self.began
        prober = Prober(network, self._target.server_name, self._store)
        options = replace(self._options, can_limit_hops=network.can_limit_hops)
        self.made = list(self._attempts)
        self.found = examine(prober, network, options, limits, self._note, self._attempts, self.began)

    def _note(self, attempt: Attempt) -> None:
        self.made.append(attempt)
        if self._report is not None:
            self._report(attempt)


def _examine_all(routes: list[_Route], limits: Limits) -> tuple[Examined, ...]:
    """Examine several families within one set of limits: a look at each, then those first that need little more."""
    began: float | None = None
    for route in routes:
        route.began = began
        route.go_on(Limits(_LOOK_CONNECTIONS, limits.seconds))
        began = route.began
    chosen = [route for route in routes if route.is_answered]
    used = sum(route.count for route in routes)
    for route in sorted(filter(lambda each: each.is_connected, chosen), key=lambda each: not each.is_clean):
        before = route.count
        route.go_on(Limits(before + max(0, limits.connections - used), limits.seconds))
        used += route.count - before
    if not chosen:
        return (routes[0].examined(*(_no_connection(route) for route in routes[1:])),)
    closed = tuple(_no_connection(route) for route in routes if route not in chosen)
    return tuple(route.examined(*closed, *_compare(route, chosen)) for route in chosen)


def _no_connection(route: _Route) -> str:
    detail = route.found.attempts[-1].detail if route.found is not None and route.count else ""
    return f"Over {route.place.family_name} ({route.place.text}) there is no connection. {detail}".rstrip()


def _compare(route: _Route, chosen: list[_Route]) -> list[str]:
    """Return what the other families tell of what came out over one."""
    if route.found is None:
        return []
    notes = []
    mine = route.place.family_name
    for other in chosen:
        theirs = f"{other.place.family_name} ({other.place.text})"
        if other is route or other.found is None:
            continue
        if route.found.verdict == "fault" and other.is_clean:
            notes.append(
                f"Over {theirs} the same target is healthy: what breaks belongs to {mine}, its path or the server at "
                f"its address. Meanwhile {other.place.family_name} works."
            )
        elif route.found.verdict == "inconclusive" and other.found.verdict == "fault":
            names = ", ".join(f"{each.id} {fault_name(each.id)}" for each in other.found.faults)
            notes.append(f"Over {theirs} it is {names}. Option -{mine[-1]} gives {mine} all connections and the time.")
    return notes
