"""From the facts of one handshake to a verdict: what it proves about this connection's key exchange.

One function, `judge`, holds the verdict table; each of its rows is a test. It reads a `Handshake` and
nothing else: no version string, no configuration, no outcome of a request. What it says concerns the
confidentiality of this connection's key exchange, not its certificates.

Sources: RFC 9846 (TLS 1.3), RFC 10024 (ECDHE with ML-KEM), RFC 9846 section 2.3 (early data is protected
only by the pre-shared key).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pqtls.wire.codepoints import alert_name, cipher_suite_name, version_name
from pqtls.wire.facts import Handshake
from pqtls.wire.groups import GROUPS, group_kind, group_name

KeyExchange = Literal["hybrid", "pure", "draft", "classical", "none", "unknown"]
Verdict = Literal["post-quantum", "not-post-quantum", "inconclusive"]
Reason = Literal[
    "negotiated-hybrid",
    "negotiated-pure",
    "early-data",
    "server-chose-classical",
    "not-offered",
    "tls12",
    "draft-group",
    "psk-only",
    "plaintext",
    "handshake-failed",
    "truncated",
    "alert",
    "reset",
    "no-server-hello",
    "malformed",
    "unknown-group",
]

TLS13 = 0x0304
_PQ_KINDS = ("hybrid", "pure")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one handshake proves.

    Attributes:
        key_exchange: Class of the key exchange that the server chose.
        verdict: The answer; `inconclusive` is a first-class one.
        reason: Why, as a stable word for programs.
        detail: Why, as a sentence for people.
    """

    key_exchange: KeyExchange
    verdict: Verdict
    reason: Reason
    detail: str


def judge(handshake: Handshake) -> Finding:
    """Say what a handshake proves.

    Args:
        handshake: What was seen of it, from any witness.

    Returns:
        The finding. `post-quantum` only for a completed TLS 1.3 handshake, with no early data sent, whose
        ServerHello chose an offered group with ML-KEM in it and carried a key share of that group's size.
    """
    if handshake.plaintext:
        return Finding("none", "not-post-quantum", "plaintext", "The upgrade to TLS was refused; plain text followed.")
    if handshake.malformed is not None:
        return _malformed(handshake.malformed)
    if handshake.server_hello is None:
        return _without_server_hello(handshake)
    if handshake.version is None or handshake.version > TLS13:
        return _malformed("The ServerHello names no protocol version that is known.")
    if handshake.version < TLS13:
        return _tls12(handshake)
    group = handshake.server_hello.group
    if group is None:
        return _without_group(handshake)
    return _tls13(handshake, group)


def is_post_quantum_group(group: int) -> bool:
    """Tell whether a named group has ML-KEM in it: an RFC 10024 hybrid or sibling, or pure ML-KEM.

    Args:
        group: NamedGroup code point.
    """
    return group_kind(group) in _PQ_KINDS


def offered_groups(handshake: Handshake) -> tuple[int, ...]:
    """Return every group that the client's hellos listed, in order, each once.

    Args:
        handshake: What was seen. With ECH accepted, these are the outer hello's and prove nothing.
    """
    return tuple(dict.fromkeys(group for hello in handshake.client_hellos for group in hello.groups))


def _malformed(sentence: str) -> Finding:
    return Finding("unknown", "inconclusive", "malformed", sentence)


def _without_server_hello(handshake: Handshake) -> Finding:
    if handshake.alert is not None:
        name = alert_name(handshake.alert.code)
        who = handshake.alert.sender.value
        return Finding("unknown", "inconclusive", "alert", f"The {who} sent alert {name} before any ServerHello.")
    if handshake.ended == "reset":
        return Finding("unknown", "inconclusive", "reset", "The connection was reset before any ServerHello.")
    return Finding("unknown", "inconclusive", "no-server-hello", "No ServerHello was seen.")


def _tls12(handshake: Handshake) -> Finding:
    version = version_name(handshake.version or 0)
    exchange = handshake.legacy_key_exchange
    how = "its key exchange was not seen"
    if exchange is not None and exchange.kind == "rsa":
        how = "by RSA key transport, without forward secrecy"
    elif exchange is not None and exchange.kind == "dhe":
        how = f"by finite-field DH ({exchange.dh_bits or 'unknown'} bits)"
    elif exchange is not None and exchange.group is not None:
        how = f"by ECDHE with {group_name(exchange.group)}"
    elif exchange is not None:
        how = f"by {exchange.kind} key exchange"
    cipher = "" if handshake.cipher is None else f" ({cipher_suite_name(handshake.cipher)})"
    detail = f"The server chose {version}{cipher}, {how}; ML-KEM exists in TLS 1.3 only."
    return Finding("classical", "not-post-quantum", "tls12", detail)


def _without_group(handshake: Handshake) -> Finding:
    if handshake.psk == "psk_ke":
        detail = "Resumed with psk_ke: this handshake has no key exchange of its own."
        return Finding("none", "inconclusive", "psk-only", detail)
    return _malformed("The TLS 1.3 ServerHello has neither a key_share nor a pre_shared_key.")


def _tls13(handshake: Handshake, group: int) -> Finding:
    kind = group_kind(group)
    name = group_name(group)
    if kind == "draft":
        detail = f"{name} is an obsolete pre-standard group, replaced by X25519MLKEM768 (RFC 10024)."
        return Finding("draft", "not-post-quantum", "draft-group", detail)
    if kind == "classical":
        return _classical(handshake, name)
    if kind not in _PQ_KINDS:
        detail = f"The server chose {name}, which is not a registered group that pqtls knows."
        return Finding("unknown", "inconclusive", "unknown-group", detail)
    violation = _broken_choice(handshake, group)
    if violation is not None:
        return _malformed(violation)
    key_exchange: KeyExchange = "hybrid" if kind == "hybrid" else "pure"
    return _chose_ml_kem(handshake, key_exchange, name)


def _classical(handshake: Handshake, name: str) -> Finding:
    if handshake.ech:
        detail = f"The server chose {name}; what was offered is unknown (ECH)."
        return Finding("classical", "not-post-quantum", "server-chose-classical", detail)
    if any(is_post_quantum_group(group) for group in offered_groups(handshake)):
        detail = f"ML-KEM was offered; the server chose {name}."
        return Finding("classical", "not-post-quantum", "server-chose-classical", detail)
    return Finding("classical", "not-post-quantum", "not-offered", f"The client offered no ML-KEM; {name} was chosen.")


def _broken_choice(handshake: Handshake, group: int) -> str | None:
    """Re-check, before anything is called post-quantum, that the choice can be genuine.

    The tracker checks the same and more; a second look here costs nothing and a wrong "post-quantum"
    costs everything.
    """
    assert handshake.server_hello is not None  # noqa: S101 - judge() looked
    name = group_name(group)
    expected = GROUPS[group].server_share_bytes
    if expected is not None and handshake.server_hello.key_share_bytes != expected:
        got = handshake.server_hello.key_share_bytes
        return f"The server's key share for {name} has {got} bytes; that group's has {expected}."
    if handshake.ech:
        return None
    if not handshake.client_hellos:
        return f"The ServerHello names {name}, but no ClientHello was seen that offered it."
    if group not in handshake.client_hellos[-1].groups:
        return f"The ServerHello names {name}, which the client did not offer."
    return None


def _chose_ml_kem(handshake: Handshake, key_exchange: KeyExchange, name: str) -> Finding:
    if handshake.early_data != "none":
        detail = f"{name} was chosen, but the client may have sent early data, under the old session's key alone."
        return Finding(key_exchange, "inconclusive", "early-data", detail)
    if handshake.complete:
        reason: Reason = "negotiated-hybrid" if key_exchange == "hybrid" else "negotiated-pure"
        return Finding(key_exchange, "post-quantum", reason, f"{name} was negotiated and the handshake completed.")
    failed = handshake.alert is not None or handshake.encrypted_alert_likely
    if failed or handshake.ended in ("reset", "closed"):
        by = ""
        if handshake.alert is not None:
            by = f" ({handshake.alert.sender.value} alert {alert_name(handshake.alert.code)})"
        detail = f"{name} was chosen, but the handshake failed before the client's Finished{by}."
        return Finding(key_exchange, "inconclusive", "handshake-failed", detail)
    detail = f"{name} was chosen, but the client's Finished was not seen."
    return Finding(key_exchange, "inconclusive", "truncated", detail)
