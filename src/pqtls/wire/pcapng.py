"""Blocks of pcapng: sections, interfaces and packets; all others are passed over without being held.

Source: draft-ietf-opsawg-pcapng (PCAP Now Generic), sections 3 and 4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pqtls.wire.errors import MalformedError

SECTION_HEADER = 0x0A0D0D0A
_INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 1, 2, 3, 6
_KEPT = frozenset((SECTION_HEADER, _INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET))
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_TIME_RESOLUTION, _TIME_OFFSET = 9, 14
# One of the blocks that are kept: a packet of up to 1 MiB (see `pcap.MAX_PACKET_BYTES`) and its options.
MAX_BLOCK_BYTES = (1 << 20) + 65_536
# Machines with thousands of interfaces exist (one for each container); a file of nothing but interface blocks
# must not grow without end.
MAX_INTERFACES = 65_536

_Found = tuple[int | None, bytes, int, int]


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snapshot_bytes: int
    units_per_second: int
    offset_s: int


class PcapngParser:
    """Takes one block after the other.

    Attributes:
        skip: Bytes of the last block which are to be passed over unread.
        skipped_blocks: Blocks passed over so far.
    """

    def __init__(self) -> None:
        self.skip = 0
        self.skipped_blocks = 0
        self._order = "<"
        self._interfaces: list[_Interface] = []

    def wanted(self, buffer: bytearray) -> int:
        """Return how many bytes are needed to go on.

        Args:
            buffer: What there is of the next block.

        Raises:
            MalformedError: The block can be none.
        """
        if len(buffer) < 12:
            return 12
        kind = int.from_bytes(buffer[:4], "little" if self._order == "<" else "big")
        if kind == SECTION_HEADER:
            self._read_byte_order(bytes(buffer[8:12]))
        kind, length = struct.unpack_from(self._order + "II", buffer)
        if length < 12 or length % 4:
            raise MalformedError(f"a block of {length} bytes", 4, "pcapng.block_length")
        if kind not in _KEPT:
            return 12
        if length > MAX_BLOCK_BYTES:
            raise MalformedError(f"a block of type {kind} and {length} bytes", 4, "pcapng.block_length")
        return int(length)

    def _read_byte_order(self, magic: bytes) -> None:
        for order in ("<", ">"):
            if struct.unpack(order + "I", magic)[0] == _BYTE_ORDER_MAGIC:
                self._order = order
                return
        raise MalformedError(f"{magic.hex()} is no byte-order magic", 8, "pcapng.byte_order")

    def take(self, block: bytes) -> _Found | None:
        """Read one block, or the first 12 bytes of one that is passed over.

        Args:
            block: As many bytes as `wanted` asked for.

        Returns:
            Time in nanoseconds or None, data, original size and link type of a packet; None for other blocks.

        Raises:
            MalformedError: The block breaks the format's rules.
        """
        kind, length = struct.unpack_from(self._order + "II", block)
        self.skip = length - len(block)
        if kind not in _KEPT:
            self.skipped_blocks += 1
            return None
        if struct.unpack_from(self._order + "I", block, length - 4)[0] != length:
            raise MalformedError("the two lengths of a block differ", length - 4, "pcapng.block_length")
        body = block[8:-4]
        if kind == SECTION_HEADER:
            self._interfaces.clear()
        elif kind == _INTERFACE:
            self._take_interface(body)
        elif kind == _SIMPLE_PACKET:
            return self._take_simple(body)
        else:
            return self._take_packet(body, is_obsolete=kind == _OBSOLETE_PACKET)
        return None

    def _take_interface(self, body: bytes) -> None:
        if len(body) < 8:
            raise MalformedError(f"an interface block of {len(body)} bytes", 8, "pcapng.interface")
        if len(self._interfaces) >= MAX_INTERFACES:
            raise MalformedError("too many interfaces", 8, "pcapng.interface")
        link_type, _, snapshot = struct.unpack_from(self._order + "HHI", body)
        units, offset, position = 1_000_000, 0, 8
        while position + 4 <= len(body):
            code, size = struct.unpack_from(self._order + "HH", body, position)
            value = body[position + 4 : position + 4 + size]
            if len(value) < size:
                raise MalformedError("an option beyond the end of its block", 8 + position, "pcapng.option")
            if code == _TIME_RESOLUTION and size == 1:
                power = value[0] & 0x7F
                units = 2**power if value[0] & 0x80 else 10**power
            elif code == _TIME_OFFSET and size == 8:
                offset = struct.unpack(self._order + "q", value)[0]
            position += 4 + (size + 3) // 4 * 4
        self._interfaces.append(_Interface(link_type, snapshot, units, offset))

    def _take_packet(self, body: bytes, *, is_obsolete: bool) -> _Found:
        if len(body) < 20:
            raise MalformedError(f"a packet block of {len(body)} bytes", 8, "pcapng.packet")
        number, high, low, captured, original = struct.unpack_from(self._order + "IIIII", body)
        if is_obsolete:  # an interface number and a count of drops, 16 bits each
            number = struct.unpack_from(self._order + "H", body)[0]
        interface = self._interface(number)
        if captured > len(body) - 20:
            raise MalformedError(f"{captured} captured bytes in {len(body) - 20}", 20, "pcapng.captured_length")
        time_ns = (high << 32 | low) * 1_000_000_000 // interface.units_per_second
        time_ns += interface.offset_s * 1_000_000_000
        return time_ns, body[20 : 20 + captured], max(original, captured), interface.link_type

    def _take_simple(self, body: bytes) -> _Found:
        if len(body) < 4:
            raise MalformedError(f"a simple packet block of {len(body)} bytes", 8, "pcapng.packet")
        interface = self._interface(0)
        original = int(struct.unpack_from(self._order + "I", body)[0])
        captured = min(original, interface.snapshot_bytes or original)
        if captured > len(body) - 4:
            raise MalformedError(f"{captured} captured bytes in {len(body) - 4}", 8, "pcapng.original_length")
        return None, body[4 : 4 + captured], original, interface.link_type

    def _interface(self, number: int) -> _Interface:
        if number >= len(self._interfaces):
            raise MalformedError(f"interface {number} was not described", 8, "pcapng.interface")
        return self._interfaces[number]
