"""Real key shares, and the secrets they lead to.

Never random bytes in place of an ML-KEM key: servers check FIPS 203's modulus, and would rightly answer
illegal_parameter to what only we got wrong.

Source: RFC 10024 (order of the parts: ML-KEM first in X25519MLKEM768, last in the P-256 and P-384 hybrids), RFC 7919
(ffdhe4096).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from pqtls.probe.model import FFDHE4096, HYBRID, HYBRID_P256, HYBRID_P384, P256, P384, UNKNOWN_GROUP, X448, X25519
from pqtls.wire.errors import MalformedError
from pqtls.wire.groups import GROUPS, is_grease

if TYPE_CHECKING:
    from collections.abc import Callable

UNKNOWN_SHARE_BYTES = 1216
_FFDHE_BYTES = 512
_FFDHE_EXPONENT_BYTES = 48


class KeyPair(Protocol):
    """A private key for one group, and its share."""

    share: bytes
    """key_exchange of the client's KeyShareEntry."""

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        """Return the secrets that may have been meant, the rightful one first.

        Args:
            server_share: key_exchange of the server's.

        Raises:
            MalformedError: It is no share of this group.
        """


class _X25519:
    size_bytes = 32

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private = X25519PrivateKey.generate()
        self.share = self._private.public_key().public_bytes_raw()

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        return (self._private.exchange(X25519PublicKey.from_public_bytes(server_share)),)


class _X448:
    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey

        self._private = X448PrivateKey.generate()
        self.share = self._private.public_key().public_bytes_raw()

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        from cryptography.hazmat.primitives.asymmetric.x448 import X448PublicKey

        return (self._private.exchange(X448PublicKey.from_public_bytes(server_share)),)


class _Curve:
    def __init__(self, group: int) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._curve = ec.SECP256R1() if group == P256 else ec.SECP384R1()
        self._private = ec.generate_private_key(self._curve)
        self.share = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.size_bytes = len(self.share)

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        from cryptography.hazmat.primitives.asymmetric import ec

        peer = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, server_share)
        return (self._private.exchange(ec.ECDH(), peer),)


class _MlKem:
    def __init__(self, group: int) -> None:
        from cryptography.hazmat.primitives.asymmetric import mlkem

        kind = mlkem.MLKEM1024PrivateKey if group == HYBRID_P384 else mlkem.MLKEM768PrivateKey
        self._private = kind.generate()
        self.share = self._private.public_key().public_bytes_raw()
        self.ciphertext_bytes = 1568 if group == HYBRID_P384 else 1088

    def decapsulate(self, ciphertext: bytes) -> bytes:
        return self._private.decapsulate(ciphertext)


class _Hybrid:
    """ML-KEM and a curve; `is_swapped` writes the parts of the share in the wrong order."""

    def __init__(self, group: int, *, is_swapped: bool = False) -> None:
        self._mlkem = _MlKem(group)
        self._classical: _X25519 | _Curve = (
            _X25519() if group == HYBRID else _Curve(P384 if group == HYBRID_P384 else P256)
        )
        self._is_mlkem_first = (group == HYBRID) != is_swapped
        self.share = self._join(self._mlkem.share, self._classical.share)

    def _join(self, mlkem: bytes, classical: bytes) -> bytes:
        return mlkem + classical if self._is_mlkem_first else classical + mlkem

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        sizes = self._mlkem.ciphertext_bytes, self._classical.size_bytes
        if len(server_share) != sum(sizes):
            raise MalformedError(f"a hybrid share of {len(server_share)} bytes", 0, "ServerHello.key_share")
        first = sizes[0] if self._is_mlkem_first else sizes[1]
        parts = server_share[:first], server_share[first:]
        ciphertext, point = parts if self._is_mlkem_first else parts[::-1]
        mlkem_secret = self._mlkem.decapsulate(ciphertext)
        classical_secret = self._classical.agree(point)[0]
        rightful = self._join(mlkem_secret, classical_secret)
        swapped = (
            classical_secret + mlkem_secret if rightful.startswith(mlkem_secret) else mlkem_secret + classical_secret
        )
        return rightful, swapped


class _Ffdhe4096:
    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._exponent = int.from_bytes(random_bytes(_FFDHE_EXPONENT_BYTES), "big") | 1 << 300
        self.share = pow(2, self._exponent, _ffdhe4096_prime()).to_bytes(_FFDHE_BYTES, "big")

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        peer = int.from_bytes(server_share, "big")
        if not 1 < peer < _ffdhe4096_prime() - 1:
            raise MalformedError("no number of this group", 0, "ServerHello.key_share")
        return (pow(peer, self._exponent, _ffdhe4096_prime()).to_bytes(_FFDHE_BYTES, "big"),)


class _Opaque:
    """Bytes for a group that nobody has: an unknown one, or GREASE."""

    def __init__(self, share: bytes) -> None:
        self.share = share

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        raise MalformedError("the server chose a group that does not exist", 0, "ServerHello.key_share")


@cache
def _ffdhe4096_prime() -> int:
    """Return 2^4096 - 2^4032 + (floor(2^3966 e) + 5736041) 2^64 - 1 (RFC 7919, appendix A.3)."""
    guard_bits = 64
    total = term = 1 << 3966 + guard_bits
    divisor = 1
    while term:
        term //= divisor
        total += term
        divisor += 1
    e_floor = total >> guard_bits
    return (1 << 4096) - (1 << 4032) + ((e_floor + 5736041) << 64) - 1


def make_key_pair(group: int, random_bytes: Callable[[int], bytes], *, is_swapped: bool = False) -> KeyPair:
    """Make a key pair.

    Args:
        group: NamedGroup that pqtls can make keys for, `UNKNOWN_GROUP`, or one of GREASE's.
        random_bytes: Source of randomness for what is not made by the cryptographic library.
        is_swapped: Write the parts of a hybrid share in the wrong order.

    Raises:
        KeyError: There are no keys for this group.
    """
    if group in (HYBRID, HYBRID_P256, HYBRID_P384):
        return _Hybrid(group, is_swapped=is_swapped)
    if group in (P256, P384):
        return _Curve(group)
    if group == UNKNOWN_GROUP:
        return _Opaque(random_bytes(UNKNOWN_SHARE_BYTES))
    if is_grease(group):
        return _Opaque(b"\x00")
    if group == FFDHE4096:
        return _Ffdhe4096(random_bytes)
    if group == X448:
        return _X448()
    if group != X25519:
        raise KeyError(group)
    return _X25519()


def share_bytes(group: int) -> int:
    """Return the size of a client's share in bytes.

    Args:
        group: As for `make_key_pair`.
    """
    if group == UNKNOWN_GROUP:
        return UNKNOWN_SHARE_BYTES
    return 1 if is_grease(group) else GROUPS[group].client_share_bytes or 0
