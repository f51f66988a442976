"""The Internet checksum of IPv4 headers and TCP segments (RFC 1071, RFC 791 section 3.1, RFC 9293 section 3.1).

A checksum in a capture can be right, wrong, or only begun: a sender that leaves the work to its network card
(tx checksum offload, and `lo` always) stores the sum over the pseudo-header, or nothing, and the capture is
taken before the card has finished it.
"""

from __future__ import annotations

from typing import Literal

ChecksumState = Literal["valid", "partial", "wrong", "unknown"]
_TCP = 6


def internet_checksum(data: bytes) -> int:
    """Return the Internet checksum of some bytes, its own field taken as zero.

    Args:
        data: The bytes; an odd last one is taken as if a zero byte followed.

    Returns:
        The 16-bit value to store; 0 over data which already hold their own right checksum.
    """
    return 0xFFFF - _sum(data)


def _sum(data: bytes) -> int:
    """Add up 16-bit words with end-around carry; modulo 65535 is the same sum (RFC 1071 section 2)."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big")
    return total % 0xFFFF or (0xFFFF if total else 0)


def _pseudo_header(source: bytes, destination: bytes, length: int) -> bytes:
    return source + destination + length.to_bytes(4, "big") + bytes((0, 0, 0, _TCP))


def tcp_checksum(source: bytes, destination: bytes, segment: bytes) -> int:
    """Return the checksum of a TCP segment.

    Args:
        source: Sender's address, 4 or 16 bytes.
        destination: Receiver's address, of the same size.
        segment: Header and payload, the checksum field zero (to compute) or as it stands (to verify: 0).
    """
    return internet_checksum(_pseudo_header(source, destination, len(segment)) + segment)


def judge_tcp_checksum(source: bytes, destination: bytes, segment: bytes) -> ChecksumState:
    """Tell in which state a segment's checksum is.

    Args:
        source: Sender's address, 4 or 16 bytes.
        destination: Receiver's address, of the same size.
        segment: The whole segment, header and payload.

    Returns:
        "valid"; "partial" where it is left to the network card; otherwise "wrong". Never "unknown", which is
        for segments that were not captured whole.
    """
    if tcp_checksum(source, destination, segment) == 0:
        return "valid"
    stored = int.from_bytes(segment[16:18], "big")
    # Cards that cut big segments want the sum without the length, which differs for each piece.
    begun = (_sum(_pseudo_header(source, destination, length)) for length in (len(segment), 0))
    return "partial" if stored == 0 or stored in begun else "wrong"
