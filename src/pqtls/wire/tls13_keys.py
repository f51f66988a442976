"""TLS 1.3's key schedule: from a shared secret and a transcript to traffic keys (RFC 9846 section 7).

Standard library only; the ciphers themselves are the caller's.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from pqtls.wire.buffer import push_int, push_vector

# Cipher suite: hash, key bytes, name of the AEAD.
SUITES = {0x1301: ("sha256", 16, "aes-gcm"), 0x1302: ("sha384", 32, "aes-gcm"), 0x1303: ("sha256", 32, "chacha20")}
_IV_BYTES = 12
_MESSAGE_HASH = 254


@dataclass(frozen=True, slots=True)
class TrafficKeys:
    """What protects one direction.

    Attributes:
        key: AEAD key.
        iv: Its nonce before the record number is put in, 12 bytes.
        finished_key: Key of the Finished message's MAC.
    """

    key: bytes
    iv: bytes
    finished_key: bytes


def expand_label(hash_name: str, secret: bytes, label: str, context: bytes, size_bytes: int) -> bytes:
    """Return HKDF-Expand-Label.

    Args:
        hash_name: Such as sha256.
        secret: The secret.
        label: The label without its "tls13 ".
        context: The context.
        size_bytes: How much is wanted.
    """
    info = push_int(size_bytes, 2) + push_vector(b"tls13 " + label.encode(), 1) + push_vector(context, 1)
    output = block = b""
    number = 1
    while len(output) < size_bytes:
        block = hmac.digest(secret, block + info + bytes((number,)), hash_name)
        output += block
        number += 1
    return output[:size_bytes]


def handshake_keys(suite: int, shared_secret: bytes, transcript: bytes) -> tuple[TrafficKeys, TrafficKeys]:
    """Return the handshake traffic keys of client and server.

    Args:
        suite: Cipher suite, one of `SUITES`.
        shared_secret: What the key exchange came to.
        transcript: Messages up to the ServerHello.
    """
    hash_name, key_bytes, _ = SUITES[suite]
    empty = hashlib.new(hash_name).digest()
    zeros = bytes(len(empty))
    early = hmac.digest(zeros, zeros, hash_name)
    derived = expand_label(hash_name, early, "derived", empty, len(empty))
    secret = hmac.digest(derived, shared_secret, hash_name)
    digest = hashlib.new(hash_name, transcript).digest()
    client, server = (expand_label(hash_name, secret, f"{side} hs traffic", digest, len(digest)) for side in ("c", "s"))
    return _traffic_keys(hash_name, client, key_bytes), _traffic_keys(hash_name, server, key_bytes)


def finished_mac(suite: int, keys: TrafficKeys, transcript: bytes) -> bytes:
    """Return verify_data of a Finished message.

    Args:
        suite: Cipher suite.
        keys: Of its sender.
        transcript: Messages before it.
    """
    hash_name = SUITES[suite][0]
    return hmac.digest(keys.finished_key, hashlib.new(hash_name, transcript).digest(), hash_name)


def message_hash(suite: int, message: bytes) -> bytes:
    """Return what stands for the first ClientHello in the transcript after a retry (RFC 9846 section 4.4.1).

    Args:
        suite: Cipher suite.
        message: The first ClientHello with its header.
    """
    digest = hashlib.new(SUITES[suite][0], message).digest()
    return push_int(_MESSAGE_HASH, 1) + push_vector(digest, 3)


def _traffic_keys(hash_name: str, secret: bytes, key_bytes: int) -> TrafficKeys:
    return TrafficKeys(
        expand_label(hash_name, secret, "key", b"", key_bytes),
        expand_label(hash_name, secret, "iv", b"", _IV_BYTES),
        expand_label(hash_name, secret, "finished", b"", hashlib.new(hash_name).digest_size),
    )
