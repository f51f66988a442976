"""The server's half of a key exchange, right or wrong in the ways that were met (F31)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pqtls.probe.keys import make_key_pair
from pqtls.probe.model import HYBRID, HYBRID_P256, HYBRID_P384, P256, P384, X25519

if TYPE_CHECKING:
    from pqtls.probe.keys import KeyPair

_CLASSICAL = {HYBRID: X25519, HYBRID_P256: P256, HYBRID_P384: P384}


def agree(group: int, client_share: bytes, fault: str = "") -> tuple[bytes, bytes]:
    """Return the server's share and the secret.

    Args:
        group: One that pqtls can make keys for.
        client_share: The client's key_exchange.
        fault: "swapped-share": the halves of both shares are taken and sent in the wrong order; "swapped-secret":
            the secrets are joined in the wrong order; "garbage": the secret is another; "" for none.

    Raises:
        ValueError: It is no share of this group.
        KeyError: There are no keys for this group.
    """
    if group not in _CLASSICAL:
        pair: KeyPair = make_key_pair(group, os.urandom)
        return pair.share, pair.agree(client_share)[0]
    from cryptography.hazmat.primitives.asymmetric import mlkem

    kind = mlkem.MLKEM1024PublicKey if group == HYBRID_P384 else mlkem.MLKEM768PublicKey
    mlkem_bytes = 1568 if group == HYBRID_P384 else 1184
    pair = make_key_pair(_CLASSICAL[group], os.urandom)
    is_mlkem_first = (group == HYBRID) != (fault == "swapped-share")
    cut = mlkem_bytes if is_mlkem_first else len(client_share) - mlkem_bytes
    parts = client_share[:cut], client_share[cut:]
    key, point = parts if is_mlkem_first else parts[::-1]
    mlkem_secret, ciphertext = kind.from_public_bytes(key).encapsulate()
    classical_secret = pair.agree(point)[0]
    if fault == "garbage":
        return _join(ciphertext, pair.share, is_mlkem_first), os.urandom(len(mlkem_secret) + len(classical_secret))
    is_secret_first = is_mlkem_first != (fault == "swapped-secret")
    return _join(ciphertext, pair.share, is_mlkem_first), _join(mlkem_secret, classical_secret, is_secret_first)


def _join(mlkem: bytes, classical: bytes, is_mlkem_first: bool) -> bytes:
    return mlkem + classical if is_mlkem_first else classical + mlkem
