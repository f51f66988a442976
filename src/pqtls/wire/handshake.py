"""Handshake messages, put together again across records and arbitrary splits (RFC 9846 section 4, 5.1).

Only the messages that pqtls reads are kept; all others, certificates above all, are counted and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.wire.buffer import push_int, push_vector
from pqtls.wire.codepoints import CLIENT_HELLO, ENCRYPTED_EXTENSIONS, SERVER_HELLO, SERVER_KEY_EXCHANGE
from pqtls.wire.errors import MalformedError
from pqtls.wire.limits import (
    MAX_CLIENT_HELLO_BYTES,
    MAX_EMPTY_RECORDS,
    MAX_ENCRYPTED_EXTENSIONS_BYTES,
    MAX_SERVER_HELLO_BYTES,
    MAX_SERVER_KEY_EXCHANGE_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 4
_MAX_BYTES = {
    CLIENT_HELLO: MAX_CLIENT_HELLO_BYTES,
    SERVER_HELLO: MAX_SERVER_HELLO_BYTES,
    ENCRYPTED_EXTENSIONS: MAX_ENCRYPTED_EXTENSIONS_BYTES,
    SERVER_KEY_EXCHANGE: MAX_SERVER_KEY_EXCHANGE_BYTES,
}


@dataclass(frozen=True, slots=True)
class HandshakeMessage:
    """One handshake message.

    Attributes:
        message_type: HandshakeType.
        body: Its body without the 4-byte header; None for a message that is not kept.
        body_bytes: Size of the body.
        records: Records that carried a part of it.
    """

    message_type: int
    body: bytes | None
    body_bytes: int
    records: int

    def build(self) -> bytes:
        """Return the message with its header.

        Raises:
            ValueError: The body was not kept.
        """
        if self.body is None:
            raise ValueError("the body of this message was not kept")
        return push_int(self.message_type, 1) + push_vector(self.body, 3)


def split_message(message: bytes) -> tuple[int, bytes]:
    """Take one whole handshake message apart.

    Args:
        message: The message with its 4-byte header, and nothing after it.

    Returns:
        Its type and its body.

    Raises:
        MalformedError: The header's length is not the body's, or the message is over its limit.
    """
    if len(message) < HEADER_BYTES:
        raise MalformedError(f"a handshake message of {len(message)} bytes", 0, "handshake")
    length = int.from_bytes(message[1:4], "big")
    if length != len(message) - HEADER_BYTES:
        raise MalformedError(f"length {length} over {len(message) - HEADER_BYTES} bytes", 1, "handshake.length")
    _check_length(message[0], length, 0)
    return message[0], message[HEADER_BYTES:]


def _check_length(message_type: int, length: int, offset: int) -> None:
    limit = _MAX_BYTES.get(message_type)
    if limit is not None and length + HEADER_BYTES > limit:
        raise MalformedError(f"a message of type {message_type} and {length} bytes", offset + 1, "handshake.length")


class HandshakeReader:
    """Puts the handshake messages of one direction together from the payloads of its records."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._body: bytearray | None = None
        self._left = 0
        self._length = 0
        self._records = 0
        self._empty_records = 0
        self._offset = 0

    @property
    def is_between_messages(self) -> bool:
        """No message has been begun: the only place where another content type may come."""
        return not self._header

    def receive_payload(self, payload: bytes) -> Iterator[HandshakeMessage]:
        """Take the payload of the next handshake record.

        Args:
            payload: The payload, in the clear.

        Yields:
            The messages that are now complete, each before the bytes after it are looked at; none if more data
            is needed.

        Raises:
            MalformedError: A message is over its limit, or too many records carry nothing.
        """
        self._empty_records = 0 if payload else self._empty_records + 1
        if self._empty_records > MAX_EMPTY_RECORDS:
            raise MalformedError("too many empty records", self._offset, "handshake")
        position = 0
        if self._header:
            self._records += 1
        while position < len(payload):
            if not self._header:
                self._records = 1
            position += self._take(payload, position)
            if len(self._header) == HEADER_BYTES and self._left == 0:
                yield self._finish()
        self._offset += len(payload)

    def _take(self, payload: bytes, position: int) -> int:
        if len(self._header) < HEADER_BYTES:
            wanted = payload[position : position + HEADER_BYTES - len(self._header)]
            self._header += wanted
            if len(self._header) == HEADER_BYTES:
                self._length = self._left = int.from_bytes(self._header[1:4], "big")
                _check_length(self._header[0], self._length, self._offset + position)
                self._body = bytearray() if self._header[0] in _MAX_BYTES else None
            return len(wanted)
        count = min(self._left, len(payload) - position)
        if self._body is not None:
            self._body += payload[position : position + count]
        self._left -= count
        return count

    def _finish(self) -> HandshakeMessage:
        body = None if self._body is None else bytes(self._body)
        message = HandshakeMessage(self._header[0], body, self._length, self._records)
        self._header.clear()
        self._body = None
        return message
