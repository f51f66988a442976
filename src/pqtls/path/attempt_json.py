"""One attempt as JSON: what was sent, what came back, what the kernel knew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pqtls.probe.model import known_fields
from pqtls.wire.codepoints import alert_name, signature_scheme_name, version_name
from pqtls.wire.groups import group_name

if TYPE_CHECKING:
    from pqtls.probe.model import Attempt, Sent, TcpFacts


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """Return the object that `experiments` of pqtls/diagnosis/1 holds.

    Args:
        attempt: The attempt.
    """
    return {
        "id": attempt.experiment,
        "number": attempt.number,
        "started_ms": _ms(attempt.started_s),
        "sent": _sent(attempt.sent),
        "sent_again": _sent(attempt.sent_again),
        "outcome": _outcome(attempt),
        "tcp": _tcp(attempt.tcp),
        "tcp_at_connect": _tcp(attempt.tcp_at_connect),
        "local_port": attempt.local_port,
    }


def _outcome(attempt: Attempt) -> dict[str, Any]:
    alert = None if attempt.alert is None else {"code": attempt.alert, "name": alert_name(attempt.alert)}
    return {
        "ending": attempt.ending,
        "detail": attempt.detail,
        "version": None if attempt.version is None else version_name(attempt.version),
        "group": None if attempt.group is None else group_name(attempt.group),
        "retry": None
        if not attempt.was_retried
        else {"group": None if attempt.retry_group is None else group_name(attempt.retry_group)},
        "alert": alert,
        "downgrade_sentinel": attempt.has_downgrade_sentinel,
        "secret_swapped": attempt.is_secret_swapped,
        "early": attempt.was_early,
        "certificate": None if attempt.certificate is None else _certificate(attempt),
        "connect_ms": _ms(attempt.connect_s),
        "before_tls_ms": _ms(attempt.preamble_s),
        "answer_ms": _ms(attempt.answer_s),
        "handshake_ms": _ms(attempt.handshake_s),
        "flight_bytes": attempt.flight_bytes,
        "flight_ms": _ms(attempt.flight_s),
    }


def _certificate(attempt: Attempt) -> dict[str, Any]:
    found = attempt.certificate
    assert found is not None  # noqa: S101 - the caller looked
    return {
        "leaf_sha256": found.leaf_sha256,
        "subject": found.subject,
        "issuer": found.issuer,
        "names": list(found.names),
        "covers_name": found.covers_name,
        "trusted": found.is_trusted,
        "count": found.count,
    }


def _sent(sent: Sent | None) -> dict[str, Any] | None:
    if sent is None:
        return None
    return {
        "bytes": sent.size_bytes,
        "writes": list(sent.write_ends),
        "pause_ms": _ms(sent.pause_s),
        "records": list(sent.record_ends),
        "segments": [segment.size_bytes for segment in sent.segments()],
        "name": None if sent.name_start is None else [sent.name_start, sent.name_end],
        "groups": [group_name(group) for group in sent.groups],
        "shares": [group_name(group) for group in sent.shares],
        "signature_algorithms": [signature_scheme_name(scheme) for scheme in sent.schemes],
        "grease": sorted(sent.grease),
        "sha256": sent.sha256,
    }


def _tcp(facts: TcpFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        name.removesuffix("_s") + "_ms" if name.endswith("_s") else name: _ms(value) if name.endswith("_s") else value
        for name, value in known_fields(facts).items()
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
