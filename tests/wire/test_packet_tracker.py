"""Every real handshake must come out of packets as it does out of its bytes, however TCP carried it."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from pqtls.evidence import judge
from pqtls.wire import link
from pqtls.wire.facts import Side
from pqtls.wire.packet_builder import build_packet
from pqtls.wire.packet_tracker import PacketTracker
from pqtls.wire.packets import ACK, FIN, PSH, RST, SYN, Endpoint, TcpSegment
from pqtls.wire.tcp_connection import CapturedHandshake
from tests.wire.flows import (
    CLIENT,
    CLIENT6,
    SERVER,
    SERVER6,
    WRAP,
    Ends,
    expected,
    follow,
    follow_packets,
    plain,
    segments_of,
)
from tests.wire.vectors import EXPECTED, load

NAMES = sorted(EXPECTED)


def follow_one(segments: list[TcpSegment], name: str, link_type: int = link.ETHERNET, **options: object) -> None:
    """Require that the segments come out as exactly the vector's handshake."""
    (found,) = follow(segments, link_type, **options)
    assert plain(found.handshake) == expected(load(name))


@pytest.mark.parametrize("mss", [1448, 536, 1])
@pytest.mark.parametrize("name", NAMES)
def test_every_vector_in_segments_of_any_size(name: str, mss: int) -> None:
    vector = load(name)
    (found,) = follow(segments_of(vector, mss))
    assert plain(found.handshake) == expected(vector)
    assert (found.client, found.server) == (CLIENT, SERVER)
    assert len(found.connection_id) == 16
    assert found.started_ns == 3_000_000  # after SYN, SYN-ACK, ACK
    first = found.handshake.client_hellos[0]
    # The record header, 5 bytes, comes before the message.
    assert first.segments == (first.size_bytes if mss == 1 else -(-(first.size_bytes + 5) // mss))
    verdict, reason, *_ = EXPECTED[name]
    assert (judge(found.handshake).verdict, judge(found.handshake).reason) == (verdict, reason)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("link_type", "options"),
    [
        (link.ETHERNET, {"vlans": (7,)}),
        (link.ETHERNET, {"vlans": (7, 9)}),
        (link.ETHERNET, {"options": b"\1" * 40}),
        (link.LINUX_SLL, {}),
        (link.LINUX_SLL, {"vlans": (7,)}),
        (link.LINUX_SLL2, {}),
        (link.RAW, {}),
        (link.NULL, {}),
        (link.LOOP, {}),
    ],
)
def test_link_layers(name: str, link_type: int, options: dict[str, object]) -> None:
    follow_one(segments_of(load(name)), name, link_type, **options)


@pytest.mark.parametrize("link_type", [link.ETHERNET, link.LINUX_SLL, link.LINUX_SLL2, link.RAW, link.NULL])
@pytest.mark.parametrize(
    "extensions",
    [
        (),
        ((0, bytes(8)),),
        ((0, bytes((0, 1)) + bytes(14)), (43, bytes(8)), (60, bytes(8))),
        ((51, bytes((0, 4)) + bytes(22)),),
        ((44, bytes(8)),),  # an atomic fragment
    ],
)
def test_ipv6_with_extension_headers(link_type: int, extensions: tuple[tuple[int, bytes], ...]) -> None:
    ends = Ends(CLIENT6, SERVER6)
    segments = segments_of(load("hybrid-after-retry"), 1300, ends)
    follow_one(segments, "hybrid-after-retry", link_type, extensions=extensions)


def parts_of(segments: list[TcpSegment]) -> tuple[list[TcpSegment], list[TcpSegment], list[TcpSegment]]:
    """Return the opening, the client's first flight, and the rest."""
    end = 3
    while segments[end].src == CLIENT and segments[end].payload:
        end += 1
    return segments[:3], segments[3:end], segments[end:]


@pytest.mark.parametrize("opened", ["syn", "no-syn", "no-opening"])
@pytest.mark.parametrize("name", ["hybrid", "hybrid-after-retry", "tls12-ecdhe", "certificate-refused", "resumed"])
def test_every_order_of_the_first_flight(name: str, opened: str) -> None:
    segments = segments_of(load(name), 400)
    opening, flight, rest = parts_of(segments)
    opening = {"syn": opening, "no-syn": opening[1:], "no-opening": []}[opened]
    assert len(flight) <= 5
    for order in itertools.permutations(flight):
        (found,) = follow([*opening, *order, *rest])
        assert plain(found.handshake) == expected(load(name))
        assert found.handshake.client_hellos[0].segments == len(flight)
        if opened != "no-opening":
            doubled = [segment for segment in order for _ in range(2)]
            (found,) = follow([*opening, *doubled, *rest])
            assert found.handshake.client_hellos[0].segments == len(flight)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mss", [1448, 97])
def test_any_order_of_everything_between_the_opening_and_the_end(name: str, mss: int) -> None:
    """Directions overtake each other in a capture: what a segment acknowledges puts them right again."""
    segments = segments_of(load(name), mss)
    source = random.Random(f"{name}{mss}")  # noqa: S311 - repeatable
    for _ in range(10):
        middle = segments[3:]
        source.shuffle(middle)
        follow_one([*segments[:3], *middle], name)


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_every_direction_backwards(name: str) -> None:
    segments = segments_of(load(name), 1)
    follow_one([*segments[:3], *reversed(segments[3:])], name)


@pytest.mark.parametrize("name", NAMES)
def test_duplicates_and_overlaps_with_other_cuts(name: str) -> None:
    """Each segment is followed by all that was sent of its flight again, cut elsewhere and a byte longer."""
    segments = segments_of(load(name), 300)
    for back, forth in [(0, 0), (1, 0), (300, 1), (450, 150), (10_000, 299)]:
        doubled = []
        for number, segment in enumerate(segments):
            doubled.append(segment)
            doubled.append(_wider(segments, number, back, forth))
        (found,) = follow(doubled)
        assert plain(found.handshake) == expected(load(name))
        # A copy that brings new bytes is one of the segments that carried the hello; one that does not is not.
        size = found.handshake.client_hellos[0].size_bytes + 5
        assert (found.handshake.client_hellos[0].segments or 0) <= 2 * -(-size // 300)
        if forth == 0:
            assert found.handshake.client_hellos[0].segments == -(-size // 300)


def _wider(segments: list[TcpSegment], number: int, back: int, forth: int) -> TcpSegment:
    segment = segments[number]
    if not segment.payload:
        return segment
    own = [each for each in segments if each.src == segment.src and each.payload]
    stream = b"".join(each.payload for each in own)
    at = (segment.seq - own[0].seq) % WRAP
    start = max(0, at - back)
    # What comes next can only be sent early if it answers nothing new.
    following = [each for each in own if each.seq == segment.seq + len(segment.payload) and each.ack == segment.ack]
    end = at + len(segment.payload) + (min(forth, len(following[0].payload)) if following else 0)
    return replace(segment, seq=(own[0].seq + start) % WRAP, payload=stream[start:end])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [0, 1, 2, 100, 1500, 3000])
def test_sequence_numbers_that_wrap(name: str, before: int) -> None:
    ends = Ends(client_isn=WRAP - 1 - before, server_isn=WRAP - 1 - before)
    segments = segments_of(load(name), 500, ends)
    follow_one(segments, name)
    follow_one([*segments[:3], *reversed(segments[3:])], name)
    follow_one(segments[2:], name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing", [{0}, {1}, {0, 1}, {0, 1, 2}, {1, 2}])
def test_missing_opening(name: str, missing: set[int]) -> None:
    segments = [each for number, each in enumerate(segments_of(load(name), 500)) if number not in missing]
    follow_one(segments, name)


def test_data_before_the_syn_that_belongs_to_it() -> None:
    syn, syn_ack, ack, *rest = segments_of(load("hybrid"), 500)
    follow_one([syn_ack, syn, ack, *rest], "hybrid")
    follow_one([rest[1], rest[0], syn, syn_ack, ack, *rest[2:]], "hybrid")


def test_keep_alives_and_window_probes_change_nothing() -> None:
    segments = segments_of(load("hybrid-after-retry"), 700)
    with_probes = []
    for segment in segments:
        with_probes.append(segment)
        if segment.payload:
            last = (segment.seq + len(segment.payload) - 1) % WRAP
            with_probes.append(replace(segment, seq=last, payload=b"", flags=ACK))
            with_probes.append(replace(segment, seq=last, payload=b"\x5a", flags=ACK))
    follow_one(with_probes, "hybrid-after-retry")


def test_interleaved_connections() -> None:
    flows = []
    for number, name in enumerate(NAMES * 3):
        ends = Ends(replace(CLIENT, port=40000 + number), client_isn=number * 77_777, server_isn=number * 999_999)
        flows.append(segments_of(load(name), 200, ends))
    source = random.Random(1)  # noqa: S311 - repeatable
    mixed, left = [], [list(flow) for flow in flows]
    while any(left):
        mixed.append(source.choice([flow for flow in left if flow]).pop(0))
    found = {each.client.port: each.handshake for each in follow(mixed)}
    assert len(found) == len(flows)
    for number, name in enumerate(NAMES * 3):
        assert plain(found[40000 + number]) == expected(load(name))


@pytest.mark.parametrize("closing", [True, False])
def test_ports_used_again(closing: bool) -> None:
    names = ["hybrid", "classical-chosen", "hybrid", "no-common-group", "tls12-ecdhe"]
    segments: list[TcpSegment] = []
    for number, name in enumerate(names):
        ends = Ends(client_isn=1000 + number, server_isn=70_000 * number)
        segments += segments_of(load(name), 1448, ends, closing=closing)
    found = follow(segments)
    assert [plain(each.handshake) for each in found] == [expected(load(name)) for name in names]


def test_a_connection_cut_off_by_the_next_on_its_ports() -> None:
    first = segments_of(load("hybrid"), 1448, closing=False)[:5]
    second = segments_of(load("classical-chosen"), 1448, Ends(client_isn=9, server_isn=99))
    found = follow([*first, *second])
    assert [judge(each.handshake).verdict for each in found] == ["inconclusive", "not-post-quantum"]


@pytest.mark.parametrize("name", [name for name in NAMES if EXPECTED[name][0] == "post-quantum"])
def test_no_capture_that_ends_before_the_finished_is_post_quantum(name: str) -> None:
    segments = segments_of(load(name), 300)
    reasons = set()
    for end in range(len(segments)):
        for found in follow(segments[:end]):
            finding = judge(found.handshake)
            if finding.verdict != "post-quantum":
                assert finding.verdict == "inconclusive"
                reasons.add(finding.reason)
            else:
                sent = b"".join(each.payload for each in segments[:end] if each.src == CLIENT)
                whole = b"".join(data for side, data in load(name).flights if side is Side.CLIENT)
                assert len(sent) >= len(whole) - 150  # the Finished is among the last records
    assert reasons == {"no-server-hello", "truncated"}


@pytest.mark.parametrize("name", [name for name in NAMES if EXPECTED[name][0] == "post-quantum"])
def test_every_single_lost_packet(name: str) -> None:
    """A lost packet of data never makes a proof of what is not there, and never a wrong one."""
    segments = segments_of(load(name), 300)
    for lost, segment in enumerate(segments):
        for found in follow(segments[:lost] + segments[lost + 1 :]):
            finding = judge(found.handshake)
            assert finding.verdict in ("inconclusive", "post-quantum")
            assert finding.reason != "malformed"
            if not segment.payload:
                assert finding.verdict == "post-quantum"
            elif segment.src == CLIENT and name != "client-certificate":
                # (There the first protected record is enough for the tracker, and a lost one may be another.)
                assert finding.reason in ("no-server-hello", "truncated")


def test_packets_captured_in_part() -> None:
    packets = [build_packet(each) for each in segments_of(load("hybrid"))]
    for snapshot in (0, 10, 14, 20, 34, 40, 54, 60, 100, 1000, 1400):
        tracker = PacketTracker()
        found: list[CapturedHandshake] = []
        for number, packet in enumerate(packets):
            found += tracker.receive(number, packet[:snapshot], link.ETHERNET, len(packet)).handshakes
        found += tracker.finish()
        assert all(judge(each.handshake).verdict == "inconclusive" for each in found)
        assert tracker.counts.malformed == 0
        assert tracker.counts.cut > 0 or snapshot >= 54
        assert bool(found) == (snapshot >= 60)


def test_two_versions_of_the_same_bytes_prove_nothing() -> None:
    segments = segments_of(load("hybrid"), 1448)
    for number, segment in enumerate(segments):
        # The segment that completes the handshake is judged at once; what contradicts it later comes too late.
        if segment.payload and number < len(segments) - 5:
            other = replace(segment, payload=segment.payload[:-1] + bytes([segment.payload[-1] ^ 1]))
            (found,) = follow([*segments[: number + 1], other, *segments[number + 1 :]])
            assert judge(found.handshake).reason == "malformed"
            (found,) = follow([*segments[:3], other, *segments[3:]])
            assert judge(found.handshake).reason == "malformed"


def test_two_versions_of_bytes_that_still_wait_prove_nothing() -> None:
    segments = segments_of(load("hybrid"), 500)
    assert all(each.src == CLIENT and each.payload for each in segments[3:6])
    other = replace(segments[5], payload=segments[5].payload[:-1] + bytes([segments[5].payload[-1] ^ 1]))
    for order in ((segments[5], other, segments[4]), (other, segments[5], segments[4])):
        (found,) = follow([*segments[:4], *order, *segments[6:]])
        assert judge(found.handshake).reason == "malformed"


def test_a_reset_after_lost_bytes_does_not_tell_how_the_handshake_ended() -> None:
    segments = segments_of(load("hybrid"), 1448, closing=False)
    last = max(number for number, each in enumerate(segments) if each.src == CLIENT and each.payload)
    reset = replace(segments[last], seq=segments[last].seq + len(segments[last].payload), payload=b"", flags=RST)
    (found,) = follow([*segments[:last], reset])
    assert (found.handshake.ended, judge(found.handshake).reason) == ("capture-end", "truncated")


def test_segments_that_a_receiver_drops_are_dropped() -> None:
    segments = segments_of(load("classical-chosen"), 1448)
    forged = segments_of(load("hybrid"), 1448)
    packets = []
    for true, false in itertools.zip_longest(segments, forged):
        if false is not None and false.payload:
            packets.append(build_packet(replace(false, checksum=0x1234)))
        if true is not None:
            packets.append(build_packet(true))
    (found,) = follow_packets(packets)
    assert plain(found.handshake) == expected(load("classical-chosen"))


def test_checksums_left_to_the_network_card_are_not_wrong() -> None:
    follow_one([replace(each, checksum=0) for each in segments_of(load("hybrid"))], "hybrid")


@pytest.mark.parametrize("sender", [Side.CLIENT, Side.SERVER])
def test_reset(sender: Side) -> None:
    segments = segments_of(load("hybrid"), 1448, closing=False)
    end, peer = (CLIENT, SERVER) if sender is Side.CLIENT else (SERVER, CLIENT)
    nxt = 1001 if sender is Side.CLIENT else 5001
    for at, segment in enumerate(segments[:6]):
        sent = nxt + sum(len(each.payload) for each in segments[: at + 1] if each.src == end)
        reset = TcpSegment(end, peer, sent, 0, RST)
        outside = replace(reset, seq=(sent + (1 << 30)) % WRAP)
        found = follow([*segments[: at + 1], reset, *segments[at + 1 :]])
        assert [each.handshake.ended for each in found] == (["reset"] if at > 2 else [])
        if at > 2:
            assert segment.payload
            follow_one([*segments[: at + 1], outside, *segments[at + 1 :]], "hybrid")


def test_refused_connection_and_other_protocols_are_no_handshakes() -> None:
    refused = [TcpSegment(CLIENT, SERVER, 7, 0, SYN), TcpSegment(SERVER, CLIENT, 0, 8, RST | ACK)]
    assert follow(refused) == []
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x16GET", b"\x16\x03"):
        text = segments_of(load("hybrid"))[:3]
        text.append(TcpSegment(CLIENT, SERVER, 1001, 5001, ACK | PSH, first))
        text.append(TcpSegment(CLIENT, SERVER, 1001 + len(first), 5001, ACK | FIN))
        assert follow(text) == []


def test_joined_late_and_not_tls_are_counted() -> None:
    tracker = PacketTracker()
    for segment in segments_of(load("hybrid"), 1448)[6:]:
        tracker.receive(None, build_packet(segment), link.ETHERNET)
    http = replace(CLIENT, port=5)
    tracker.receive(None, build_packet(TcpSegment(http, SERVER, 0, 0, SYN)), link.ETHERNET)
    tracker.receive(None, build_packet(TcpSegment(http, SERVER, 1, 1, ACK, b"GET /")), link.ETHERNET)
    assert tracker.finish() == ()
    assert (tracker.counts.joined_late, tracker.counts.not_tls) == (1, 1)


def test_what_is_over_stays_over() -> None:
    """Data that looks like a handshake, in a connection whose handshake is over or never was, is only data."""
    first = segments_of(load("classical-chosen"), 1448, closing=False)
    again = segments_of(load("hybrid"), 1448, opening=False)
    assert len(follow([*first, *again])) == 1
    http = [*segments_of(load("hybrid"))[:3], TcpSegment(CLIENT, SERVER, 1001, 5001, ACK, b"POST / HTTP/1.1\r\n\r\n")]
    assert follow([*http, *again]) == []


def test_eviction_is_counted_and_reports_what_was_seen() -> None:
    tracker = PacketTracker(max_connections=10)
    found: list[CapturedHandshake] = []
    for number in range(50):
        ends = Ends(replace(CLIENT, port=1000 + number))
        for segment in segments_of(load("hybrid"), 1448, ends)[:6]:
            found += tracker.receive(None, build_packet(segment), link.ETHERNET).handshakes
    assert tracker.counts.evicted == 40
    assert len(found) == 40
    assert {judge(each.handshake).reason for each in found} <= {"no-server-hello", "truncated"}
    found += tracker.finish()
    assert len(found) == 50
    assert tracker.held_bytes == 0


def test_a_flood_of_bytes_out_of_order_is_bounded_and_counted() -> None:
    from pqtls.wire import packet_tracker, tcp_stream

    tracker = PacketTracker()
    worst = 0
    for number in range(200):
        client = Endpoint(CLIENT.ip, 1000 + number)
        opening = segments_of(load("hybrid"), ends=Ends(client))[:3]
        holes = [TcpSegment(client, SERVER, 1002 + at * 1400, 5001, ACK, bytes(1400)) for at in range(200)]
        for segment in [*opening, *holes]:
            tracker.receive(None, build_packet(segment), link.ETHERNET)
            worst = max(worst, tracker.held_bytes)
    assert worst <= packet_tracker.MAX_HELD_BYTES + 2 * tcp_stream.MAX_HELD_BYTES
    assert tracker.counts.overflowed == 200
    tracker.finish()
    assert tracker.held_bytes == 0


def test_fragments_are_told() -> None:
    packet = bytearray(build_packet(segments_of(load("hybrid"))[3]))
    packet[14 + 6 : 14 + 8] = b"\x20\x00"
    tracker = PacketTracker()
    tracker.receive(None, bytes(packet), link.ETHERNET)
    assert tracker.counts.fragments == 1


def test_a_fin_before_the_finished_ends_the_handshake() -> None:
    segments = segments_of(load("hybrid"), 1448, closing=False)[:6]
    own = sum(len(each.payload) for each in segments if each.src == CLIENT)
    segments.append(TcpSegment(CLIENT, SERVER, 1001 + own, 5001, ACK | FIN))
    (found,) = follow(segments)
    assert (found.handshake.ended, judge(found.handshake).reason) == ("closed", "handshake-failed")
