"""ServerKeyExchange of TLS 1.2 and older: which curve or which prime (RFC 5246 section 7.4.3, RFC 8422 section 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pqtls.wire.buffer import Reader, push_int, push_vector
from pqtls.wire.facts import LegacyKeyExchange

NAMED_CURVE = 3
_PATH = "ServerKeyExchange"


@dataclass(frozen=True, slots=True)
class ServerKeyExchange:
    """A ServerKeyExchange.

    Attributes:
        kind: Its form, told by the cipher suite: "ecdhe" or "dhe".
        group: The named curve of "ecdhe", else None.
        public: The server's public value: a point, or dh_Ys.
        prime: dh_p of "dhe", else empty.
        generator: dh_g of "dhe", else empty.
        signature: What follows the parameters: the signature with its algorithm, untouched; empty if anonymous.
    """

    kind: Literal["ecdhe", "dhe"]
    group: int | None
    public: bytes
    prime: bytes
    generator: bytes
    signature: bytes

    @classmethod
    def parse(cls, body: bytes, kind: Literal["ecdhe", "dhe"]) -> ServerKeyExchange:
        """Read a ServerKeyExchange.

        Args:
            body: The message without its 4-byte header.
            kind: Its form, which the cipher suite decides.

        Raises:
            MalformedError: It breaks the rules, or has explicit curve parameters (forbidden by RFC 8422).
        """
        reader = Reader(body, 0, _PATH)
        if kind == "dhe":
            prime = reader.pull_vector(2, least=1)
            generator = reader.pull_vector(2, least=1)
            public = reader.pull_vector(2, least=1)
            return cls(kind, None, public, prime, generator, _rest(reader, body))
        curve_type = reader.pull_int(1)
        if curve_type != NAMED_CURVE:
            raise reader.fail(f"curve type {curve_type}; only named curves are allowed")
        group = reader.pull_int(2)
        public = reader.pull_vector(1, least=1)
        return cls(kind, group, public, b"", b"", _rest(reader, body))

    def build(self) -> bytes:
        """Return the body; of a parsed message the very bytes that it was parsed from."""
        if self.kind == "dhe":
            vectors = (self.prime, self.generator, self.public)
            return b"".join(push_vector(vector, 2) for vector in vectors) + self.signature
        head = push_int(NAMED_CURVE, 1) + push_int(self.group or 0, 2)
        return head + push_vector(self.public, 1) + self.signature

    def facts(self) -> LegacyKeyExchange:
        """Return what the evidence needs of it."""
        bits = int.from_bytes(self.prime, "big").bit_length() if self.kind == "dhe" else None
        return LegacyKeyExchange(self.kind, self.group, bits)


def _rest(reader: Reader, body: bytes) -> bytes:
    return reader.pull_bytes(len(body) - reader.offset)
