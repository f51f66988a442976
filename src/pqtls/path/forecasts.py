"""What each class of fault would make of each experiment: the decision table, as mechanisms.

A hypothesis is a class with its parameters filled in (a buffer's size, an MTU). It says of every attempt whether it
must pass, must fail and how, or may do either. A class explains an examination if one of its hypotheses is held up
by every attempt, and had to fail at least one of those that failed.

The rows of the table are features of what was sent (segments, records, place of the name, groups, shares), so that an
experiment with other features needs no new row.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pqtls.path.boxes import box_hypotheses
from pqtls.path.hypotheses import (
    LOST,
    PASS,
    UNANSWERED,
    Forecast,
    Hypothesis,
    either,
    fails,
    sent_of,
)
from pqtls.path.negotiation import negotiation_hypotheses
from pqtls.path.receivers import closed_window, receiver_hypotheses
from pqtls.probe.model import HYBRID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pqtls.path.reading import Reading, Symptom, SymptomKind
    from pqtls.probe.model import Segment


def explain(reading: Reading) -> tuple[Hypothesis, ...]:
    """Return one hypothesis of every class that explains all that counts.

    Args:
        reading: The attempts, read.
    """
    if not reading.failures:
        return ()
    found: dict[str, Hypothesis] = {}
    for hypothesis in all_hypotheses(reading):
        first = found.get(hypothesis.fault)
        is_alike = first is not None and (first.bracket_bytes is None or hypothesis.bracket_bytes is None)
        if is_alike or not _is_held_up(hypothesis, reading):
            continue
        found[hypothesis.fault] = hypothesis if first is None else _widen(first, hypothesis)
    if found.keys() & {"F03", "F13"}:
        found.pop("F19", None)  # what a buffer or a hole explains needs no filter that nobody has reported
    return tuple(found.values())


def _widen(first: Hypothesis, other: Hypothesis) -> Hypothesis:
    """Return a hypothesis of a size with all the sizes that are held up."""
    assert first.bracket_bytes is not None  # noqa: S101 - the caller looked
    assert other.bracket_bytes is not None  # noqa: S101
    return replace(first, bracket_bytes=(first.bracket_bytes[0], max(first.bracket_bytes[1], other.bracket_bytes[1])))


def _is_held_up(hypothesis: Hypothesis, reading: Reading) -> bool:
    explained = 0
    kinds = set()
    for symptom in reading.counted:
        forecast = hypothesis.forecast(symptom)
        if not forecast.allows(symptom):
            return False
        if not symptom.is_ok:
            kinds.add(symptom.kind)
            explained += not forecast.may_pass
    if hypothesis.must_show and not kinds & hypothesis.must_show:
        return False
    return explained > 0 and hypothesis.is_proved(reading.counted)


def all_hypotheses(reading: Reading) -> Iterator[Hypothesis]:
    """Return every hypothesis that is worth holding against these attempts.

    Args:
        reading: The attempts; sizes and segments in them are what thresholds can lie between.
    """
    yield from receiver_hypotheses(reading)
    yield from box_hypotheses(reading)
    yield from _mtu_hypotheses(reading)
    yield from _hidden_by_a_proxy(reading)
    yield from negotiation_hypotheses(reading)


def _mtu_hypotheses(reading: Reading) -> Iterator[Hypothesis]:
    sizes = sorted({segment.size_bytes for symptom in reading.counted for segment in _all_segments(symptom)})
    is_relayed = any(sent_of(symptom).is_relayed for symptom in reading.counted)
    hop = " on the way to the proxy" if is_relayed else ""
    for low, high in pairwise(sizes):
        bracket = (low, high)
        yield Hypothesis("F13", _forward_hole(low), hop.strip(), bracket_bytes=bracket)
        both_ways = f"{hop.strip()} in both directions".strip()
        yield Hypothesis("F13", _hole_both_ways(low), both_ways, UNANSWERED, bracket_bytes=bracket, weight=0.25)
    mss = sorted({_our_mss(symptom) for symptom in reading.counted})
    for low, high in pairwise(mss):
        detail = f"segments of {low} bytes come back, of {high} do not{hop}"
        yield Hypothesis("F14", _reverse_hole(low, only_hybrid=False), detail, UNANSWERED)
        yield Hypothesis("F14", _reverse_hole(low, only_hybrid=True), detail, UNANSWERED)


def _hidden_by_a_proxy(reading: Reading) -> Iterator[Hypothesis]:
    """What loses big packets behind a proxy, or takes no more: the proxy acknowledges all, and there is silence.

    So it looks as if receivers and boxes that go by size, or by the hybrid's share, dropped in silence.
    """
    if not any(sent_of(symptom).is_relayed for symptom in reading.counted):
        return
    silence: frozenset[SymptomKind] = frozenset(("mute", "timeout"))
    detail = "beyond the proxy"
    sizes = {sent_of(symptom).size_bytes for symptom in reading.counted}
    sizes |= {segment.size_bytes for symptom in reading.counted for segment in _all_segments(symptom)}
    for limit in sorted(sizes):
        yield Hypothesis("F13", _forward_hole_beyond(limit), detail, silence)
        yield Hypothesis("F06", closed_window("hello", limit, "mute"), detail, silence)
    yield Hypothesis("F14", _reverse_hole_beyond, detail, silence)


def _forward_hole_beyond(limit_bytes: int) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        mute: frozenset[SymptomKind] = frozenset(("mute",))
        again = symptom.attempt.sent_again
        sizes = [sent_of(symptom).size_bytes] + ([] if again is None else [again.size_bytes])
        if max(sizes) <= limit_bytes:
            return PASS
        # The proxy may send on segment by segment; where the smaller ones were made here, they may get through.
        is_small = all(segment.size_bytes <= limit_bytes for segment in _all_segments(symptom))
        return either(mute) if is_small else fails(mute)

    return forecast


def _reverse_hole_beyond(symptom: Symptom) -> Forecast:
    mute: frozenset[SymptomKind] = frozenset(("mute",))
    sent = sent_of(symptom)
    if HYBRID in sent.shares:
        return fails(mute)
    return either(mute) if HYBRID in sent.groups else PASS


def _all_segments(symptom: Symptom) -> tuple[Segment, ...]:
    """Return the segments that had to get through, of both hellos."""
    again = symptom.attempt.sent_again
    return sent_of(symptom).segments() + (() if again is None else again.segments())


def _forward_hole(limit_bytes: int) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        if all(segment.size_bytes <= limit_bytes for segment in _all_segments(symptom)):
            return PASS
        sent = sent_of(symptom)
        starts = [segment.start for segment in sent.segments() if segment.size_bytes > limit_bytes]
        is_beyond = bool(starts) and symptom.acked_bytes is not None and symptom.acked_bytes > starts[0]
        return fails(frozenset()) if is_beyond else fails(frozenset(("lost",)))

    return forecast


def _hole_both_ways(limit_bytes: int) -> Callable[[Symptom], Forecast]:
    """A tunnel that is too small for both directions; the answer may or may not have a segment that is too big."""
    forward = _forward_hole(limit_bytes)

    def forecast(symptom: Symptom) -> Forecast:
        there = forward(symptom)
        if not there.may_pass or _our_mss(symptom) <= limit_bytes:
            return there
        return either(UNANSWERED | LOST if symptom.is_after_retry else UNANSWERED)

    return forecast


def _our_mss(symptom: Symptom) -> int:
    """Return the segment size that the server may send us, as far as it is known: what we may send it."""
    sent = sent_of(symptom)
    return sent.mss_bytes or sent.usual_mss_bytes


def _reverse_hole(limit_bytes: int, *, only_hybrid: bool) -> Callable[[Symptom], Forecast]:
    silence: frozenset[SymptomKind] = frozenset(("reverse", "mute"))

    def forecast(symptom: Symptom) -> Forecast:
        if _our_mss(symptom) <= limit_bytes:
            return PASS
        sent = sent_of(symptom)
        # The acknowledgement of a second hello rides on the answer, and is lost with it (seen on real packets).
        kinds: frozenset[SymptomKind] = silence | LOST if symptom.is_after_retry else silence
        if only_hybrid and HYBRID not in sent.shares:
            return either(kinds) if HYBRID in sent.groups else PASS
        return fails(kinds)

    return forecast
