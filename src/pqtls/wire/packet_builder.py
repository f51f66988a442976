"""Whole packets around TCP segments: for captures that are written and for packets made up by tests.

Sources: RFC 791 section 3.1, RFC 8200 section 3.
"""

from __future__ import annotations

import struct

from pqtls.wire.checksums import internet_checksum
from pqtls.wire.link import ETHERNET, build_link_header, find_ip
from pqtls.wire.packets import TcpSegment, parse_packet

_PROTOCOL_TCP = 6
_HOP_LIMIT = 64


def build_packet(
    segment: TcpSegment,
    link_type: int = ETHERNET,
    *,
    vlans: tuple[int, ...] = (),
    options: bytes = b"",
    extensions: tuple[tuple[int, bytes], ...] = (),
) -> bytes:
    """Wrap a TCP segment into IP and a link-layer header, with valid checksums unless it stores another.

    Args:
        segment: The segment; its addresses choose between IPv4 and IPv6.
        link_type: LINKTYPE number.
        vlans: VLAN identifiers, the outermost first.
        options: IPv4 options, a multiple of 4 bytes.
        extensions: IPv6 extension headers: the number of each, and its bytes with the first (next header) as
            they come; it is filled in.
    """
    if len(segment.src.ip) == 4:
        packet = build_ipv4(segment.src.ip, segment.dst.ip, _PROTOCOL_TCP, segment.build(), options)
        return build_link_header(link_type, 4, vlans=vlans) + packet
    packet = build_ipv6(segment.src.ip, segment.dst.ip, _PROTOCOL_TCP, segment.build(), extensions)
    return build_link_header(link_type, 6, vlans=vlans) + packet


def build_ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    """Write an IPv4 packet that may not be fragmented.

    Args:
        source: Sender's address.
        destination: Receiver's address.
        protocol: Protocol number of the payload.
        payload: The payload.
        options: Options with their padding.
    """
    words = 5 + len(options) // 4
    fixed = (0x40 | words, 0, words * 4 + len(payload), 0, 0x4000, _HOP_LIMIT, protocol, 0)
    header = struct.pack("!BBHHHBBH", *fixed) + source + destination + options
    return header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:] + payload


def build_ipv6(
    source: bytes, destination: bytes, protocol: int, payload: bytes, extensions: tuple[tuple[int, bytes], ...] = ()
) -> bytes:
    """Write an IPv6 packet.

    Args:
        source: Sender's address.
        destination: Receiver's address.
        protocol: Protocol number of the payload.
        payload: The payload.
        extensions: Extension headers, as `build_packet` takes them.
    """
    numbers = [number for number, _ in extensions] + [protocol]
    chain = b"".join(bytes([after]) + data[1:] for (_, data), after in zip(extensions, numbers[1:], strict=True))
    fixed = struct.pack("!IHBB", 6 << 28, len(chain) + len(payload), numbers[0], _HOP_LIMIT)
    return fixed + source + destination + chain + payload


def ipv4_checksum_is_valid(data: bytes, link_type: int) -> bool | None:
    """Verify the header checksum of a captured IPv4 packet.

    Args:
        data: The packet.
        link_type: LINKTYPE number.

    Returns:
        None where there is no whole IPv4 header.
    """
    start = find_ip(data, link_type)
    if start is None or start >= len(data) or data[start] >> 4 != 4:
        return None
    header = data[start : start + (data[start] & 15) * 4]
    return internet_checksum(header) == 0 if len(header) >= 20 else None


def complete_checksum(data: bytes, link_type: int) -> bytes:
    """Do what the network card would have done: complete a TCP checksum that was only begun.

    Args:
        data: A whole packet.
        link_type: LINKTYPE number.

    Returns:
        The same packet, changed in at most two bytes; unchanged where the checksum is valid or wrong, or
        where this is no whole TCP segment.

    Raises:
        MalformedError: This is no packet.
    """
    segment = parse_packet(data, link_type)
    if not isinstance(segment, TcpSegment) or segment.checksum_state != "partial":
        return data
    right = segment.with_right_checksum().build()
    start = data.rindex(segment.build())  # only an Ethernet trailer can follow
    return data[:start] + right + data[start + len(right) :]
