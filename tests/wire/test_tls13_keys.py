"""The key schedule against RFC 8448, section 3 ("Simple 1-RTT Handshake")."""

from __future__ import annotations

import hashlib

from pqtls.wire.tls13_keys import expand_label, message_hash

EARLY = bytes.fromhex("33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a")
DERIVED = bytes.fromhex("6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba")


def test_expand_label() -> None:
    empty = hashlib.sha256(b"").digest()
    assert expand_label("sha256", EARLY, "derived", empty, 32) == DERIVED
    assert expand_label("sha256", EARLY, "derived", b"", 32) != DERIVED


def test_long_output_continues_the_short_one() -> None:
    """HKDF-Expand chains its blocks; the label holds the length, so only equal lengths are comparable."""
    long = expand_label("sha256", EARLY, "key", b"", 64)
    assert len(long) == 64
    assert long[:32] != long[32:]


def test_message_hash_stands_for_the_first_hello() -> None:
    """RFC 9846 section 4.4.1: type 254, three bytes of length, the hash."""
    assert message_hash(0x1301, b"hello") == b"\xfe\x00\x00\x20" + hashlib.sha256(b"hello").digest()
    assert message_hash(0x1302, b"hello")[:4] == b"\xfe\x00\x00\x30"
