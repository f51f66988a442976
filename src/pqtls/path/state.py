"""How far the server itself is with post-quantum key exchange, told apart from what the path does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.probe.experiments import find_experiment
from pqtls.probe.model import KYBER_DRAFT, X25519
from pqtls.wire.codepoints import TLS13
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
    answered = [attempt for attempt in attempts if attempt.ending == "answered" and not attempt.is_secret_swapped]
    at_once = [a for a in answered if _is_hybrid(a.group) and not a.was_retried]
    if any(_offers_both(attempt) for attempt in at_once):
        return "preferred"
    by_retry = [a for a in answered if _is_hybrid(a.group) and a.was_retried]
    if at_once:
        return "supported"
    if by_retry:
        # Asked for although a share for another hybrid or for x25519 was there: that is how it always goes.
        return "only-by-retry" if any(a.sent is not None and a.sent.shares for a in by_retry) else "supported"
    if any(attempt.experiment == "E24" and attempt.retry_group == KYBER_DRAFT for attempt in attempts):
        return "draft"
    if answered and all(attempt.version != TLS13 for attempt in answered):
        return "tls12"
    return "classical" if any(_declined_hybrid(attempt) for attempt in attempts) else "unknown"


def _is_hybrid(group: int | None) -> bool:
    return group is not None and group_kind(group) in ("hybrid", "pure")


def _offers_both(attempt: Attempt) -> bool:
    shares = () if attempt.sent is None else attempt.sent.shares
    return X25519 in shares and any(_is_hybrid(share) for share in shares)


def _declined_hybrid(attempt: Attempt) -> bool:
    """Tell whether the server was left the choice of the hybrid alone or a retry, and retried for a classical one."""
    hello = find_experiment(attempt.experiment).hello
    if hello is None or X25519 in hello.shares or not any(_is_hybrid(group) for group in hello.groups):
        return False
    retried = attempt.was_retried and attempt.retry_group is not None and not _is_hybrid(attempt.retry_group)
    return retried or (attempt.ending == "answered" and attempt.version == TLS13 and not _is_hybrid(attempt.group))
