"""Capture files as bytes: reads classic pcap and pcapng, writes classic pcap with nanoseconds. Sans-IO.

A file that ends inside a packet is a value (`CaptureReader.ended_early`), for that is what a killed tcpdump
leaves behind; only bytes that can be no capture raise `MalformedError`.

Sources: draft-ietf-opsawg-pcap (PCAP Capture File Format), draft-ietf-opsawg-pcapng (PCAP Now Generic).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.wire.errors import MalformedError
from pqtls.wire.link import ETHERNET
from pqtls.wire.pcapng import SECTION_HEADER, PcapngParser

if TYPE_CHECKING:
    from collections.abc import Iterator

# tcpdump's and Wireshark's own limit for a packet is 262,144 bytes; Linux can hand out somewhat more with
# BIG TCP. More would let a file make us hold memory on the word of one 32-bit field.
MAX_PACKET_BYTES = 1 << 20

_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_FILE_HEADER_BYTES = 24
_PACKET_HEADER_BYTES = 16


@dataclass(frozen=True, slots=True)
class CapturedPacket:
    """One packet of a capture.

    Attributes:
        time_ns: When it was captured, nanoseconds since 1970 (UTC); None where the file does not say.
        data: What was captured, from the link-layer header on.
        original_bytes: Size on the wire.
        link_type: LINKTYPE number of its interface.
    """

    time_ns: int | None
    data: bytes
    original_bytes: int
    link_type: int


class CaptureReader:
    """Reads a capture file of either format, however its bytes arrive.

    It holds at most one unfinished packet, and nothing of blocks that carry none.

    Attributes:
        has_header: The file's header was read: it is a capture file.
    """

    def __init__(self) -> None:
        self.has_header = False
        self._buffer = bytearray()
        self._wanted = 4  # the magic number
        self._skip = 0
        self._offset = 0
        self._parser: _ClassicParser | PcapngParser | None = None

    @property
    def skipped_blocks(self) -> int:
        """Blocks of pcapng which carry no packet and were passed over."""
        return self._parser.skipped_blocks if isinstance(self._parser, PcapngParser) else 0

    @property
    def ended_early(self) -> bool:
        """If no more bytes come: the file ends inside its header, a packet or a block."""
        return self._parser is None or bool(self._buffer) or self._skip > 0

    def feed(self, data: bytes) -> Iterator[CapturedPacket]:
        """Take the next bytes of the file.

        Args:
            data: Any number of bytes.

        Yields:
            The packets that are now complete.

        Raises:
            MalformedError: This is no capture file, or it is damaged here. The reader must not be used any
                further; the packets before stay good.
        """
        position = 0
        while position < len(data):
            if self._skip:
                count = min(self._skip, len(data) - position)
                self._skip -= count
                self._offset += count
                position += count
                continue
            taken = data[position : position + self._wanted - len(self._buffer)]
            self._buffer += taken
            position += len(taken)
            if len(self._buffer) == self._wanted:
                packet = self._step()
                if packet is not None:
                    yield packet

    def _step(self) -> CapturedPacket | None:
        """Look at the buffer, which holds as much as was wanted; take it, or want more."""
        try:
            parser = self._parser or self._choose_parser()
            self._wanted = parser.wanted(self._buffer)
            if len(self._buffer) < self._wanted:
                return None
            found = parser.take(bytes(self._buffer))
        except MalformedError as error:
            raise MalformedError(error.message, self._offset + error.offset, error.path) from error
        self.has_header = True
        self._skip = parser.skip
        self._offset += len(self._buffer)
        self._buffer.clear()
        self._wanted = parser.wanted(self._buffer)
        return None if found is None else CapturedPacket(*found)

    def _choose_parser(self) -> _ClassicParser | PcapngParser:
        is_pcapng = int.from_bytes(self._buffer, "big") == SECTION_HEADER
        self._parser = PcapngParser() if is_pcapng else _ClassicParser(bytes(self._buffer))
        return self._parser


class _ClassicParser:
    """The classic format: one file header, then packets."""

    skip = 0

    def __init__(self, magic: bytes) -> None:
        orders = {"<": int.from_bytes(magic, "little"), ">": int.from_bytes(magic, "big")}
        self._order = next((each for each, value in orders.items() if value in (_MICROSECONDS, _NANOSECONDS)), "")
        if not self._order:
            raise MalformedError(f"{magic.hex()} begins no capture file", 0, "pcap.magic")
        self._unit_ns = 1 if orders[self._order] == _NANOSECONDS else 1000
        self._link_type: int | None = None
        self._header = struct.Struct(self._order + "IIII")

    def wanted(self, buffer: bytearray) -> int:
        if self._link_type is None:
            return _FILE_HEADER_BYTES
        if len(buffer) < _PACKET_HEADER_BYTES:
            return _PACKET_HEADER_BYTES
        captured = int.from_bytes(buffer[8:12], "little" if self._order == "<" else "big")
        if captured > MAX_PACKET_BYTES:
            raise MalformedError(f"a packet of {captured} bytes", 8, "pcap.captured_length")
        return _PACKET_HEADER_BYTES + captured

    def take(self, block: bytes) -> tuple[int | None, bytes, int, int] | None:
        if self._link_type is None:
            self._link_type = struct.unpack_from(self._order + "I", block, 20)[0] & 0xFFFF  # above: size of the FCS
            return None
        seconds, fraction, captured, original = self._header.unpack_from(block)
        time_ns = seconds * 1_000_000_000 + fraction * self._unit_ns
        return time_ns, block[_PACKET_HEADER_BYTES:], max(original, captured), self._link_type


def build_pcap_header(link_type: int = ETHERNET) -> bytes:
    """Write the header of a classic pcap file with nanoseconds, little-endian.

    Args:
        link_type: LINKTYPE number of all its packets.
    """
    return struct.pack("<IHHiIII", _NANOSECONDS, 2, 4, 0, 0, MAX_PACKET_BYTES, link_type)


def build_pcap_packet(packet: CapturedPacket) -> bytes:
    """Write one packet of a classic pcap file with nanoseconds, little-endian.

    Args:
        packet: The packet, of the link type that the file header names; its time is 0 where it has none.
    """
    seconds, nanoseconds = divmod(packet.time_ns or 0, 1_000_000_000)
    header = struct.pack("<IIII", seconds, nanoseconds, len(packet.data), packet.original_bytes)
    return header + packet.data
