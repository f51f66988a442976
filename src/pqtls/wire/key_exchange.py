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
        hint: psk_identity_hint of a suite with a pre-shared key (RFC 4279, RFC 5489), else None.
    """

    kind: Literal["ecdhe", "dhe"]
    group: int | None
    public: bytes
    prime: bytes
    generator: bytes
    signature: bytes
    hint: bytes | None = None

    @classmethod
    def parse(cls, body: bytes, kind: Literal["ecdhe", "dhe"], *, has_hint: bool = False) -> ServerKeyExchange:
        """Read a ServerKeyExchange.

        Args:
            body: The message without its 4-byte header.
            kind: Its form, which the cipher suite decides.
            has_hint: The suite has a pre-shared key, so that its identity hint comes first.

        Raises:
            MalformedError: It breaks the rules, or has explicit curve parameters (forbidden by RFC 8422).
        """
        reader = Reader(body, 0, _PATH)
        hint = reader.pull_vector(2) if has_hint else None
        if kind == "dhe":
            prime = reader.pull_vector(2, least=1)
            generator = reader.pull_vector(2, least=1)
            public = reader.pull_vector(2, least=1)
            return cls(kind, None, public, prime, generator, _rest(reader, body), hint)
        curve_type = reader.pull_int(1)
        if curve_type != NAMED_CURVE:
            raise reader.fail(f"curve type {curve_type}; only named curves are allowed")
        group = reader.pull_int(2)
        public = reader.pull_vector(1, least=1)
        return cls(kind, group, public, b"", b"", _rest(reader, body), hint)

    def build(self) -> bytes:
        """Return the body; of a parsed message the very bytes that it was parsed from."""
        hint = b"" if self.hint is None else push_vector(self.hint, 2)
        if self.kind == "dhe":
            vectors = (self.prime, self.generator, self.public)
            return hint + b"".join(push_vector(vector, 2) for vector in vectors) + self.signature
        head = hint + push_int(NAMED_CURVE, 1) + push_int(self.group or 0, 2)
        return head + push_vector(self.public, 1) + self.signature

    def facts(self) -> LegacyKeyExchange:
        """Return what the evidence needs of it."""
        bits = int.from_bytes(self.prime, "big").bit_length() if self.kind == "dhe" else None
        return LegacyKeyExchange(self.kind, self.group, bits)


def _rest(reader: Reader, body: bytes) -> bytes:
    return reader.pull_bytes(len(body) - reader.offset)
