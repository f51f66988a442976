"""The verdict table of docs/verdicts.md, row by row; each positive row has its negative controls beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pqtls.evidence import Finding, judge
from pqtls.wire.facts import (
    AlertFacts,
    ClientHelloFacts,
    Handshake,
    HelloRetryFacts,
    KeyShare,
    LegacyKeyExchange,
    ServerHelloFacts,
    Side,
)

HYBRID, X25519, P256, MLKEM1024, KYBER, UNNAMED = 0x11EC, 0x001D, 0x0017, 0x0202, 0x6399, 0x11EF
SHARE_BYTES = {
    HYBRID: (1216, 1120),
    X25519: (32, 32),
    P256: (65, 65),
    MLKEM1024: (1568, 1568),
    KYBER: (1216, 1120),
}


def hello(*groups: int, shares: tuple[int, ...] | None = None) -> ClientHelloFacts:
    sent = groups[:1] if shares is None else shares
    return ClientHelloFacts(
        1551, 1, None, groups, tuple(KeyShare(group, SHARE_BYTES[group][0]) for group in sent), (0x0403,)
    )


def server(group: int | None, size: int | None = None) -> ServerHelloFacts:
    if group is None:
        return ServerHelloFacts(90, None, None)
    return ServerHelloFacts(1210, group, SHARE_BYTES.get(group, (0, 32))[1] if size is None else size)


# A completed hybrid handshake: the one thing that is post-quantum. Every other row changes something.
HYBRID_DONE = Handshake(
    version=0x0304,
    client_random=bytes(32),
    sni="server.example",
    cipher=0x1302,
    client_hellos=(hello(HYBRID, X25519),),
    server_hello=server(HYBRID),
    complete=True,
    handshake_ms=3.0,
)


def changed(**changes: Any) -> Handshake:
    return replace(HYBRID_DONE, **changes)


ROWS: list[tuple[str, Handshake, tuple[str, str, str]]] = [
    ("hybrid", HYBRID_DONE, ("hybrid", "post-quantum", "negotiated-hybrid")),
    (
        "hybrid after a retry",
        changed(
            client_hellos=(hello(X25519, HYBRID), hello(X25519, HYBRID, shares=(HYBRID,))),
            hello_retry=HelloRetryFacts(HYBRID, cookie=False),
        ),
        ("hybrid", "post-quantum", "negotiated-hybrid"),
    ),
    (
        "pure",
        changed(client_hellos=(hello(MLKEM1024),), server_hello=server(MLKEM1024)),
        ("pure", "post-quantum", "negotiated-pure"),
    ),
    ("resumed with psk_dhe_ke", changed(psk="psk_dhe_ke"), ("hybrid", "post-quantum", "negotiated-hybrid")),
    (
        "early data offered, its fate not seen",
        changed(early_data="offered"),
        ("hybrid", "inconclusive", "early-data"),
    ),
    ("early data sent", changed(early_data="sent"), ("hybrid", "inconclusive", "early-data")),
    ("early data accepted", changed(early_data="accepted"), ("hybrid", "inconclusive", "early-data")),
    ("early data rejected", changed(early_data="rejected"), ("hybrid", "inconclusive", "early-data")),
    (
        "server chose classical",
        changed(server_hello=server(X25519)),
        ("classical", "not-post-quantum", "server-chose-classical"),
    ),
    (
        "server chose classical, not complete",
        changed(server_hello=server(X25519), complete=False),
        ("classical", "not-post-quantum", "server-chose-classical"),
    ),
    (
        "hybrid was not offered",
        changed(client_hellos=(hello(X25519, P256),), server_hello=server(X25519)),
        ("classical", "not-post-quantum", "not-offered"),
    ),
    (
        "hybrid was not offered, not complete",
        changed(client_hellos=(hello(X25519),), server_hello=server(X25519), complete=False),
        ("classical", "not-post-quantum", "not-offered"),
    ),
    (
        "a draft group on offer is no offer of ML-KEM",
        changed(client_hellos=(hello(KYBER, X25519),), server_hello=server(X25519)),
        ("classical", "not-post-quantum", "not-offered"),
    ),
    (
        "TLS 1.2",
        changed(version=0x0303, server_hello=server(None), legacy_key_exchange=LegacyKeyExchange("ecdhe", X25519)),
        ("classical", "not-post-quantum", "tls12"),
    ),
    (
        "TLS 1.0 with RSA transport",
        changed(version=0x0301, server_hello=server(None), legacy_key_exchange=LegacyKeyExchange("rsa")),
        ("classical", "not-post-quantum", "tls12"),
    ),
    (
        "Kyber draft",
        changed(client_hellos=(hello(KYBER),), server_hello=server(KYBER)),
        ("draft", "not-post-quantum", "draft-group"),
    ),
    ("psk_ke", changed(psk="psk_ke", server_hello=server(None)), ("none", "inconclusive", "psk-only")),
    (
        "no key_share and no psk",
        changed(server_hello=server(None)),
        ("unknown", "inconclusive", "malformed"),
    ),
    (
        "STARTTLS stripped",
        Handshake(plaintext=True),
        ("none", "not-post-quantum", "plaintext"),
    ),
    (
        "hybrid ServerHello, then an alert",
        changed(complete=False, alert=AlertFacts(Side.CLIENT, 48)),
        ("hybrid", "inconclusive", "handshake-failed"),
    ),
    (
        "hybrid ServerHello, then a reset",
        changed(complete=False, ended="reset"),
        ("hybrid", "inconclusive", "handshake-failed"),
    ),
    (
        "hybrid ServerHello, then an encrypted alert",
        changed(complete=False, encrypted_alert_likely=True),
        ("hybrid", "inconclusive", "handshake-failed"),
    ),
    ("hybrid ServerHello, then nothing", changed(complete=False), ("hybrid", "inconclusive", "truncated")),
    (
        "hybrid ServerHello, then the end of the capture",
        changed(complete=False, ended="capture-end"),
        ("hybrid", "inconclusive", "truncated"),
    ),
    (
        "alert in place of a ServerHello",
        changed(server_hello=None, version=None, complete=False, alert=AlertFacts(Side.SERVER, 40)),
        ("unknown", "inconclusive", "alert"),
    ),
    (
        "reset in place of a ServerHello",
        changed(server_hello=None, version=None, complete=False, ended="reset"),
        ("unknown", "inconclusive", "reset"),
    ),
    (
        "nothing in place of a ServerHello",
        changed(server_hello=None, version=None, complete=False, ended="timeout"),
        ("unknown", "inconclusive", "no-server-hello"),
    ),
    (
        "group not offered",
        changed(client_hellos=(hello(X25519),)),
        ("unknown", "inconclusive", "malformed"),
    ),
    (
        "the tracker found a violation",
        changed(malformed="Two HelloRetryRequests."),
        ("unknown", "inconclusive", "malformed"),
    ),
    (
        "share of the wrong size",
        changed(server_hello=server(HYBRID, 32)),
        ("unknown", "inconclusive", "malformed"),
    ),
    ("ClientHello not seen", changed(client_hellos=()), ("unknown", "inconclusive", "malformed")),
    ("a version after 1.3", changed(version=0x0305), ("unknown", "inconclusive", "malformed")),
    (
        "a group that is not known",
        changed(client_hellos=(hello(UNNAMED, shares=()),), server_hello=server(UNNAMED)),
        ("unknown", "inconclusive", "unknown-group"),
    ),
    (
        "an experimental group",
        changed(client_hellos=(hello(0x2F4B, shares=()),), server_hello=server(0x2F4B)),
        ("unknown", "inconclusive", "unknown-group"),
    ),
    (
        "ECH: the offer is hidden, the choice is not",
        changed(ech=True, client_hellos=(hello(X25519),)),
        ("hybrid", "post-quantum", "negotiated-hybrid"),
    ),
    (
        "ECH and a classical choice: what was offered is not known",
        changed(ech=True, client_hellos=(hello(X25519),), server_hello=server(X25519)),
        ("classical", "not-post-quantum", "server-chose-classical"),
    ),
]


@pytest.mark.smoke
@pytest.mark.parametrize(("handshake", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_row(handshake: Handshake, expected: tuple[str, str, str]) -> None:
    finding = judge(handshake)
    assert (finding.key_exchange, finding.verdict, finding.reason) == expected
    assert finding.detail.endswith(".")


def test_every_reason_has_a_row() -> None:
    from typing import get_args

    from pqtls.evidence import Reason

    assert {row[2][2] for row in ROWS} == set(get_args(Reason))


def test_only_a_completed_tls13_handshake_with_ml_kem_is_post_quantum() -> None:
    """Drop each thing that the proof rests on, one at a time: none of the rest may be called post-quantum."""
    assert judge(HYBRID_DONE).verdict == "post-quantum"
    weakened: dict[str, Finding] = {
        "complete": judge(changed(complete=False)),
        "server_hello": judge(changed(server_hello=None)),
        "group": judge(changed(server_hello=server(None))),
        "version": judge(changed(version=0x0303)),
        "no version": judge(changed(version=None)),
        "client_hellos": judge(changed(client_hellos=())),
        "offer": judge(changed(client_hellos=(hello(X25519),))),
        "share size": judge(changed(server_hello=server(HYBRID, 1119))),
    }
    assert {name: finding.verdict for name, finding in weakened.items() if finding.verdict == "post-quantum"} == {}


def test_tls12_names_the_curve_or_rsa() -> None:
    curve = changed(version=0x0303, server_hello=server(None), legacy_key_exchange=LegacyKeyExchange("ecdhe", P256))
    rsa = changed(version=0x0303, server_hello=server(None), legacy_key_exchange=LegacyKeyExchange("rsa"))
    assert "secp256r1" in judge(curve).detail
    assert "RSA key transport" in judge(rsa).detail
