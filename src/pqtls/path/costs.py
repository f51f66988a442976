"""What makes handshakes slower on this path and breaks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.path.diagnosis import Cost
from pqtls.wire.groups import group_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.probe.model import Attempt

_FIRST_WINDOW_SEGMENTS = 10
# A pause in the flight of this part of a round trip is a round trip: jitter is below, a second wave above.
_ROUND_TRIP_PART = 0.7


def find_costs(attempts: Sequence[Attempt]) -> tuple[Cost, ...]:
    """Return the costs seen in handshakes that went through, each once.

    Args:
        attempts: What was done.
    """
    found: dict[str, Cost] = {}
    for attempt in attempts:
        for cost in _costs_of(attempt):
            found.setdefault(cost.id, cost)
    return tuple(found[key] for key in sorted(found))


def _costs_of(attempt: Attempt) -> list[Cost]:
    start, end, sent = attempt.tcp_at_connect, attempt.tcp, attempt.sent
    costs: list[Cost] = []
    if start is None or sent is None:
        return costs
    is_plain = sent.pause_s == 0 and attempt.experiment in ("E1", "E5", "E23", "E2", "E6", "E4")
    hop, end_of_hop = (", on the way to the proxy", "proxy") if sent.is_relayed else ("", "server")
    # A kernel also keeps segments to half of a small window; that is no clamp.
    is_by_window = start.snd_wnd is not None and start.snd_mss is not None and start.snd_wnd <= 2 * start.snd_mss + 1
    if is_plain and start.snd_mss and start.advmss and start.snd_mss < start.advmss and not is_by_window:
        costs.append(Cost("F17", f"segments of {start.snd_mss} bytes towards the {end_of_hop}, {start.advmss} offered"))
    if start.snd_wnd and start.snd_wnd < min(sent.size_bytes, start.advmss or sent.size_bytes):
        costs.append(Cost("F18", f"first window of {start.snd_wnd} bytes{hop}"))
    if attempt.ending != "answered" or end is None:
        return costs
    if start.pmtu and end.pmtu and end.pmtu < start.pmtu:
        costs.append(
            Cost("F16", f"path MTU lowered from {start.pmtu} to {end.pmtu}, {end.total_retrans} sent again{hop}")
        )
    if attempt.was_retried and attempt.experiment in ("E1", "E5", "E23") and attempt.retry_group is not None:
        costs.append(Cost("F46", f"a retry for {group_name(attempt.retry_group)}"))
    mss_bytes, connect_s, flight_s = start.snd_mss, attempt.connect_s, attempt.flight_s
    is_over = bool(mss_bytes) and attempt.flight_bytes > _FIRST_WINDOW_SEGMENTS * (mss_bytes or 0)
    # A round trip to the proxy is none to the server.
    if (
        is_plain
        and not sent.is_relayed
        and is_over
        and connect_s
        and flight_s
        and flight_s >= _ROUND_TRIP_PART * connect_s
    ):
        costs.append(Cost("F45", f"{attempt.flight_bytes} bytes of flight took {flight_s * 1000:.0f} ms"))
    return costs
