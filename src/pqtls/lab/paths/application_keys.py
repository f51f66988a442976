"""The traffic keys after a TLS 1.3 handshake: only a server that answers needs them (RFC 9846 section 7.1)."""

from __future__ import annotations

import hashlib
import hmac

from pqtls.wire.tls13_keys import SUITES, TrafficKeys, expand_label

_IV_BYTES = 12


def application_keys(suite: int, shared_secret: bytes, transcript: bytes) -> tuple[TrafficKeys, TrafficKeys]:
    """Return the first application traffic keys of client and server.

    Args:
        suite: Cipher suite, one of `SUITES`.
        shared_secret: What the key exchange came to.
        transcript: Messages up to the server's Finished.
    """
    hash_name, key_bytes, _ = SUITES[suite]
    empty = hashlib.new(hash_name).digest()
    zeros = bytes(len(empty))
    secret = hmac.digest(zeros, zeros, hash_name)
    for material in (shared_secret, zeros):
        derived = expand_label(hash_name, secret, "derived", empty, len(empty))
        secret = hmac.digest(derived, material, hash_name)
    digest = hashlib.new(hash_name, transcript).digest()
    found = []
    for side in ("c", "s"):
        traffic = expand_label(hash_name, secret, f"{side} ap traffic", digest, len(digest))
        key = expand_label(hash_name, traffic, "key", b"", key_bytes)
        iv = expand_label(hash_name, traffic, "iv", b"", _IV_BYTES)
        found.append(TrafficKeys(key, iv, expand_label(hash_name, traffic, "finished", b"", len(empty))))
    return found[0], found[1]
