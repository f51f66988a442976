"""How many TCP segments carried each ClientHello.

A hello that no longer fits into one segment is what breaks some middleboxes and servers, so the count is a
fact of its own. Counted are the segments that were the first to carry at least one byte of the handshake
message (record headers are not part of it): a retransmission that brings nothing new is not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.wire.codepoints import APPLICATION_DATA, CHANGE_CIPHER_SPEC, CLIENT_HELLO, HANDSHAKE
from pqtls.wire.handshake import HEADER_BYTES
from pqtls.wire.records import HEADER_BYTES as RECORD_HEADER_BYTES

if TYPE_CHECKING:
    from pqtls.wire.tcp_stream import Piece

# A handshake has two ClientHellos at most (RFC 9846 section 4.1.4).
MAX_HELLOS = 2


class HelloSegmentCounter:
    """Walks the client's stream by record and message headers; it keeps no payload."""

    def __init__(self) -> None:
        self._counts: list[int] = []
        self._serials: set[int] = set()
        self._record_header = bytearray()
        self._record_left = 0
        self._message_header = bytearray()
        self._message_left = 0
        self._is_over = False

    @property
    def counts(self) -> tuple[int, ...]:
        """Segments of each whole ClientHello so far."""
        return tuple(self._counts)

    def receive(self, piece: Piece) -> None:
        """Take the next piece of the client's stream, in order.

        Args:
            piece: The piece.
        """
        position, data = 0, piece.data
        while position < len(data) and not self._is_over:
            if not self._record_left:
                position = self._take_record_header(data, position)
            elif self._record_header[0] == HANDSHAKE:
                count = min(self._record_left, len(data) - position)
                self._take_payload(data[position : position + count], piece.serial)
                self._record_left -= count
                position += count
            else:
                count = min(self._record_left, len(data) - position)
                self._record_left -= count
                position += count
            if self._record_left == 0 and len(self._record_header) == RECORD_HEADER_BYTES:
                self._record_header.clear()

    def _take_record_header(self, data: bytes, position: int) -> int:
        wanted = data[position : position + RECORD_HEADER_BYTES - len(self._record_header)]
        self._record_header += wanted
        if self._record_header[0] not in (HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA):
            self._is_over = True
        elif len(self._record_header) == RECORD_HEADER_BYTES:
            self._record_left = int.from_bytes(self._record_header[3:5], "big")
        return position + len(wanted)

    def _take_payload(self, payload: bytes, serial: int) -> None:
        position = 0
        while position < len(payload) and not self._is_over:
            self._serials.add(serial)
            if len(self._message_header) < HEADER_BYTES:
                wanted = payload[position : position + HEADER_BYTES - len(self._message_header)]
                self._message_header += wanted
                position += len(wanted)
                if self._message_header[0] != CLIENT_HELLO:
                    self._is_over = True
                if len(self._message_header) == HEADER_BYTES:
                    self._message_left = int.from_bytes(self._message_header[1:], "big")
            else:
                count = min(self._message_left, len(payload) - position)
                self._message_left -= count
                position += count
            if len(self._message_header) == HEADER_BYTES and not self._message_left:
                self._finish()

    def _finish(self) -> None:
        self._counts.append(len(self._serials))
        self._serials.clear()
        self._message_header.clear()
        self._is_over = len(self._counts) == MAX_HELLOS
