"""How far the server itself is with post-quantum key exchange, told apart from what the path does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.probe.experiments import find_experiment
from pqtls.probe.model import HYBRID, KYBER_DRAFT, X25519
from pqtls.wire.codepoints import TLS12, TLS13
from pqtls.wire.groups import group_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.path.diagnosis import ServerState
    from pqtls.probe.model import Attempt


def find_server_state(attempts: Sequence[Attempt]) -> ServerState:
    """Return the server's state, as far as finished handshakes and its retries show it.

    Args:
        attempts: What was done.
    """
    answered = _answered(attempts)
    hybrid = [attempt for attempt in answered if _is_hybrid(attempt.group)]
    if is_mixed(attempts):
        return "unknown"
    if any(_offers_both(attempt) and not _was_asked(attempt) for attempt in hybrid):
        return "preferred"
    # Asked for another hybrid although a share for the usual one was there: that is how it always goes.
    if any(_offers_both(attempt) for attempt in hybrid):
        return "only-by-retry"
    # Taken by a retry, over a share for x25519 that was there or over its mere name: that is what it prefers.
    if any(attempt.group == HYBRID and HYBRID not in _shares(attempt) and _was_asked(attempt) for attempt in hybrid):
        return "preferred"
    if any(attempt.group == HYBRID for attempt in hybrid):
        return "supported"
    if hybrid:
        return "only-by-retry" if any(_was_asked(attempt) for attempt in hybrid) else "unknown"
    if any(attempt.experiment == "E24" and attempt.retry_group == KYBER_DRAFT for attempt in attempts):
        return "draft"
    # A hello that offers TLS 1.2 alone proves nothing, and a retry is TLS 1.3's.
    offered = [attempt for attempt in answered if TLS13 in _versions(attempt)]
    if offered and not any(attempt.version == TLS13 or attempt.was_retried for attempt in attempts):
        return "tls12"
    return "classical" if any(_declined_hybrid(attempt) for attempt in attempts) else "unknown"


def is_mixed(attempts: Sequence[Attempt]) -> bool:
    """Tell whether the same offer was answered in different ways: more than one server, and not all the same.

    Args:
        attempts: What was done.
    """
    answered = _answered(attempts)
    # Another hybrid, which only some hellos name, is another offer.
    chosen = {attempt.group for attempt in answered if _offers_both(attempt)}
    groups = {group == HYBRID for group in chosen if group == HYBRID or not _is_hybrid(group)}
    # A server that says it could do more was tampered with, and is the same one.
    versions = {TLS12, TLS13}
    both = [a for a in answered if set(_versions(a)) >= versions and not a.has_downgrade_sentinel]
    return len(groups) > 1 or len({attempt.version for attempt in both}) > 1


def _answered(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [a for a in attempts if a.ending == "answered" and not a.is_secret_swapped and not _is_swapped(a)]


def _is_swapped(attempt: Attempt) -> bool:
    """Tell whether the hybrid's share was in an order that no client sends."""
    return attempt.sent is not None and attempt.sent.is_swapped


def _is_hybrid(group: int | None) -> bool:
    return group is not None and group_kind(group) in ("hybrid", "pure")


def _was_asked(attempt: Attempt) -> bool:
    """Tell whether a retry asked for a group; one with a cookie alone chooses nothing."""
    return attempt.was_retried and attempt.retry_group is not None


def _shares(attempt: Attempt) -> tuple[int, ...]:
    return () if attempt.sent is None else attempt.sent.shares


def _versions(attempt: Attempt) -> tuple[int, ...]:
    hello = find_experiment(attempt.experiment).hello
    return () if hello is None or hello.name != "target" else hello.versions


def _offers_both(attempt: Attempt) -> bool:
    return X25519 in _shares(attempt) and HYBRID in _shares(attempt)


def _declined_hybrid(attempt: Attempt) -> bool:
    """Tell whether the server was left the choice of the hybrid alone or a retry, and retried for a classical one."""
    hello = find_experiment(attempt.experiment).hello
    if hello is None or X25519 in hello.shares or HYBRID not in hello.groups:
        return False
    retried = attempt.was_retried and attempt.retry_group is not None and not _is_hybrid(attempt.retry_group)
    return retried or (attempt.ending == "answered" and attempt.version == TLS13 and not _is_hybrid(attempt.group))
