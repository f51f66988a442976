"""What was sent here against what arrived at the far end: rewritten, made anew, lost on the way there or back. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.peer.arrivals import Arrival
    from pqtls.probe.model import Attempt

# How far apart, once the clocks are set, an attempt and what is taken for its arrival may be.
_NEAR_S = 1.0
_ALERT_BYTES = 7

Fate = Literal[
    "as-sent",
    "re-originated",
    "rewritten",
    "lost-there",
    "nothing-arrived",
    "elsewhere",
    "lost-back",
    "ended-between",
]

_WORDS: dict[Fate, str] = {
    "as-sent": "arrived as sent",
    "re-originated": "another hello arrived, and the handshake here finished: a box ends TLS and makes a connection of "
    "its own",
    "rewritten": "another hello arrived: it was rewritten on the way, or a box made one of its own",
    "lost-there": "a part was lost on the way there",
    "nothing-arrived": "nothing arrived: something on the way took the connection, and kept it",
    "elsewhere": "nothing arrived, and here it was answered: another server answered than the `pqtls serve` that was "
    "asked (is it on the target's own address and port?)",
    "lost-back": "it arrived as sent and was answered; the answer was lost on the way back",
    "ended-between": "it arrived as sent and was answered; something on the way ended the connection",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attempt, seen from both ends.

    Attributes:
        experiment: Its experiment.
        number: Its number.
        fate: What became of its hello.
        detail: In words.
    """

    experiment: str
    number: int
    fate: Fate
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return it as an object."""
        return {name: getattr(self, name) for name in self.__slots__}


def compare(attempts: Sequence[Attempt], arrivals: Sequence[Arrival]) -> tuple[Comparison, ...]:
    """Compare both ends.

    Args:
        attempts: What was done here, in order.
        arrivals: What came at the far end meanwhile, from anybody.
    """
    by_hash = {arrival.sha256: arrival for arrival in arrivals if arrival.sha256}
    sent = [attempt for attempt in attempts if attempt.sent is not None and attempt.is_connected]
    matched = {a.number: by_hash[a.sent.sha256] for a in sent if a.sent is not None and a.sent.sha256 in by_hash}
    taken = {arrival.number for arrival in matched.values()}
    rest = [arrival for arrival in arrivals if arrival.number not in taken]
    offset_s = _clock_offset_s(sent, matched, arrivals)
    found = []
    for attempt in sent:
        arrival = matched.get(attempt.number)
        if arrival is not None:
            found.append(_judge_same(attempt, arrival))
            continue
        near = min(rest, key=lambda each: abs(each.started_s - attempt.started_s - offset_s), default=None)
        if near is None or abs(near.started_s - attempt.started_s - offset_s) > _NEAR_S:
            found.append(_comparison(attempt, "elsewhere" if attempt.ending == "answered" else "nothing-arrived"))
            continue
        rest.remove(near)
        found.append(_judge_other(attempt, near))
    if {each.fate for each in found} == {"elsewhere", "nothing-arrived"}:
        # Not one came, and handshakes finished: the others went to that server too, and nobody kept them.
        found = [_comparison(attempt, "elsewhere") for attempt in sent]
    return tuple(found)


def summarize(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a line for each fate that was met.

    Args:
        comparisons: What `compare` returned.
    """
    fates: dict[Fate, list[str]] = {}
    for each in comparisons:
        fates.setdefault(each.fate, []).append(each.experiment)
    lines = []
    for fate, experiments in fates.items():
        names = ", ".join(dict.fromkeys(experiments))
        lines.append(f"{len(experiments)} of {len(comparisons)}: {_WORDS[fate]} ({names})")
    return lines


def _clock_offset_s(sent: list[Attempt], matched: dict[int, Arrival], arrivals: Sequence[Arrival]) -> float:
    """Return what the far end's clock shows when an examination here begins."""
    if matched:
        return statistics.median(matched[a.number].started_s - a.started_s for a in sent if a.number in matched)
    if not sent or not arrivals:
        return 0.0
    return min(arrival.started_s for arrival in arrivals) - sent[0].started_s


def _judge_same(attempt: Attempt, arrival: Arrival) -> Comparison:
    is_answered = arrival.answered_bytes > _ALERT_BYTES
    if attempt.ending == "timeout" and attempt.sent is not None and attempt.sent_again is not None:
        # After a retry it is the second hello that matters, of which the far end counts the bytes alone.
        wanted_bytes = attempt.sent.size_bytes + attempt.sent_again.size_bytes
        if arrival.received_bytes < wanted_bytes:
            return _comparison(attempt, "lost-there", f"{arrival.received_bytes} of {wanted_bytes} B arrived")
    if attempt.ending == "timeout" and is_answered:
        return _comparison(attempt, "lost-back", f"{arrival.answered_bytes} B were sent back")
    if attempt.ending in ("reset", "closed", "alert", "not-tls") and is_answered:
        return _comparison(attempt, "ended-between", f"{attempt.ending} here, {arrival.answered_bytes} B sent there")
    return _comparison(attempt, "as-sent", _segments(arrival))


def _judge_other(attempt: Attempt, arrival: Arrival) -> Comparison:
    size_bytes = 0 if attempt.sent is None else attempt.sent.size_bytes
    if not arrival.is_whole:
        return _comparison(attempt, "lost-there", f"{arrival.hello_bytes} of {size_bytes} B arrived")
    detail = f"{size_bytes} B sent, {arrival.hello_bytes} B arrived"
    return _comparison(attempt, "re-originated" if attempt.ending == "answered" else "rewritten", detail)


def _segments(arrival: Arrival) -> str:
    return "+".join(str(size) for size, _ in arrival.chunks) + " B"


def _comparison(attempt: Attempt, fate: Fate, detail: str = "") -> Comparison:
    return Comparison(attempt.experiment, attempt.number, fate, detail)
