"""TCP segments out of captured packets, and back: IPv4, IPv6 and TCP headers.

Four outcomes, four types: a `TcpSegment`, a `Fragment` (told, never put together), an `OtherPacket` and a
`CutPacket`, whose headers the capture's snapshot length cut off. Bytes that break the protocols' own rules
raise `MalformedError`. A segment that was captured in part is a segment with `missing_bytes`.

Sources: RFC 791 section 3.1 (IPv4), RFC 8200 sections 3 and 4 (IPv6 and its extension headers), RFC 4302
section 2 (AH), RFC 9293 section 3.1 (TCP).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import ip_address

from pqtls.wire.checksums import ChecksumState, judge_tcp_checksum, tcp_checksum
from pqtls.wire.errors import MalformedError
from pqtls.wire.link import find_ip

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
_PROTOCOL_TCP = 6
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS = frozenset((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION, 135, 139, 140))
# RFC 8200 lists seven headers, of which one may come twice; without an end a packet could be nothing else.
MAX_EXTENSION_HEADERS = 16
_TCP_HEADER = struct.Struct("!HHIIHHHH")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a TCP connection.

    Attributes:
        ip: The address, 4 or 16 bytes.
        port: The port.
    """

    ip: bytes
    port: int

    def __str__(self) -> str:
        """Return `ip:port`, an IPv6 address in brackets."""
        address = str(ip_address(self.ip))
        return f"{address}:{self.port}" if len(self.ip) == 4 else f"[{address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class TcpSegment:
    """One TCP segment as captured.

    Attributes:
        src: Sender.
        dst: Receiver.
        seq: Sequence number of the first payload byte, or of the SYN.
        ack: Acknowledgement number; means nothing without the ACK flag.
        flags: The 12 bits after the data offset; FIN, SYN, RST, PSH and ACK are named here.
        payload: What was captured of the payload.
        window: Window field, not scaled.
        urgent: Urgent pointer.
        options: Options with their padding, not interpreted; a multiple of 4 bytes.
        checksum: Checksum field; None for one that is yet to be computed.
        missing_bytes: Payload bytes which were on the wire but not captured.
    """

    src: Endpoint
    dst: Endpoint
    seq: int
    ack: int
    flags: int
    payload: bytes = b""
    window: int = 0xFFFF
    urgent: int = 0
    options: bytes = b""
    checksum: int | None = None
    missing_bytes: int = 0

    def build(self) -> bytes:
        """Return header and payload; the checksum as stored, or the right one if there is none."""
        word = (5 + len(self.options) // 4) << 12 | self.flags
        fields = (self.src.port, self.dst.port, self.seq, self.ack, word, self.window)
        segment = _TCP_HEADER.pack(*fields, self.checksum or 0, self.urgent) + self.options + self.payload
        if self.checksum is not None:
            return segment
        right = tcp_checksum(self.src.ip, self.dst.ip, segment)
        return segment[:16] + right.to_bytes(2, "big") + segment[18:]

    @property
    def checksum_state(self) -> ChecksumState:
        """State of the checksum; "unknown" where bytes are missing or none is stored."""
        if self.checksum is None or self.missing_bytes:
            return "unknown"
        return judge_tcp_checksum(self.src.ip, self.dst.ip, self.build())

    def with_right_checksum(self) -> TcpSegment:
        """Return the segment as it is after a network card has computed its checksum."""
        return replace(self, checksum=int.from_bytes(replace(self, checksum=None).build()[16:18], "big"))


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of an IP packet. Pieces are not put together: modern TCP sends packets that fit its path.

    Attributes:
        src: Sender's address.
        dst: Receiver's address.
        identification: Number that the pieces of one packet share.
        offset: Where the piece belongs, in bytes.
    """

    src: bytes
    dst: bytes
    identification: int
    offset: int


@dataclass(frozen=True, slots=True)
class OtherPacket:
    """A packet that carries no TCP, or stands on a link type that is not known."""


@dataclass(frozen=True, slots=True)
class CutPacket:
    """A packet whose headers were not captured to their end; its content is not known."""


@dataclass(frozen=True, slots=True)
class _Ip:
    """An IP packet's payload: where it is in the capture, and how long it was on the wire."""

    src: bytes
    dst: bytes
    protocol: int
    start: int
    end: int


Packet = TcpSegment | Fragment | OtherPacket | CutPacket


def parse_packet(data: bytes, link_type: int, original_bytes: int | None = None) -> Packet:
    """Read one captured packet.

    Args:
        data: What was captured, from the link-layer header on.
        link_type: LINKTYPE number of the interface (`pqtls.wire.link`).
        original_bytes: Size on the wire; None if everything was captured.

    Raises:
        MalformedError: It breaks the rules of IP or TCP. Checksums are no part of that: see `checksum_state`.
    """
    size = len(data) if original_bytes is None else original_bytes
    start = find_ip(data, link_type)
    if start is None:
        return OtherPacket()
    if start >= len(data):
        return _cut(data, size, start + 1, "link")
    version = data[start] >> 4
    if version == 4:
        ip = _parse_ipv4(data, start, size)
    elif version == 6:
        ip = _parse_ipv6(data, start, size)
    else:
        raise MalformedError(f"{version} is no IP version", start, "ip.version")
    if not isinstance(ip, _Ip):
        return ip
    return _parse_tcp(data, ip) if ip.protocol == _PROTOCOL_TCP else OtherPacket()


def _cut(data: bytes, size: int, wanted: int, path: str) -> CutPacket:
    """Tell a header which the capture cut off (a value) from one which the packet itself does (an error)."""
    if size < wanted or size <= len(data):
        raise MalformedError(f"the packet ends inside a header, after {size} bytes", len(data), path)
    return CutPacket()


def _parse_ipv4(data: bytes, start: int, size: int) -> _Ip | Fragment | CutPacket:
    if len(data) < start + 20:
        return _cut(data, size, start + 20, "ipv4")
    header_bytes = (data[start] & 15) * 4
    if header_bytes < 20:
        raise MalformedError(f"a header of {header_bytes} bytes", start, "ipv4.ihl")
    total = int.from_bytes(data[start + 2 : start + 4], "big")
    # Zero: a packet over 65,535 bytes, on its way to a card that will cut it (segmentation offload).
    end = start + total if total else size
    if end > size or end < start + header_bytes:
        raise MalformedError(f"total length {total} in {size - start} bytes", start + 2, "ipv4.total_length")
    word = int.from_bytes(data[start + 6 : start + 8], "big")
    src, dst = data[start + 12 : start + 16], data[start + 16 : start + 20]
    if word & 0x3FFF:  # more fragments, or an offset
        return Fragment(src, dst, int.from_bytes(data[start + 4 : start + 6], "big"), (word & 0x1FFF) * 8)
    if len(data) < start + header_bytes:
        return _cut(data, size, start + header_bytes, "ipv4.options")
    return _Ip(src, dst, data[start + 9], start + header_bytes, end)


def _parse_ipv6(data: bytes, start: int, size: int) -> _Ip | Fragment | CutPacket:
    if len(data) < start + 40:
        return _cut(data, size, start + 40, "ipv6")
    length = int.from_bytes(data[start + 4 : start + 6], "big")
    kind = data[start + 6]
    position = start + 40
    # Zero: a jumbogram (RFC 2675), its length in a hop-by-hop option.
    end = size if length == 0 and kind == _HOP_BY_HOP else position + length
    if end > size:
        raise MalformedError(f"payload length {length} in {size - position} bytes", start + 4, "ipv6.payload_length")
    src, dst = data[start + 8 : start + 24], data[start + 24 : start + 40]
    for _ in range(MAX_EXTENSION_HEADERS):
        if kind not in _EXTENSIONS:
            return _Ip(src, dst, kind, position, end)
        if position + 8 > end:
            raise MalformedError("an extension header beyond the end", position, "ipv6.extension")
        if position + 8 > len(data):
            return _cut(data, size, position + 8, "ipv6.extension")
        if kind == _FRAGMENT:
            word = int.from_bytes(data[position + 2 : position + 4], "big")
            if word & 0xFFF9:  # anything else is an atomic fragment (RFC 6946): the whole packet
                return Fragment(src, dst, int.from_bytes(data[position + 4 : position + 8], "big"), word & 0xFFF8)
        kind, position = data[position], position + _extension_bytes(kind, data[position + 1])
    raise MalformedError("too many extension headers", position, "ipv6.extension")


def _extension_bytes(kind: int, length: int) -> int:
    if kind == _FRAGMENT:
        return 8
    return (length + 2) * 4 if kind == _AUTHENTICATION else (length + 1) * 8


def _parse_tcp(data: bytes, ip: _Ip) -> TcpSegment | CutPacket:
    start, end = ip.start, ip.end
    if end < start + 20:
        raise MalformedError(f"a TCP segment of {end - start} bytes", start, "tcp")
    if len(data) < start + 20:
        return CutPacket()
    src_port, dst_port, seq, ack, word, window, checksum, urgent = _TCP_HEADER.unpack_from(data, start)
    payload_start = start + (word >> 12) * 4
    if payload_start < start + 20 or payload_start > end:
        raise MalformedError(f"a header of {(word >> 12) * 4} bytes", start + 12, "tcp.data_offset")
    if len(data) < payload_start:
        return CutPacket()
    payload = data[payload_start:end]
    return TcpSegment(
        Endpoint(ip.src, src_port),
        Endpoint(ip.dst, dst_port),
        seq,
        ack,
        word & 0xFFF,
        payload,
        window,
        urgent,
        data[start + 20 : payload_start],
        checksum,
        end - payload_start - len(payload),
    )
