"""Protected TLS 1.3 records: open the server's, seal our own (RFC 9846 section 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.wire import codepoints as cp
from pqtls.wire.records import Record
from pqtls.wire.tls13_keys import SUITES

if TYPE_CHECKING:
    from pqtls.wire.tls13_keys import TrafficKeys

_TAG_BYTES = 16


class NotOpenedError(Exception):
    """A protected record that these keys do not open."""


class Protection:
    """One direction's record protection; counts records by itself.

    Args:
        suite: Cipher suite.
        keys: Traffic keys of the direction.
    """

    def __init__(self, suite: int, keys: TrafficKeys) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

        kind = AESGCM if SUITES[suite][2] == "aes-gcm" else ChaCha20Poly1305
        self._aead = kind(keys.key)
        self._iv = int.from_bytes(keys.iv, "big")
        self._number = 0

    def open(self, record: Record) -> tuple[int, bytes]:
        """Return the content type and the content of a protected record.

        Args:
            record: The record.

        Raises:
            NotOpenedError: It was not sealed with these keys.
        """
        from cryptography.exceptions import InvalidTag

        header = record.build()[:5]
        try:
            inner = self._aead.decrypt(self._nonce(), record.payload, header)
        except InvalidTag:
            raise NotOpenedError from None
        self._number += 1
        content = inner.rstrip(b"\x00")
        if not content:
            raise NotOpenedError
        return content[-1], content[:-1]

    def seal(self, content_type: int, content: bytes) -> bytes:
        """Return a protected record.

        Args:
            content_type: What is in it.
            content: The content.
        """
        inner = content + bytes((content_type,))
        header = Record(cp.APPLICATION_DATA, cp.TLS12, bytes(len(inner) + _TAG_BYTES)).build()[:5]
        sealed = header + self._aead.encrypt(self._nonce(), inner, header)
        self._number += 1
        return sealed

    def _nonce(self) -> bytes:
        return (self._iv ^ self._number).to_bytes(12, "big")
