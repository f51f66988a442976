"""TLS after HTTP CONNECT: the same facts as without a proxy, however it is cut, and never more than is there."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqtls.evidence import judge
from pqtls.observe.kept_packets import KeptPackets
from pqtls.wire import link
from pqtls.wire.connect_tunnel import MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_REQUESTS, ConnectTunnel
from pqtls.wire.facts import Side
from pqtls.wire.packet_builder import build_packet
from pqtls.wire.packet_tracker import PacketCounts, PacketTracker
from pqtls.wire.packets import TcpSegment, parse_packet
from pqtls.wire.pcap import CapturedPacket
from pqtls.wire.tcp_connection import CapturedHandshake
from tests.wire.flows import CLIENT, Ends, expected, follow, plain, segments_of
from tests.wire.test_fuzz import CLASSICAL
from tests.wire.vectors import EXPECTED, Vector, load

Flights = tuple[tuple[Side, bytes], ...]
C, S = Side.CLIENT, Side.SERVER
NAMES = sorted(EXPECTED)
SECRET = b"cHFjOnNlY3JldA=="
ASK = b"CONNECT server.example:443 HTTP/1.1\r\nHost: server.example:443\r\n"
REQUEST = ASK + b"\r\n"
AUTHORIZED = ASK + b"Proxy-Authorization: Basic " + SECRET + b"\r\n\r\n"
ACCEPT = b"HTTP/1.1 200 Connection established\r\n\r\n"
REFUSE = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 12\r\nX: y\r\n\r\nHTTP/1.1 200"
CHUNKED = b"HTTP/1.1 407 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
PLAIN: Flights = ((C, REQUEST), (S, ACCEPT))
OPENINGS: dict[str, Flights] = {
    "plain": PLAIN,
    "http/1.0": ((C, b"CONNECT [::1]:443 HTTP/1.0\r\n\r\n"), (S, b"HTTP/1.0 200\r\n\r\n")),
    "lone line feeds": ((C, b"CONNECT a:443 HTTP/1.1\n\n"), (S, b"HTTP/1.1 200 OK\nVia: x\n\n")),
    "refused at first": ((C, REQUEST), (S, REFUSE), (C, AUTHORIZED), (S, ACCEPT)),
    "two proxies": (*PLAIN, *PLAIN),
    "interim answer": ((C, REQUEST), (S, b"HTTP/1.1 100 Continue\r\n\r\n"), (S, ACCEPT)),
    "a 2xx has no body": ((C, REQUEST), (S, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")),
}


def through(opening: Flights, name: str) -> Vector:
    vector = load(name)
    return replace(vector, flights=opening + vector.flights)


@pytest.mark.parametrize("mss", [1448, 97, 1])
@pytest.mark.parametrize("opening", OPENINGS)
def test_the_handshake_comes_out_as_without_a_proxy(opening: str, mss: int) -> None:
    for name in NAMES if mss == 1448 else ["hybrid-after-retry", "classical-only"][:mss]:
        vector = through(OPENINGS[opening], name)
        (found,) = follow(segments_of(vector, mss))
        assert plain(found.handshake) == expected(load(name))
        assert found.client == CLIENT
        (bare,) = follow(segments_of(load(name), mss))
        assert found.handshake.client_hellos[0].segments == bare.handshake.client_hellos[0].segments


@pytest.mark.parametrize("opening", OPENINGS)
def test_cut_in_two_at_every_position(opening: str) -> None:
    flights = OPENINGS[opening]
    for number, (side, data) in enumerate(flights):
        for at in range(1, len(data)):
            cut = (*flights[:number], (side, data[:at]), (side, data[at:]), *flights[number + 1 :])
            (found,) = follow(segments_of(through(cut, "hybrid")))
            assert plain(found.handshake) == expected(load("hybrid"))


@pytest.mark.parametrize("name", ["hybrid", "classical-chosen", "tls12-ecdhe"])
def test_any_order_and_copies_of_everything_after_the_opening(name: str) -> None:
    segments = segments_of(through(OPENINGS["refused at first"], name), 97)
    source = random.Random(name)  # noqa: S311 - repeatable
    for _ in range(10):
        middle = segments[3:] + source.sample(segments[3:], 5)
        source.shuffle(middle)
        (found,) = follow([*segments[:3], *middle])
        assert plain(found.handshake) == expected(load(name))


@pytest.mark.parametrize("name", ["hybrid", "classical-chosen"])
def test_every_single_lost_packet(name: str) -> None:
    """A lost packet is never a proof, nor a connection that silently is no TLS."""
    segments = segments_of(through(OPENINGS["refused at first"], name), 400)
    for lost, segment in enumerate(segments):
        tracker = PacketTracker()
        found: list[CapturedHandshake] = []
        for each in segments[:lost] + segments[lost + 1 :]:
            found += tracker.receive(None, build_packet(each), link.ETHERNET).handshakes
        found += tracker.finish()
        assert tracker.counts.not_tls == 0
        if not segment.payload:
            assert [judge(each.handshake) for each in found] == [judge(load(name).track())]
        elif found and judge(found[0].handshake).verdict != "inconclusive":
            assert judge(found[0].handshake).verdict == EXPECTED[name][0]


def count(flights: Flights) -> tuple[list[str], PacketCounts]:
    tracker = PacketTracker()
    found: list[CapturedHandshake] = []
    for each in segments_of(replace(load("hybrid"), flights=flights)):
        found += tracker.receive(None, build_packet(each), link.ETHERNET).handshakes
    found += tracker.finish()
    return [judge(each.handshake).verdict for each in found], tracker.counts


HYBRID = load("hybrid").flights


@pytest.mark.parametrize(
    "opening",
    [
        ((C, REQUEST), (S, CHUNKED), (C, AUTHORIZED), (S, ACCEPT)),
        ((C, REQUEST), (S, b"HTTP/1.1 407 No\r\n\r\n"), (C, AUTHORIZED), (S, ACCEPT)),
        ((C, REQUEST), (S, REFUSE.replace(b"X: y", b"Content-Length: 3")), (C, AUTHORIZED), (S, ACCEPT)),
        ((C, REQUEST), (S, REFUSE.replace(b"12", str(MAX_BODY_BYTES + 1).encode())), *PLAIN),
        ((C, REQUEST), (S, b"ICY 200 OK\r\n\r\n")),
        ((C, b"CONNECT a:443\r\n\r\n"), (S, ACCEPT)),
        ((C, ASK + b"X: " + bytes(MAX_HEAD_BYTES)),),
        ((C, REQUEST), (S, b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES)),
        PLAIN * (MAX_REQUESTS + 1),
    ],
)
def test_what_cannot_be_followed_is_told_and_proves_nothing(opening: Flights) -> None:
    verdicts, counts = count(opening + HYBRID)
    assert verdicts == []
    assert (counts.lost_tunnels, counts.not_tls) == (1, 0)


def test_no_tls_in_the_tunnel_and_no_tunnel() -> None:
    verdicts, counts = count((*PLAIN, (C, b"GET / HTTP/1.1\r\n\r\n"), (S, b"HTTP/1.1 200 OK\r\n\r\n")))
    assert (verdicts, counts.not_tls, counts.lost_tunnels) == ([], 1, 0)
    verdicts, counts = count(((C, REQUEST), (S, CHUNKED)))  # refused, and that was all
    assert (verdicts, counts.lost_tunnels) == ([], 0)
    verdicts, counts = count(((C, b"CONFIG x\r\n\r\n"), *HYBRID))
    assert (verdicts, counts.not_tls) == ([], 1)


def test_a_hello_sent_before_the_refusal_proves_nothing() -> None:
    for refusal in (REFUSE, CHUNKED):
        verdicts, _ = count(((C, REQUEST), HYBRID[0], (S, refusal), *HYBRID[1:]))
        assert verdicts in ([], ["inconclusive"])


def test_a_classical_handshake_is_not_hidden_by_a_hybrid_one_in_the_clear() -> None:
    """A proxy's page may hold whatever it likes: only what is in the tunnel counts."""
    page = b"HTTP/1.1 407 No\r\nContent-Length: %d\r\n\r\n" % len(HYBRID[1][1]) + HYBRID[1][1]
    verdicts, _ = count(((C, REQUEST), (S, page), (C, AUTHORIZED), (S, ACCEPT), *load("classical-only").flights))
    assert verdicts == ["not-post-quantum"]


_few = settings(max_examples=max(300, settings().max_examples // 5))


@_few
@given(st.data(), st.sampled_from(CLASSICAL))
def test_no_mutation_of_the_opening_makes_a_classical_handshake_post_quantum(data: st.DataObject, name: str) -> None:
    opening = list(OPENINGS[data.draw(st.sampled_from(sorted(OPENINGS)))])
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(opening) - 1))
        side, old = opening[number]
        at = data.draw(st.integers(0, len(old)))
        opening[number] = (side, old[:at] + data.draw(st.binary(max_size=6)) + old[at + data.draw(st.integers(0, 9)) :])
    for found in follow(segments_of(through(tuple(opening), name))):
        assert judge(found.handshake).verdict != "post-quantum"


@_few
@given(st.lists(st.tuples(st.sampled_from([C, S]), st.binary(min_size=1, max_size=40)), max_size=9), st.booleans())
def test_no_bytes_raise_and_nothing_depends_on_cuts(noise: list[tuple[Side, bytes]], is_refused: bool) -> None:
    flights = (*(OPENINGS["refused at first"][: 3 if is_refused else 4]), *noise)

    def run(size: int) -> tuple[bool, bytes, bytes]:
        tunnel, rest = ConnectTunnel(), {C: b"", S: b""}
        for side, data in flights:
            for at in range(0, len(data), size):
                piece = data[at : at + size]
                plain_bytes = tunnel.strip(side, piece)
                assert 0 <= plain_bytes <= len(piece)
                rest[side] += piece[plain_bytes:]
                assert tunnel.memory_bytes <= 2 * MAX_HEAD_BYTES + 2
        return tunnel.is_lost, rest[C], rest[S]

    assert run(10_000) == run(1) == run(3)


@pytest.mark.parametrize("mss", [1448, 200, 1])
def test_no_plain_text_of_a_tunnel_is_kept(mss: int) -> None:
    """Proxy credentials must not reach a capture file, not even when they are sent again after the hello."""
    segments = segments_of(through(OPENINGS["refused at first"], "hybrid"), mss)
    request = next(each for each in segments if SECRET[:1] in each.payload)
    late = next(number for number, each in enumerate(segments) if each.payload[:1] == b"\x16")
    kept, tracker = KeptPackets(), PacketTracker()
    ordered: list[TcpSegment] = [*segments[: late + 1], request, *segments[late + 1 :]]
    for segment in [*ordered[:3], *reversed(ordered[3:5]), *ordered[5:]]:
        data = build_packet(segment)
        packet = CapturedPacket(0, data, len(data), link.ETHERNET)
        kept.take(packet, tracker.receive(0, data, link.ETHERNET))
    streams = {C: b"", S: b""}
    for packet in kept.packets():
        segment_kept = parse_packet(packet.data, link.ETHERNET)
        assert isinstance(segment_kept, TcpSegment)
        streams[C if segment_kept.src == Ends().client else S] += segment_kept.payload
    assert streams[C]
    assert streams[C] == b"".join(d for s, d in HYBRID if s is C)[: len(streams[C])]
    assert streams[S]
    assert streams[S] == b"".join(d for s, d in HYBRID if s is S)[: len(streams[S])]
