"""What each class of fault would make of each experiment: the decision table, as mechanisms.

A hypothesis is a class with its parameters filled in (a buffer's size, an MTU). It says of every attempt whether it
must pass, must fail and how, or may do either. A class explains an examination if one of its hypotheses is held up
by every attempt, and had to fail at least one of those that failed.

The rows of the table are features of what was sent (segments, records, place of the name, groups, shares), so that an
experiment with other features needs no new row.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from pqtls.path.hypotheses import (
    BROKEN_RULES,
    KILLS,
    LOST,
    PASS,
    REFUSALS,
    UNANSWERED,
    Forecast,
    Hypothesis,
    either,
    fails,
    sent_of,
)
from pqtls.path.receivers import closed_window, receiver_hypotheses
from pqtls.probe.model import ALL_GREASE, FFDHE4096, HYBRID, UNKNOWN_GROUP, X448, X25519
from pqtls.wire.groups import group_kind, is_grease
from pqtls.wire.hello_builder import ML_DSA_SCHEMES

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
    yield from _mtu_hypotheses(reading)
    yield from _hidden_by_a_proxy(reading)
    yield from _group_hypotheses()
    yield Hypothesis("F24", _by_schemes(in_certificates=False), "in signature_algorithms")
    yield Hypothesis("F24", _by_schemes(in_certificates=True), "in signature_algorithms_cert")
    for count in range(1, len(ALL_GREASE) + 1):
        for fields in combinations(sorted(ALL_GREASE), count):
            yield Hypothesis("F25", _by_grease(frozenset(fields)), f"in {', '.join(fields)}")
    yield Hypothesis("F26", _two_shares(only_hybrid=False), "any two shares")
    yield Hypothesis("F26", _two_shares(only_hybrid=True), "two hybrid shares")
    yield Hypothesis("F27", _broken_retry)
    yield Hypothesis("F31", _wrong_encoding)


def _mtu_hypotheses(reading: Reading) -> Iterator[Hypothesis]:
    sizes = sorted({segment.size_bytes for symptom in reading.counted for segment in _all_segments(symptom)})
    is_relayed = any(sent_of(symptom).is_relayed for symptom in reading.counted)
    hop = " on the way to the proxy" if is_relayed else ""
    for low, high in pairwise(sizes):
        bracket = (low, high)
        yield Hypothesis("F13", _forward_hole(low), hop.strip(), bracket_bytes=bracket)
        both_ways = f"{hop.strip()} in both directions".strip()
        silent: frozenset[SymptomKind] = frozenset(("reverse", "mute"))
        yield Hypothesis("F13", _hole_both_ways(low), both_ways, silent, bracket_bytes=bracket)
    mss = sorted({value for symptom in reading.counted if (value := _our_mss(symptom)) is not None})
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
        if not there.may_pass or (_our_mss(symptom) or 0) <= limit_bytes:
            return there
        return either(UNANSWERED | LOST if symptom.is_after_retry else UNANSWERED)

    return forecast


def _our_mss(symptom: Symptom) -> int | None:
    """Return the segment size that the server may send us, as far as it is known: what we may send it."""
    return sent_of(symptom).mss_bytes


def _reverse_hole(limit_bytes: int, *, only_hybrid: bool) -> Callable[[Symptom], Forecast]:
    silence: frozenset[SymptomKind] = frozenset(("reverse", "mute"))

    def forecast(symptom: Symptom) -> Forecast:
        if (_our_mss(symptom) or 0) <= limit_bytes:
            return PASS
        sent = sent_of(symptom)
        # The acknowledgement of a second hello rides on the answer, and is lost with it (seen on real packets).
        kinds: frozenset[SymptomKind] = silence | LOST if symptom.is_after_retry else silence
        if only_hybrid and HYBRID not in sent.shares:
            return either(kinds) if HYBRID in sent.groups else PASS
        return fails(kinds)

    return forecast


def _group_hypotheses() -> Iterator[Hypothesis]:
    for knows_hybrid in (False, True):
        for in_shares in (False, True):
            where = "among the key shares" if in_shares else "in supported_groups"
            yield Hypothesis("F22", _unknown_group(in_shares=in_shares, knows_hybrid=knows_hybrid), where)
    yield Hypothesis("F23", _blocked_group(in_shares=False), "in supported_groups")
    yield Hypothesis("F23", _blocked_group(in_shares=True), "among the key shares")


def _unknown_group(*, in_shares: bool, knows_hybrid: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = sent_of(symptom)
        groups = sent.shares if in_shares else sent.groups
        unknown = {group for group in groups if is_grease(group) or group == UNKNOWN_GROUP}
        hybrid = {group for group in groups if group_kind(group) == "hybrid"}
        if unknown or (hybrid and not knows_hybrid):
            return fails(KILLS)
        # Old but rare groups, and the rarer hybrids, it may know or not.
        is_rare = {X448, FFDHE4096} & set(groups) or hybrid - {HYBRID}
        return either(KILLS) if is_rare else PASS

    return forecast


def _blocked_group(*, in_shares: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = sent_of(symptom)
        if HYBRID in (sent.shares if in_shares else sent.groups):
            return fails(KILLS)
        # After a retry, the second hello may bring what the first did not.
        again = symptom.attempt.sent_again
        return either(KILLS) if again is not None and HYBRID in again.shares else PASS

    return forecast


def _by_schemes(*, in_certificates: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = sent_of(symptom)
        schemes = (sent.certificate_schemes or ()) if in_certificates else sent.schemes
        return fails(KILLS) if set(schemes) & set(ML_DSA_SCHEMES) else PASS

    return forecast


def _by_grease(fields: frozenset[str]) -> Callable[[Symptom], Forecast]:
    return lambda symptom: fails(KILLS) if sent_of(symptom).grease & fields else PASS


def _two_shares(*, only_hybrid: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        shares = sent_of(symptom).shares
        if only_hybrid:
            shares = tuple(group for group in shares if group_kind(group) == "hybrid")
        return fails(KILLS) if len(shares) > 1 else PASS

    return forecast


def _broken_retry(symptom: Symptom) -> Forecast:
    kinds: frozenset[SymptomKind] = REFUSALS | BROKEN_RULES
    sent = sent_of(symptom)
    if symptom.is_ok and symptom.attempt.was_retried:
        return fails(kinds)
    if not sent.shares:
        return fails(kinds)
    # A server that prefers the hybrid asks for it where it is named without a share.
    needs_none = HYBRID in sent.shares or (X25519 in sent.shares and HYBRID not in sent.groups)
    if HYBRID in sent.shares and X25519 not in sent.shares:
        return either(kinds)
    return PASS if needs_none else either(kinds)


def _wrong_encoding(symptom: Symptom) -> Forecast:
    sent = sent_of(symptom)
    kinds: frozenset[SymptomKind] = frozenset(("bad-finish",))
    if symptom.kind == "alert" and symptom.attempt.alert in (20, 47, 50, 51):
        kinds |= {"alert"}
    if HYBRID in sent.shares:
        return fails(kinds)
    if any(group_kind(group) == "hybrid" for group in sent.shares):
        return either(kinds)  # it may have them all wrong
    # Named without a share: a server that prefers the hybrid asks for one, and then gets that wrong.
    return either(kinds) if HYBRID in sent.groups and symptom.is_after_retry else PASS
