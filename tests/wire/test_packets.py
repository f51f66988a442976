"""Packets and capture files: bytes annotated by hand, round trips, and any bytes at all."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqtls.evidence import judge
from pqtls.wire import link
from pqtls.wire.checksums import internet_checksum
from pqtls.wire.errors import MalformedError
from pqtls.wire.packet_builder import build_ipv6, build_packet, complete_checksum, ipv4_checksum_is_valid
from pqtls.wire.packet_tracker import MAX_HELD_BYTES, PacketTracker
from pqtls.wire.packets import (
    ACK,
    PSH,
    SYN,
    CutPacket,
    Endpoint,
    Fragment,
    OtherPacket,
    TcpSegment,
    parse_packet,
)
from pqtls.wire.pcap import CapturedPacket, CaptureReader, build_pcap_header, build_pcap_packet
from pqtls.wire.tcp_connection import CapturedHandshake
from tests.wire.flows import CLIENT, CLIENT6, SERVER, SERVER6, segments_of
from tests.wire.vectors import EXPECTED, load

NAMES = sorted(EXPECTED)
CLASSICAL = [name for name in NAMES if EXPECTED[name][0] == "not-post-quantum"]

# RFC 1071 section 3's own example: the words 0001 f203 f4f5 f6f7 add up to ddf2.
RFC1071 = bytes.fromhex("0001f203f4f5f6f7")

# A SYN between two Linux 6.18 kernels over veth, offloads off, taken by this program's own socket and
# checked by tshark 4.0.17: checksums valid.
REAL_SYN = bytes.fromhex(
    "c2585c1932b2 864abac38bc9 0800"  # Ethernet
    "4500003c 59e2 4000 40 06 ccc5 0a090001 0a090002"  # IPv4: 60 bytes, DF, TTL 64, TCP
    "bda0 01bb 5eb732b7 00000000 a002 faf0 7f95 0000"  # ports 48544 to 443, SYN, window 64240
    "020405b4 0402 080ae512838500000000 01 03030a"  # MSS 1460, SACK, timestamps, window scale 10
)


def test_internet_checksum_of_the_rfc() -> None:
    assert internet_checksum(RFC1071) == 0xFFFF - 0xDDF2
    assert internet_checksum(RFC1071 + b"\x22\x0d") == 0
    assert internet_checksum(b"") == 0xFFFF
    assert internet_checksum(b"\xff") == 0x00FF


def test_fields_of_a_syn() -> None:
    segment = parse_packet(REAL_SYN, link.ETHERNET)
    assert isinstance(segment, TcpSegment)
    assert (str(segment.src), str(segment.dst)) == ("10.9.0.1:48544", "10.9.0.2:443")
    assert (segment.seq, segment.flags, segment.window, len(segment.options)) == (0x5EB732B7, SYN, 64240, 20)
    assert segment.checksum_state == "valid"
    assert segment.build() == REAL_SYN[34:]
    assert segment.with_right_checksum() == segment
    assert ipv4_checksum_is_valid(REAL_SYN, link.ETHERNET)
    assert not ipv4_checksum_is_valid(REAL_SYN[:30] + b"\7" + REAL_SYN[31:], link.ETHERNET)


def test_endpoints_read_as_people_write_them() -> None:
    assert str(Endpoint(bytes((127, 0, 0, 1)), 443)) == "127.0.0.1:443"
    assert str(SERVER6) == "[::2]:443"


@given(
    st.sampled_from([(CLIENT, SERVER), (CLIENT6, SERVER6)]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 0xFFF),
    st.binary(max_size=60),
    st.integers(0, 10),
    st.sampled_from(sorted(link.SUPPORTED)),
)
@settings(max_examples=500)
def test_built_packets_parse_back_with_valid_checksums(
    ends: tuple[Endpoint, Endpoint], seq: int, flags: int, payload: bytes, words: int, link_type: int
) -> None:
    segment = TcpSegment(*ends, seq, 5, flags, payload, 77, 3, b"\1" * 4 * words)
    packet = build_packet(segment, link_type)
    parsed = parse_packet(packet, link_type)
    assert isinstance(parsed, TcpSegment)
    assert parsed == replace(segment, checksum=parsed.checksum)
    assert parsed.checksum_state == "valid"
    assert ipv4_checksum_is_valid(packet, link_type) is (True if ends[0] is CLIENT else None)
    assert complete_checksum(packet, link_type) == packet
    # An Ethernet trailer is no payload.
    assert parse_packet(packet + bytes(7), link_type) == parsed


@pytest.mark.parametrize("ends", [(CLIENT, SERVER), (CLIENT6, SERVER6)])
def test_checksum_states(ends: tuple[Endpoint, Endpoint]) -> None:
    segment = TcpSegment(*ends, 1, 2, ACK, b"odd").with_right_checksum()
    packet = build_packet(segment)
    assert segment.checksum_state == "valid"
    assert replace(segment, payload=b"Odd").checksum_state == "wrong"
    assert replace(segment, missing_bytes=1).checksum_state == "unknown"
    # What Linux stores when it leaves the rest to the card: the folded sum of the pseudo-header.
    pseudo = ends[0].ip + ends[1].ip + struct.pack("!II", len(segment.build()), 6)
    begun = replace(segment, checksum=0xFFFF - internet_checksum(pseudo))
    assert begun.checksum_state == "partial"
    assert complete_checksum(build_packet(begun), link.ETHERNET) == packet
    wrong = build_packet(replace(segment, checksum=1))
    assert complete_checksum(wrong, link.ETHERNET) == wrong


def test_fragments_are_reported_and_whole_packets_in_a_fragment_header_are_read() -> None:
    packet = bytearray(build_packet(TcpSegment(CLIENT, SERVER, 1, 2, ACK, bytes(99))))
    packet[18:22] = b"\x12\x34\x20\x0a"
    assert parse_packet(bytes(packet), link.ETHERNET) == Fragment(CLIENT.ip, SERVER.ip, 0x1234, 80)
    segment = TcpSegment(CLIENT6, SERVER6, 1, 2, ACK, bytes(99))
    for word, is_fragment in ((0, False), (1, True), (8, True), (6, False)):
        header = b"\0\0" + struct.pack("!HI", word, 7)
        parsed = parse_packet(build_packet(segment, extensions=((44, header),)), link.ETHERNET)
        assert isinstance(parsed, Fragment) is is_fragment


@pytest.mark.parametrize("ends", [(CLIENT, SERVER), (CLIENT6, SERVER6)])
@pytest.mark.parametrize("link_type", sorted(link.SUPPORTED))
def test_a_packet_cut_anywhere_is_malformed_on_the_wire_and_a_value_in_a_capture(
    ends: tuple[Endpoint, Endpoint], link_type: int
) -> None:
    segment = TcpSegment(*ends, 1, 2, ACK | PSH, b"payload", options=b"\1\1\1\1")
    extensions = ((0, bytes(8)), (60, bytes(8))) if ends[0] is CLIENT6 else ()
    packet = build_packet(segment, link_type, extensions=extensions)
    for end in range(len(packet)):
        with pytest.raises(MalformedError):
            parse_packet(packet[:end], link_type)
        cut = parse_packet(packet[:end], link_type, len(packet))
        if end < len(packet) - len(segment.payload):
            assert cut == CutPacket()
        else:
            assert isinstance(cut, TcpSegment)
            assert segment.payload.startswith(cut.payload)
            assert len(cut.payload) + cut.missing_bytes == len(segment.payload)


def test_packets_that_break_the_rules() -> None:
    good = build_packet(TcpSegment(CLIENT, SERVER, 1, 2, ACK, b"payload"), link.RAW)
    for at, value in ((0, 0x55), (0, 0x44), (2, 0xFF), (3, 10), (32, 0x40), (32, 0xF0)):
        with pytest.raises(MalformedError) as caught:
            parse_packet(good[:at] + bytes([value]) + good[at + 1 :], link.RAW)
        assert caught.value.path.split(".")[0] in ("ip", "ipv4", "tcp")
    endless = build_ipv6(CLIENT6.ip, SERVER6.ip, 6, bytes(20), ((60, bytes(8)),) * 40)
    with pytest.raises(MalformedError):
        parse_packet(endless, link.RAW)


def test_other_packets() -> None:
    assert parse_packet(bytes(12) + b"\x08\x06" + bytes(28), link.ETHERNET) == OtherPacket()  # ARP
    assert parse_packet(build_ipv6(CLIENT6.ip, SERVER6.ip, 17, bytes(8)), link.RAW) == OtherPacket()
    assert parse_packet(b"anything", 147) == OtherPacket()
    assert parse_packet(bytes(12) + b"\x81\x00\0\1" * 9, link.ETHERNET) == OtherPacket()


# Capture files


def packets_of(name: str) -> list[CapturedPacket]:
    found = []
    for number, segment in enumerate(segments_of(load(name))):
        data = build_packet(segment)
        found.append(CapturedPacket(1_700_000_000_123_456_789 + number, data, len(data), link.ETHERNET))
    return found


def classic(packets: list[CapturedPacket], order: str, *, nanoseconds: bool) -> bytes:
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link.ETHERNET | 4 << 28)
    for packet in packets:
        seconds, fraction = divmod(packet.time_ns or 0, 10**9)
        data += struct.pack(order + "IIII", seconds, fraction // unit, len(packet.data), packet.original_bytes)
        data += packet.data
    return data


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def pcapng(packets: list[CapturedPacket], order: str, resolution: int = 9) -> bytes:
    units = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    option = struct.pack(order + "HHBxxxHH", 9, 1, resolution, 0, 0)
    data = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    data += block(order, 4, b"name resolution: passed over")
    data += block(order, 1, struct.pack(order + "HHI", link.RAW, 0, 0))
    data += block(order, 1, struct.pack(order + "HHI", link.ETHERNET, 0, 262144) + option)
    for packet in packets:
        ticks = (packet.time_ns or 0) * units // 10**9
        head = struct.pack(order + "IIIII", 1, ticks >> 32, ticks & 0xFFFFFFFF, len(packet.data), packet.original_bytes)
        data += block(order, 6, head + packet.data)
    return data + block(order, 5, bytes(40))


def read(data: bytes, cut: int | None = None) -> tuple[list[CapturedPacket], CaptureReader]:
    reader = CaptureReader()
    pieces = [data] if cut is None else [data[at : at + cut] for at in range(0, len(data), cut)]
    return [packet for piece in pieces for packet in reader.feed(piece)], reader


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("cut", [None, 1, 7, 1000])
def test_every_format_is_read_however_it_arrives(order: str, cut: int | None) -> None:
    packets = packets_of("hybrid")
    micro = [replace(each, time_ns=(each.time_ns or 0) // 1000 * 1000) for each in packets]
    for data, expected in (
        (classic(packets, order, nanoseconds=True), packets),
        (classic(packets, order, nanoseconds=False), micro),
        (pcapng(packets, order), packets),
        (pcapng(packets, order, 6), micro),
        (pcapng(packets, order) + pcapng(packets, "<"), packets * 2),
    ):
        found, reader = read(data, cut)
        assert found == expected
        assert not reader.ended_early
    found, _ = read(pcapng(packets, order, 0x80 | 30))
    assert all(abs((a.time_ns or 0) - (b.time_ns or 0)) <= 1 for a, b in zip(found, packets, strict=True))


def test_simple_and_obsolete_packet_blocks() -> None:
    (packet, *_) = packets_of("hybrid")
    head = block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    head += block("<", 1, struct.pack("<HHI", link.ETHERNET, 0, 20))
    found, _ = read(head + block("<", 3, struct.pack("<I", packet.original_bytes) + packet.data[:20]))
    assert found == [CapturedPacket(None, packet.data[:20], packet.original_bytes, link.ETHERNET)]
    old = struct.pack("<HHIIII", 0, 9, 0, 5_000_000, 4, 60) + b"abcd"
    assert read(head + block("<", 2, old))[0] == [CapturedPacket(5_000_000_000, b"abcd", 60, link.ETHERNET)]


def test_written_files_read_back() -> None:
    packets = packets_of("hybrid")
    data = build_pcap_header() + b"".join(map(build_pcap_packet, packets))
    assert read(data)[0] == packets


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_a_file_that_ends_anywhere_is_a_value(kind: str) -> None:
    packets = packets_of("hybrid")[:4]
    data = classic(packets, "<", nanoseconds=True) if kind == "pcap" else pcapng(packets, ">")
    boundaries = set()
    for end in range(len(data) + 1):
        found, reader = read(data[:end])
        assert found == packets[: len(found)]
        if not reader.ended_early:
            boundaries.add(end)
    # After the header and after each packet; in pcapng after each of its four first blocks and the last.
    assert len(boundaries) == (5 if kind == "pcap" else 9)
    assert max(boundaries) == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x1f\x8b\x08\x00" + bytes(20),
        classic([], "<", nanoseconds=True) + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30),
        struct.pack(">III", 0x0A0D0D0A, 28, 0x12345678),
        pcapng([], "<") + struct.pack("<III", 6, 14, 0),
        pcapng([], "<") + struct.pack("<III", 6, 1 << 30, 0),
        pcapng([], "<") + block("<", 6, struct.pack("<IIIII", 9, 0, 0, 0, 0)),
        pcapng([], "<") + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 9, 9)),
        pcapng([], "<") + block("<", 6, bytes(20))[:-1] + b"\1",
    ],
)
def test_files_that_are_damaged(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


# Any bytes


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        at = at if draw(st.booleans()) else at % 80
        kind = draw(st.sampled_from(["flip", "set", "insert", "delete", "truncate"]))
        if kind == "flip" and data:
            at %= len(data)
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "set":
            data = data[:at] + draw(st.sampled_from([b"\0", b"\xff", b"\xff\xff\xff\xff"])) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + draw(st.binary(max_size=40)) + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + draw(st.integers(1, 60)) :]
        elif kind == "truncate":
            data = data[:at]
    return data


@st.composite
def mutated_flows(draw: st.DrawFn, names: list[str]) -> list[bytes]:
    """Draw a real connection's packets: some mutated, dropped, doubled or moved, checksums sometimes put right."""
    segments: list[TcpSegment] = segments_of(load(draw(st.sampled_from(names))), draw(st.sampled_from([1448, 300])))
    packets = [build_packet(each, link.RAW) for each in segments]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(packets) - 1))
        kind = draw(st.sampled_from(["bytes", "fields", "drop", "double", "move"]))
        if kind == "bytes":
            packets[at] = draw(mutated(packets[at]))
        elif kind == "fields" and at < len(segments):
            shift = draw(st.sampled_from([-(1 << 31), -1449, -2, -1, 1, 2, 1448, 1 << 20, 1 << 31]))
            field = draw(st.sampled_from(["seq", "ack"]))
            value = (getattr(segments[at], field) + shift) % (1 << 32)
            flags = segments[at].flags ^ draw(st.sampled_from([0, 0, 1, 2, 4, 16]))
            changed: dict[str, int] = {field: value, "flags": flags}
            packets[at] = build_packet(replace(segments[at], **changed), link.RAW)  # type: ignore[arg-type]
        elif kind == "drop" and len(packets) > 1:
            del packets[at]
        elif kind == "double":
            packets.insert(draw(st.integers(0, len(packets))), packets[at])
        elif kind == "move":
            packets.insert(draw(st.integers(0, len(packets) - 1)), packets.pop(at))
    return packets


@given(mutated_flows(NAMES), st.booleans())
def test_any_packets_give_handshakes_or_counts_in_bounded_memory(packets: list[bytes], check: bool) -> None:
    """Whatever the packets hold: nothing is raised, memory is bounded and all given back, verdicts can be judged."""
    tracker = PacketTracker(check_checksums=check)
    found: list[CapturedHandshake] = []
    for packet in packets:
        found += tracker.receive(0, packet, link.RAW).handshakes
        assert 0 <= tracker.held_bytes <= MAX_HELD_BYTES
    found += tracker.finish()
    assert tracker.held_bytes == 0
    for each in found:
        judge(each.handshake)


@given(mutated_flows(CLASSICAL))
def test_no_mutation_of_packets_makes_a_classical_handshake_post_quantum(packets: list[bytes]) -> None:
    tracker = PacketTracker(check_checksums=False)
    found = [each for packet in packets for each in tracker.receive(0, packet, link.RAW).handshakes]
    for each in [*found, *tracker.finish()]:
        assert judge(each.handshake).verdict != "post-quantum"


@given(
    mutated(b"".join(map(build_pcap_packet, packets_of("hybrid"))).join([build_pcap_header(), b""])),
    st.integers(1, 900),
)
@settings(max_examples=400)
def test_any_bytes_of_a_pcap_file(data: bytes, cut: int) -> None:
    assert_file_is_survived(data, cut)


@given(mutated(pcapng(packets_of("hybrid"), "<")), st.integers(1, 900))
@settings(max_examples=400)
def test_any_bytes_of_a_pcapng_file(data: bytes, cut: int) -> None:
    assert_file_is_survived(data, cut)


def assert_file_is_survived(data: bytes, cut: int) -> None:
    """Any bytes give packets, an early end or the one error, and however they arrive the same ones."""
    outcomes = []
    for size in (len(data) or 1, cut):
        reader = CaptureReader()
        packets: list[CapturedPacket] = []
        error = None
        try:
            for at in range(0, len(data), size):
                packets += list(reader.feed(data[at : at + size]))
        except MalformedError as caught:
            error = str(caught)
        outcomes.append((packets if error is None else None, error, reader.ended_early if error is None else None))
        assert len(reader._buffer) <= (1 << 20) + 65_536
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=200), st.sampled_from(sorted(link.SUPPORTED)), st.integers(0, 300))
def test_noise_gives_a_packet_or_the_one_error(data: bytes, link_type: int, more: int) -> None:
    try:
        packet = parse_packet(data, link_type, len(data) + more)
    except MalformedError:
        return
    assert isinstance(packet, TcpSegment | Fragment | OtherPacket | CutPacket)
