"""Captured packets in, TLS handshakes out: follows every TCP connection of a capture, with bounded memory.

Nothing is dropped silently: what could not be used, and connections that had to be given up, are counted in
`PacketCounts`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from pqtls.wire import packets
from pqtls.wire.errors import MalformedError
from pqtls.wire.link import SUPPORTED
from pqtls.wire.packets import CutPacket, Endpoint, Fragment, TcpSegment, parse_packet
from pqtls.wire.tcp_connection import CapturedHandshake, Phase, TcpConnection

# Connections whose handshake is under way at once. A busy server has hundreds (5,000 handshakes a second of
# 50 ms each are 250); a flood of SYNs has any number, and each costs about 2 KB.
MAX_CONNECTIONS = 4_096
# Connections remembered after their handshake, so that the rest of them is passed over. A forgotten one whose
# packets still come is taken for one that was joined late: more work, no other answer.
MAX_REMEMBERED = 65_536
# Memory of all held packets together: 64 connections at the limits of `tcp_stream`, or every one of the
# 4,096 with a first flight of 16 KB out of order.
MAX_HELD_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """What became of the packets and connections.

    Attributes:
        packets: Packets taken.
        malformed: Broke the rules of IP or TCP.
        cut: Headers not captured to their end.
        unknown_link: Stood on a link type that is not known.
        fragments: Pieces of IP packets, which are not put together.
        wrong_checksums: TCP segments that a receiver would have dropped; they were. Those of connections whose
            handshake is over are not looked at.
        ignored: Segments outside their connection's window.
        connections: TCP connections seen.
        not_tls: Of these, the ones that do not begin as TLS.
        joined_late: Of these, the ones whose beginning is not in the capture.
        evicted: Of these, the ones given up because there were too many at once.
        overflowed: Of these, the ones given up because too much of them was out of order.
        lost_tunnels: Of these, the ones through a proxy whose plain text could not be followed to the TLS after it.
    """

    packets: int = 0
    malformed: int = 0
    cut: int = 0
    unknown_link: int = 0
    fragments: int = 0
    wrong_checksums: int = 0
    ignored: int = 0
    connections: int = 0
    not_tls: int = 0
    joined_late: int = 0
    evicted: int = 0
    overflowed: int = 0
    lost_tunnels: int = 0


@dataclass(frozen=True, slots=True)
class PacketResult:
    """What one packet led to.

    Attributes:
        handshakes: Handshakes that are finished now, or given up.
        connection: Number of the TCP connection it belongs to; None if to none.
        phase: Where that connection is, after the packet.
        flags: TCP flags of the packet, 0 if it is no TCP segment.
        dropped: Numbers of connections that were given up before they were known to be TLS.
        is_tunnel: Its connection begins with plain text to a proxy, which may hold credentials.
        has_plain_text: The packet carries, or may carry, some of that.
    """

    handshakes: tuple[CapturedHandshake, ...] = ()
    connection: int | None = None
    phase: Phase | None = None
    flags: int = 0
    dropped: tuple[int, ...] = ()
    is_tunnel: bool = False
    has_plain_text: bool = False


@dataclass(frozen=True, slots=True)
class _Remembered:
    number: int
    phase: Phase
    first_sequence_numbers: dict[Endpoint, int | None]


_Key = tuple[Endpoint, Endpoint]


class PacketTracker:
    """Follows the connections of one capture.

    Args:
        check_checksums: Drop segments with a wrong TCP checksum, as their receiver did. Checksums that are
            left to a network card are not wrong. Turn it off for captures of cards that merge segments and
            leave another checksum in the result.
        max_connections: Connections followed at once.
    """

    def __init__(self, *, check_checksums: bool = True, max_connections: int = MAX_CONNECTIONS) -> None:
        self._check_checksums = check_checksums
        self._max_connections = max_connections
        self._open: OrderedDict[_Key, TcpConnection] = OrderedDict()
        self._remembered: OrderedDict[_Key, _Remembered] = OrderedDict()
        self._held_bytes = 0
        self._counts = dict.fromkeys(PacketCounts.__slots__, 0)
        self._finished: list[CapturedHandshake] = []
        self._dropped: list[int] = []

    @property
    def counts(self) -> PacketCounts:
        """What became of the packets so far."""
        return PacketCounts(**self._counts)

    @property
    def held_bytes(self) -> int:
        """Memory held for packets, estimated."""
        return self._held_bytes

    def receive(
        self, time_ns: int | None, data: bytes, link_type: int, original_bytes: int | None = None
    ) -> PacketResult:
        """Take the next packet.

        Args:
            time_ns: When it was captured, nanoseconds since 1970.
            data: What was captured of it, from the link-layer header on.
            link_type: LINKTYPE number of the interface.
            original_bytes: Size on the wire; None if everything was captured.

        Returns:
            What it led to. It never raises on what a packet holds.
        """
        self._counts["packets"] += 1
        segment = self._parse(data, link_type, original_bytes)
        if segment is None:
            return PacketResult()
        src, dst = segment.src, segment.dst
        key = (src, dst) if (src.ip, src.port) <= (dst.ip, dst.port) else (dst, src)
        known = self._remembered.get(key)
        if known is not None and not _opens_another(known, segment):
            self._remembered.move_to_end(key)
            return PacketResult(connection=known.number, phase=known.phase, flags=segment.flags)
        if self._check_checksums and segment.checksum_state == "wrong":
            self._counts["wrong_checksums"] += 1
            return PacketResult()
        connection = self._find(key, segment)
        before = connection.memory_bytes
        ignored = connection.ignored
        connection.receive(segment, time_ns)
        self._counts["ignored"] += connection.ignored - ignored
        self._held_bytes += connection.memory_bytes - before
        if connection.phase not in ("waiting", "handshake"):
            self._close(key)
        self._evict()
        return self._result(connection, segment)

    def finish(self) -> tuple[CapturedHandshake, ...]:
        """Take the end of the capture.

        Returns:
            The handshakes that were still under way, as far as they were seen.
        """
        for key in list(self._open):
            self._close(key)
        return self._result().handshakes

    def _result(self, connection: TcpConnection | None = None, segment: TcpSegment | None = None) -> PacketResult:
        handshakes, self._finished = tuple(self._finished), []
        dropped, self._dropped = tuple(self._dropped), []
        if connection is None or segment is None:
            return PacketResult(handshakes, dropped=dropped)
        return PacketResult(
            handshakes,
            connection.number,
            connection.phase,
            segment.flags,
            dropped,
            connection.is_tunnel,
            connection.has_plain_text(segment),
        )

    def _parse(self, data: bytes, link_type: int, original_bytes: int | None) -> TcpSegment | None:
        try:
            packet = parse_packet(data, link_type, original_bytes)
        except MalformedError:
            self._counts["malformed"] += 1
            return None
        if link_type not in SUPPORTED:
            self._counts["unknown_link"] += 1
        elif isinstance(packet, CutPacket):
            self._counts["cut"] += 1
        elif isinstance(packet, Fragment):
            self._counts["fragments"] += 1
        elif isinstance(packet, TcpSegment):
            # A socket that is connected to itself has one stream, and no TLS in it.
            return None if packet.src == packet.dst else packet
        return None

    def _find(self, key: _Key, segment: TcpSegment) -> TcpConnection:
        connection = self._open.get(key)
        if connection is not None and segment.flags & packets.SYN and not connection.is_same(segment):
            self._close(key)
            connection = None
        if connection is None:
            self._remembered.pop(key, None)
            self._counts["connections"] += 1
            connection = TcpConnection(segment.src, segment.dst, self._counts["connections"])
            self._open[key] = connection
            self._held_bytes += connection.memory_bytes
        self._open.move_to_end(key)
        return connection

    def _close(self, key: _Key) -> None:
        """Let go of a connection: whatever it has shown by now is its result."""
        connection = self._open.pop(key)
        self._held_bytes -= connection.memory_bytes
        connection.finish()
        result = connection.result()
        if result is not None:
            self._finished.append(result)
        else:
            self._dropped.append(connection.number)
        self._counts["not_tls"] += connection.phase == "not-tls"
        self._counts["joined_late"] += connection.phase == "joined-late"
        self._counts["lost_tunnels"] += connection.phase == "lost-tunnel"
        self._counts["overflowed"] += connection.has_overflowed
        phase: Phase = connection.phase if result is not None or connection.phase != "over" else "not-tls"
        self._remembered[key] = _Remembered(connection.number, phase, connection.first_sequence_numbers)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _evict(self) -> None:
        while len(self._open) > self._max_connections or (self._held_bytes > MAX_HELD_BYTES and self._open):
            self._counts["evicted"] += 1
            self._close(next(iter(self._open)))


def _opens_another(known: _Remembered, segment: TcpSegment) -> bool:
    """Tell whether a segment opens a new connection on the ports of one that is over."""
    if not segment.flags & packets.SYN:
        return False
    first = known.first_sequence_numbers.get(segment.src)
    if first is None and segment.flags & packets.ACK:  # its sender was not heard before: ask what it answers
        return known.first_sequence_numbers.get(segment.dst) != segment.ack
    return first != (segment.seq + 1) % (1 << 32)
