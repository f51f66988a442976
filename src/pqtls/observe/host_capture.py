"""The capture on the host's own network: every interface is watched, and only the client's connections are taken.

In the lab a capture has a network to itself. Here other programs' connections pass too, and none of them may ever
be taken for the client's: `socket_owner` tells whose each one is, and what nobody can tell is reported as that.

A connection that passes two interfaces, such as a bridge and the card behind it, is one. Cards and kernels put
several TCP segments together on the host's own interfaces, so how many segments a ClientHello had is not told.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pqtls.errors import CannotProveError, UsageError
from pqtls.observe.host_report import HostCaptureReport
from pqtls.observe.kept_packets import KeptPackets, write_packets
from pqtls.observe.observation import Observation, observe
from pqtls.observe.owner_finder import OwnerFinder
from pqtls.observe.packet_socket import PacketSocket
from pqtls.observe.socket_owner import Claim, match_client_sockets
from pqtls.wire import link
from pqtls.wire.packet_tracker import PacketTracker
from pqtls.wire.packets import ACK, RST, SYN, TcpSegment, parse_packet
from pqtls.wire.pcap import CapturedPacket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from pqtls.wire.packet_tracker import PacketResult
    from pqtls.wire.packets import Endpoint
    from pqtls.wire.tcp_connection import CapturedHandshake, Phase

_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1
# As for a capture on one interface (`capture`).
_QUIET_S = 0.05
_DRAIN_LIMIT_S = 5.0
# Connections that are kept until the end of the watch: the client's, and those whose owner is not known.
MAX_CONNECTIONS = 16_384


@dataclass(slots=True, eq=False)
class _Connection:
    """One TCP connection on one interface that is, or may be, the client's."""

    claim: Claim
    phase: Phase
    handshake: CapturedHandshake | None = None
    last_sent_ns: int = 0

    @property
    def is_passed_on(self) -> bool:
        """No socket of this namespace sends its packets: it is another host's, or a container's."""
        absent = self.claim.absent_at_ns
        return self.claim.owner == "unknown" and absent is not None and self.last_sent_ns > absent


@dataclass(slots=True, eq=False)
class _Interface:
    """One interface while it is watched."""

    source: PacketSocket
    index: int
    # Checksums are not checked: on their way out they are the card's work, and cards that merge what comes in leave
    # wrong ones in the result. Two versions of the same bytes are told all the same, and prove nothing.
    tracker: PacketTracker = field(default_factory=lambda: PacketTracker(check_checksums=False))
    kept: KeptPackets = field(default_factory=KeptPackets)
    connections: dict[int, _Connection] = field(default_factory=dict)
    latest: dict[tuple[Endpoint, Endpoint], Claim] = field(default_factory=dict)
    newest: int = 0
    kernel_drops: int = 0
    went_down: bool = False


class HostCapture:
    """The right to watch this host's interfaces; one client at a time.

    Args:
        interfaces: Their names; None for all that are up, loopback included.

    Raises:
        CannotProveError: On entering: the system does not allow a capture (CAP_NET_RAW is needed), or does not tell
            whose a socket is.
        UsageError: On entering: there is no such interface.
    """

    def __init__(self, interfaces: Sequence[str] | None = None) -> None:
        self._interfaces = None if interfaces is None else tuple(interfaces)
        self._is_watching = threading.Lock()

    def __enter__(self) -> HostCapture:
        with self.watch():
            return self

    def __exit__(self, *_: object) -> None:
        pass

    def watch(self, marker: str | None = None) -> HostWatch:
        """Watch one client's run, as a context manager; enter it before the client is started.

        Args:
            marker: An entry of the environment, `NAME=value`, that the client has and nobody else; its children
                inherit it. Without one, name the client's process by `HostWatch.follow`.

        Raises:
            RuntimeError: On entering: another client is being watched.
        """
        return HostWatch(self._interfaces, marker, self._is_watching)


class HostWatch:
    """One client's run under the capture; `report` and `write_pcap` are for after the block."""

    def __init__(self, interfaces: Sequence[str] | None, marker: str | None, is_watching: threading.Lock) -> None:
        self._names = interfaces
        self._marker = marker
        self._is_watching = is_watching
        self._interfaces: list[_Interface] = []
        self._unwatched: tuple[str, ...] = ()
        self._stop_ns: int | None = None
        self._losses: list[str] = []
        self._crash: Exception | None = None
        self._others = 0
        self._given_up = 0
        self._is_over = False
        self._finder = OwnerFinder()

    def __enter__(self) -> HostWatch:
        if not self._is_watching.acquire(blocking=False):
            raise RuntimeError("one client at a time")
        try:
            self._interfaces, self._unwatched = _open_interfaces(self._names)
            self._finder.start([(each.source.interface, each.index) for each in self._interfaces], self._marker)
        except BaseException:
            for interface in self._interfaces:
                interface.source.close()
            self._is_watching.release()
            raise
        # What was opened before owners can be found was opened before there was a client.
        self._since_ns = time.time_ns()
        self._wake_reader, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="pqtls-host-capture", daemon=True)
        self._thread.start()
        return self

    def follow(self, pid: int) -> None:
        """Name the client's process, where it has no marker; at once after it was started.

        Args:
            pid: Its number.
        """
        self._finder.follow(pid)

    def __exit__(self, *_: object) -> None:
        self._stop_ns = time.time_ns()
        self._wake.close()
        self._thread.join()
        self._wake_reader.close()
        self._finder.stop()
        for interface in self._interfaces:
            interface.kernel_drops = interface.source.read_statistics()[1]
            interface.source.close()
        self._is_watching.release()
        if self._crash is not None:
            raise self._crash
        self._conclude()
        self._is_over = True

    # What came of it

    def claim(self, ids: Collection[str]) -> None:
        """Take connections for the client's that a witness inside its processes saw; for after the block.

        Only connections whose process could not be told are looked at.

        Args:
            ids: `Observation.id` of each.
        """
        for connection in self._all():
            found = connection.handshake
            if connection.claim.owner == "unknown" and found is not None and found.connection_id in {*ids} - {""}:
                connection.claim.owner = "client"

    @property
    def report(self) -> HostCaptureReport:
        """What was seen; for after the block."""
        if not self._is_over:
            raise RuntimeError("report is for after the with block")
        mine = self._choose("client")
        ids = {_key(connection) for _, _, connection in mine}
        unknown = [each for each in self._choose("unknown") if _key(each[2]) not in ids]
        plain = {str(each.claim.remote): None for each in self._all("client") if each.phase == "not-tls"}
        return HostCaptureReport(
            _to_observations(mine), _to_observations(unknown), tuple(plain), self._others, self._describe_losses()
        )

    def write_pcap(self, path: Path) -> int:
        """Write the packets of the client's handshakes, and of nobody else's, as a pcap file; for after the block.

        Args:
            path: Where; only its owner may read it.

        Returns:
            How many packets were written.

        Raises:
            UsageError: It cannot be written there.
        """
        if not self._is_over:
            raise RuntimeError("write_pcap is for after the with block")
        found: list[CapturedPacket] = []
        for interface, number, _ in self._choose("client"):
            found += interface.kept.packets_of(number)
        # A file has one link type, interfaces may have several: what is in front of the IP header is left out.
        found = [_without_link_header(packet) for packet in found]
        found.sort(key=lambda packet: packet.time_ns or 0)
        write_packets(found, path, link.RAW)
        return len(found)

    def _all(self, owner: str | None = None) -> Iterator[_Connection]:
        for interface in self._interfaces:
            for connection in interface.connections.values():
                if owner is None or connection.claim.owner == owner:
                    yield connection

    def _choose(self, owner: str) -> list[tuple[_Interface, int, _Connection]]:
        """Return an owner's connections with a handshake, each from one interface only."""
        seen: dict[str, dict[int, list[tuple[_Interface, int, _Connection]]]] = {}
        for interface in self._interfaces:
            for number, connection in interface.connections.items():
                if connection.claim.owner == owner and connection.handshake is not None:
                    by_interface = seen.setdefault(_key(connection), {})
                    by_interface.setdefault(interface.index, []).append((interface, number, connection))
        chosen = [max(by_interface.values(), key=_completeness) for by_interface in seen.values()]
        return [each for group in chosen for each in group]

    def _describe_losses(self) -> tuple[str, ...]:
        losses = list(self._losses)
        mine = list(self._all("client"))
        for phase, what in (
            ("joined-late", "connections of the client whose beginning was not captured"),
            ("lost-tunnel", "connections of the client through a proxy whose answers could not be followed"),
        ):
            number = sum(each.phase == phase for each in mine)
            losses += [f"not visible here: {number} {what}"] if number else []
        hidden = sum(
            each.phase in ("joined-late", "lost-tunnel") and not each.is_passed_on for each in self._all("unknown")
        )
        if hidden:
            losses.append(f"not visible here: {hidden} connections that may be the client's could not be read")
        not_kept = sum(interface.kept.not_kept for interface in self._interfaces)
        if not_kept:
            losses.append(f"the capture file may lack packets: {not_kept} were too many to keep")
        return tuple(losses)

    def _conclude(self) -> None:
        """Take what was found out late, and whatever was lost."""
        for interface in self._interfaces:
            self._take_handshakes(interface, interface.tracker.finish())
        claims = [each.claim for each in self._all() if not each.is_passed_on]
        for each in match_client_sockets(claims, self._finder.client_sockets):
            where = f" (not watched: {', '.join(self._unwatched)})" if self._unwatched else ""
            self._losses.append(f"not visible here: the client's packets to {each.remote}; none was captured{where}")
        for interface in self._interfaces:
            self._drop_others(interface)
            self._note_losses(interface)
        self._losses += self._finder.losses
        if self._given_up:
            self._losses.append(f"not visible here: {self._given_up} connections given up: too many at once")

    def _drop_others(self, interface: _Interface) -> None:
        for number, connection in list(interface.connections.items()):
            if connection.claim.owner == "another" or connection.is_passed_on:
                self._others += connection.handshake is not None
                interface.kept.drop(number)
                del interface.connections[number]
                ends = (connection.claim.local, connection.claim.remote)
                self._finder.forget(connection.claim)
                if interface.latest.get(ends) is connection.claim:
                    del interface.latest[ends]

    def _note_losses(self, interface: _Interface) -> None:
        name, counts = interface.source.interface, interface.tracker.counts
        if interface.kernel_drops:
            self._losses.append(f"not visible here: the kernel dropped {interface.kernel_drops} packets of {name}")
        given_up = counts.evicted + counts.overflowed
        if given_up and any(each.handshake is None for each in interface.connections.values()):
            self._losses.append(f"not visible here: {given_up} connections on {name} given up: too much at once")
        if interface.went_down and interface.connections:
            self._losses.append(f"not visible here: interface {name} went down during the capture")

    # In the thread

    def _run(self) -> None:
        try:
            self._watch_all()
            self._drain()
        except OSError as error:
            self._losses.append(f"not visible here: the capture ended early: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - carried over to the thread that asks
            self._crash = error

    def _watch_all(self) -> None:
        poll = select.poll()
        poll.register(self._wake_reader.fileno(), select.POLLIN)
        by_descriptor = {each.source.fileno(): each for each in self._interfaces}
        for descriptor in (*by_descriptor, self._finder.fileno()):
            poll.register(descriptor, select.POLLIN)
        while self._stop_ns is None:
            for descriptor, _ in poll.poll():
                if descriptor == self._finder.fileno() and not self._finder.take_answers():
                    poll.unregister(descriptor)
                if descriptor in by_descriptor:
                    # A share for each, so that a busy interface does not keep the others' news back.
                    for _ in range(64):
                        if self._stop_ns is not None or self._take_one(by_descriptor[descriptor]) is None:
                            break

    def _drain(self) -> None:
        """Take in what was captured before the end, and what follows within the time that packets need."""
        until_ns = (self._stop_ns or 0) + int(_QUIET_S * 1e9)
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        waiting = {each.source.fileno(): each for each in self._interfaces}
        poll = select.poll()
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        while waiting and (ready := poll.poll(_QUIET_S * 1000)):
            for descriptor, _ in ready:
                packet = self._take_one(waiting[descriptor])
                if packet is not None and (packet.time_ns or 0) > until_ns:
                    poll.unregister(descriptor)
                    del waiting[descriptor]
            if time.monotonic() > deadline:
                self._losses.append("not visible here: the packets still queued at the end were too many to read")
                return

    def _take_one(self, interface: _Interface) -> CapturedPacket | None:
        try:
            found = interface.source.receive_with_direction()
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
                raise
            interface.went_down = True
            return None
        if found is None:
            return None
        packet, is_outgoing = found
        if (packet.time_ns or 0) < self._since_ns:
            return packet
        result = interface.tracker.receive(packet.time_ns, packet.data, packet.link_type, packet.original_bytes)
        number = result.connection
        if number is not None and number > interface.newest:
            interface.newest = number
            self._open(interface, number, packet, result, is_outgoing)
        connection = None if number is None else interface.connections.get(number)
        if connection is not None and number is not None:
            self._follow(interface, number, connection, packet, result, is_outgoing)
        for dropped in result.dropped:
            interface.kept.drop(dropped)
        self._take_handshakes(interface, result.handshakes)
        return packet

    def _open(
        self, interface: _Interface, number: int, packet: CapturedPacket, result: PacketResult, is_outgoing: bool
    ) -> None:
        """Take a new connection, unless it is certain that it is not the client's."""
        if not result.flags & SYN:
            return  # open before the watch began, and so before there was a client
        segment = parse_packet(packet.data, packet.link_type, packet.original_bytes)
        if not isinstance(segment, TcpSegment):
            return
        is_answer = bool(segment.flags & ACK)
        if not interface.source.is_loopback and is_outgoing == is_answer:
            return  # opened from elsewhere
        if len(interface.connections) >= MAX_CONNECTIONS:
            self._drop_others(interface)
        if len(interface.connections) >= MAX_CONNECTIONS:
            self._given_up += 1
            return
        local, remote = (segment.dst, segment.src) if is_answer else (segment.src, segment.dst)
        sequence_number = (segment.ack - 1) % (1 << 32) if is_answer else segment.seq
        claim = Claim(local, remote, packet.time_ns or 0, interface.index, sequence_number)
        before = interface.latest.get((local, remote))
        if before is not None:
            before.close(claim.opened_ns)
        interface.latest[local, remote] = claim
        interface.connections[number] = _Connection(claim, result.phase or "waiting")
        self._finder.register(claim)

    def _follow(
        self,
        interface: _Interface,
        number: int,
        connection: _Connection,
        packet: CapturedPacket,
        result: PacketResult,
        is_outgoing: bool,
    ) -> None:
        if connection.claim.owner == "another":
            interface.kept.drop(number)
        else:
            interface.kept.take(packet, result)
        connection.phase = result.phase or connection.phase
        if is_outgoing and not result.flags & RST:
            connection.last_sent_ns = packet.time_ns or 0

    def _take_handshakes(self, interface: _Interface, found: Iterable[CapturedHandshake]) -> None:
        for each in found:
            connection = interface.connections.get(each.number)
            if connection is None:
                self._others += 1
                continue
            connection.handshake = each


def _key(connection: _Connection) -> str:
    """Return what is the same for one TLS connection wherever it is seen."""
    found = connection.handshake
    return "" if found is None else found.connection_id or f"{found.client} {found.server}"


def _completeness(group: list[tuple[_Interface, int, _Connection]]) -> tuple[bool, int]:
    complete = any(each.handshake is not None and each.handshake.handshake.complete for _, _, each in group)
    return complete, len(group)


def _to_observations(found: Iterable[tuple[_Interface, int, _Connection]]) -> tuple[Observation, ...]:
    observations = [_to_observation(each.handshake) for _, _, each in found if each.handshake is not None]
    return tuple(sorted(observations, key=lambda each: each.started_ns or 0))


def _to_observation(found: CapturedHandshake) -> Observation:
    hellos = tuple(replace(hello, segments=None) for hello in found.handshake.client_hellos)
    return observe(
        replace(found.handshake, client_hellos=hellos),
        found.connection_id,
        "capture",
        started_ns=found.started_ns,
        client=str(found.client),
        server=str(found.server),
    )


def _without_link_header(packet: CapturedPacket) -> CapturedPacket:
    start = link.find_ip(packet.data, packet.link_type) or 0
    return CapturedPacket(packet.time_ns, packet.data[start:], packet.original_bytes - start, link.RAW)


def _open_interfaces(names: Sequence[str] | None) -> tuple[list[_Interface], tuple[str, ...]]:
    """Open a packet socket on each interface; also return the names of those that cannot be watched."""
    wanted = _list_up() if names is None else tuple(names)
    if not wanted:
        raise CannotProveError("No network interface is up here.", "Set one up, such as lo.")
    opened: list[_Interface] = []
    unwatched = []
    try:
        for name in wanted:
            try:
                opened.append(_Interface(PacketSocket(name), socket.if_nametoindex(name)))
            except (UsageError, CannotProveError, OSError) as error:
                # One of all may be gone by now, or carry no IP; the right to capture is the same for all.
                if names is not None or isinstance(error.__cause__, PermissionError):
                    raise
                unwatched.append(name)
    except BaseException:
        for each in opened:
            each.source.close()
        raise
    return opened, tuple(unwatched)


def _list_up() -> tuple[str, ...]:
    """Return the names of all interfaces that are up."""
    names = []
    with socket.socket() as any_socket:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
            except OSError:
                continue
            if struct.unpack_from("H", answer, 16)[0] & _IFF_UP:
                names.append(name)
    return tuple(names)
