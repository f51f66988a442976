"""TLS records: the 5-byte header and what it frames (RFC 9846 section 5.1, RFC 5246 section 6.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.wire.buffer import push_int, push_vector
from pqtls.wire.codepoints import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE
from pqtls.wire.errors import MalformedError
from pqtls.wire.limits import MAX_RECORD_PAYLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 5
_CONTENT_TYPES = frozenset((CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA))


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands on the wire.

    Attributes:
        content_type: 20 to 23.
        version: legacy_record_version.
        payload: The fragment, still encrypted where encryption is on.
    """

    content_type: int
    version: int
    payload: bytes

    def build(self) -> bytes:
        """Return the record's bytes."""
        return push_int(self.content_type, 1) + push_int(self.version, 2) + push_vector(self.payload, 2)


class RecordReader:
    """Cuts one direction of a byte stream into records, however the stream arrives.

    It holds at most one unfinished record and looks at no byte twice.
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._payload = bytearray()
        self._length = -1
        self._offset = 0

    def receive_data(self, data: bytes) -> Iterator[Record]:
        """Take the next bytes.

        Args:
            data: Any number of bytes.

        Yields:
            The records that are now complete, each before the bytes after it are looked at, so that what
            is read does not depend on how the stream was cut; none if more data is needed.

        Raises:
            MalformedError: This is no TLS record. The reader must not be used any further.
        """
        position = 0
        while position < len(data):
            position += self._take(data, position)
            if self._length >= 0 and len(self._payload) == self._length:
                yield self._finish()

    def _take(self, data: bytes, position: int) -> int:
        """Take what the present header or payload still wants; return how many bytes that was."""
        if self._length < 0:
            wanted = data[position : position + HEADER_BYTES - len(self._header)]
            self._header += wanted
            if len(self._header) == HEADER_BYTES or self._header[0] not in _CONTENT_TYPES:
                self._open()
            return len(wanted)
        wanted = data[position : position + self._length - len(self._payload)]
        self._payload += wanted
        return len(wanted)

    def _open(self) -> None:
        content_type = self._header[0]
        if content_type not in _CONTENT_TYPES:
            raise MalformedError(f"{content_type} is no TLS content type", self._offset, "record.type")
        if self._header[1] != 3:
            raise MalformedError(f"{self._header[1]} is no TLS major version", self._offset + 1, "record.version")
        self._length = int.from_bytes(self._header[3:5], "big")
        if self._length > MAX_RECORD_PAYLOAD_BYTES:
            raise MalformedError(f"a record of {self._length} bytes", self._offset + 3, "record.length")

    def _finish(self) -> Record:
        record = Record(self._header[0], int.from_bytes(self._header[1:3], "big"), bytes(self._payload))
        self._offset += HEADER_BYTES + self._length
        self._header.clear()
        self._payload.clear()
        self._length = -1
        return record
