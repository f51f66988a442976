"""Real handshakes (vectors) as TCP segments and packets, the way two kernels would have sent them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pqtls.wire.facts import Handshake, Side
from pqtls.wire.link import ETHERNET
from pqtls.wire.packet_builder import build_packet
from pqtls.wire.packet_tracker import PacketTracker
from pqtls.wire.packets import ACK, FIN, PSH, SYN, Endpoint, TcpSegment
from pqtls.wire.tcp_connection import CapturedHandshake
from tests.wire.vectors import Vector

CLIENT, SERVER = Endpoint(bytes((10, 0, 0, 1)), 40000), Endpoint(bytes((10, 0, 0, 2)), 443)
CLIENT6, SERVER6 = Endpoint(bytes(15) + b"\1", 40000), Endpoint(bytes(15) + b"\2", 443)
WRAP = 1 << 32


@dataclass(frozen=True)
class Ends:
    """Addresses and initial sequence numbers of a connection."""

    client: Endpoint = CLIENT
    server: Endpoint = SERVER
    client_isn: int = 1000
    server_isn: int = 5000


def segments_of(
    vector: Vector,
    mss: int = 1448,
    ends: Ends = Ends(),
    *,
    opening: bool = True,
    closing: bool = True,
) -> list[TcpSegment]:
    """Return a vector's handshake as one TCP connection, each segment acknowledging all that came before it."""
    end_of = {Side.CLIENT: ends.client, Side.SERVER: ends.server}
    nxt = {Side.CLIENT: (ends.client_isn + 1) % WRAP, Side.SERVER: (ends.server_isn + 1) % WRAP}
    segments = []
    if opening:
        segments.append(TcpSegment(ends.client, ends.server, ends.client_isn, 0, SYN, options=b"\2\4\5\xb4"))
        segments.append(TcpSegment(ends.server, ends.client, ends.server_isn, nxt[Side.CLIENT], SYN | ACK))
        segments.append(TcpSegment(ends.client, ends.server, nxt[Side.CLIENT], nxt[Side.SERVER], ACK))
    for side, flight in vector.flights:
        for at in range(0, len(flight), mss):
            data = flight[at : at + mss]
            flags = ACK | (PSH if at + mss >= len(flight) else 0)
            segments.append(TcpSegment(end_of[side], end_of[side.peer], nxt[side], nxt[side.peer], flags, data))
            nxt[side] = (nxt[side] + len(data)) % WRAP
    if closing:
        for side in (Side.CLIENT, Side.SERVER):
            segments.append(TcpSegment(end_of[side], end_of[side.peer], nxt[side], nxt[side.peer], FIN | ACK))
            nxt[side] = (nxt[side] + 1) % WRAP
        segments.append(TcpSegment(ends.client, ends.server, nxt[Side.CLIENT], nxt[Side.SERVER], ACK))
    return segments


def follow(segments: list[TcpSegment], link_type: int = ETHERNET, **options: object) -> list[CapturedHandshake]:
    """Put segments into packets, a millisecond apart, and return every handshake found in them."""
    packets = [build_packet(each, link_type, **options) for each in segments]  # type: ignore[arg-type]
    return follow_packets(packets, link_type)


def follow_packets(packets: list[bytes], link_type: int = ETHERNET) -> list[CapturedHandshake]:
    tracker = PacketTracker()
    found: list[CapturedHandshake] = []
    for number, packet in enumerate(packets):
        found += tracker.receive(number * 1_000_000, packet, link_type).handshakes
    return [*found, *tracker.finish()]


def plain(handshake: Handshake) -> Handshake:
    """Return the facts without what only packets or clocks tell."""
    hellos = tuple(replace(hello, segments=None) for hello in handshake.client_hellos)
    return replace(handshake, client_hellos=hellos, handshake_ms=None)


def expected(vector: Vector) -> Handshake:
    """Return what the same bytes come out as without packets, their end included."""
    handshake = vector.track()
    if handshake.complete or handshake.alert is not None or handshake.malformed is not None:
        return handshake
    return replace(handshake, ended="closed")
