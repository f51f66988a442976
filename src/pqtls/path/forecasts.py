"""What each class of fault would make of each experiment: the decision table, as mechanisms.

A hypothesis is a class with its parameters filled in (a buffer's size, an MTU). It says of every attempt whether it
must pass, must fail and how, or may do either. A class explains an examination if one of its hypotheses is held up
by every attempt, and had to fail at least one of those that failed.

The rows of the table are features of what was sent (segments, records, place of the name, groups, shares), so that an
experiment with other features needs no new row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from pqtls.path.findings import wilson
from pqtls.path.reading import CONTROL
from pqtls.probe.model import ALL_GREASE, FFDHE4096, HYBRID, UNKNOWN_GROUP, X448, X25519
from pqtls.wire.groups import group_kind, is_grease
from pqtls.wire.hello_builder import ML_DSA_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pqtls.path.reading import Reading, Symptom, SymptomKind
    from pqtls.probe.model import Segment, Sent

# A pause that no receiver sleeps through: one that reads once has read by then.
LONG_PAUSE_S = 0.25
# What a proxy sends on in one write surely fits one segment up to this size: the least that every host takes.
SURE_SEGMENT_BYTES = 536
_BY_CHANCE = 0.01


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a hypothesis allows for one attempt.

    Attributes:
        may_pass: It may get through.
        kinds: Ways in which it may fail; empty if it cannot.
    """

    may_pass: bool
    kinds: frozenset[SymptomKind] = frozenset()

    def allows(self, symptom: Symptom) -> bool:
        """Tell whether an outcome fits.

        Args:
            symptom: What came out.
        """
        if symptom.is_ok:
            return self.may_pass
        if symptom.kind == "timeout":
            return bool(self.kinds & {"lost", "mute", "zero-window", "reverse"})
        return symptom.kind in self.kinds


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A class with its parameters.

    Attributes:
        fault: Its id.
        forecast: What it says of an attempt, from its symptom (the outcome is read only where the class says
            something of what was negotiated).
        detail: The parameters in words.
        must_show: Kinds of which at least one must have been seen, empty for no such demand.
        is_proved: What else must be true of all that counts; by default nothing.
        bracket_bytes: A size that passes and the next that was seen, which does not; None if it is not about size.
    """

    fault: str
    forecast: Callable[[Symptom], Forecast]
    detail: str = ""
    must_show: frozenset[SymptomKind] = frozenset()
    is_proved: Callable[[Sequence[Symptom]], bool] = lambda _: True
    bracket_bytes: tuple[int, int] | None = None


PASS = Forecast(may_pass=True)
# "not-tls": a page that says "blocked", a redirect, the banner of the program that a router fell back to.
_REFUSALS: frozenset[SymptomKind] = frozenset(("alert", "reset", "closed", "mute", "not-tls"))
_BROKEN_RULES: frozenset[SymptomKind] = frozenset(("bad-retry", "malformed"))
_LOST: frozenset[SymptomKind] = frozenset(("lost",))
_UNANSWERED: frozenset[SymptomKind] = frozenset(("reverse", "mute", "timeout"))
_KILLS: frozenset[SymptomKind] = _REFUSALS | {"lost"}
# A router that cannot read a hello may also send it to its default server.
_ROUTINGS: frozenset[SymptomKind] = _REFUSALS | {"other-certificate"}


def _fail(kinds: frozenset[SymptomKind]) -> Forecast:
    return Forecast(may_pass=False, kinds=kinds)


def _either(kinds: frozenset[SymptomKind]) -> Forecast:
    return Forecast(may_pass=True, kinds=kinds)


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
    yield Hypothesis("F01", _read_once(_REFUSALS))
    yield Hypothesis("F04", _read_once(frozenset(("reset", "closed", "not-tls"))))
    yield Hypothesis(
        "F04",
        _decide_at_once,
        "it decides even before the first segment has come",
        is_proved=_fails_more_when_paused,
    )
    yield Hypothesis("F02", _default_server, must_show=frozenset(("other-certificate",)))
    sizes = sorted({_sent(symptom).size_bytes for symptom in reading.counted})
    for low, high in zip(sizes, [*sizes[1:], None], strict=True):
        if high is not None:
            yield Hypothesis("F03", _by_size(low, _KILLS | _ROUTINGS), bracket_bytes=(low, high))
            yield Hypothesis("F06", _closed_window(low), bracket_bytes=(low, high))
    yield Hypothesis("F07", _fragments)
    yield Hypothesis("F07", _first_record_and_what_came_with_it, "it waits for the first record only")
    yield Hypothesis("F07", _name_in_first_record, "the name must be in the first record")
    yield Hypothesis("F08", _whole_record)
    yield Hypothesis("F09", _name_in_first_segment)
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


def _sent(symptom: Symptom) -> Sent:
    sent = symptom.attempt.sent
    assert sent is not None  # noqa: S101 - counted symptoms have sent
    return sent


def _is_split(sent: Sent | None) -> bool:
    """Tell whether a hello arrives in several segments; through a proxy: whether it may."""
    if sent is not None and sent.is_relayed and sent.size_bytes > SURE_SEGMENT_BYTES:
        return True
    return sent is not None and len(sent.segments()) > 1


def _is_recut(sent: Sent, end: int) -> bool:
    """Tell whether a proxy may have put the first segment's end before or behind a place in the stream."""
    is_open = end > SURE_SEGMENT_BYTES or sent.segments()[0].end < end
    return sent.is_relayed and not _is_long_paused(sent) and is_open


def _is_long_paused(sent: Sent) -> bool:
    return any(segment.pause_s >= LONG_PAUSE_S for segment in sent.segments())


def _read_once(kinds: frozenset[SymptomKind]) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = _sent(symptom)
        if _is_long_paused(sent):
            return _fail(kinds)
        is_split = _is_split(sent) or _is_split(symptom.attempt.sent_again)
        return _either(kinds) if is_split else PASS

    return forecast


def _decide_at_once(symptom: Symptom) -> Forecast:
    """A router that may decide as soon as there is a connection: a race even for the smallest hello."""
    kinds: frozenset[SymptomKind] = frozenset(("reset", "closed", "not-tls"))
    return _fail(kinds) if _is_long_paused(_sent(symptom)) else _either(kinds)


def _fails_more_when_paused(symptoms: Sequence[Symptom]) -> bool:
    """Tell whether whole hellos fail at times, and paused ones so often that this is not the same chance.

    The control follows each failure: of two servers that take turns it would always meet the other one.
    """
    others = (each for each in symptoms if each.attempt.experiment != CONTROL)
    whole = [each for each in others if not _is_split(each.attempt.sent) and not each.is_after_retry]
    failed = sum(not each.is_ok for each in whole)
    paused = sum(_is_long_paused(_sent(each)) for each in symptoms)
    return bool(whole) and failed > 0 and wilson(failed, len(whole))[1] ** paused < _BY_CHANCE


def _default_server(symptom: Symptom) -> Forecast:
    kinds: frozenset[SymptomKind] = frozenset(("other-certificate", "alert", "reset", "closed"))
    sent = _sent(symptom)
    if not _is_split(sent):
        return PASS
    is_name_late = (sent.name_end or 0) > sent.segments()[0].end
    return _fail(kinds) if is_name_late and _is_long_paused(sent) else _either(kinds)


def _by_size(limit_bytes: int, kinds: frozenset[SymptomKind]) -> Callable[[Symptom], Forecast]:
    return lambda symptom: _fail(kinds) if _sent(symptom).size_bytes > limit_bytes else PASS


def _closed_window(limit_bytes: int, kind: SymptomKind = "zero-window") -> Callable[[Symptom], Forecast]:
    kinds: frozenset[SymptomKind] = frozenset((kind,))

    def forecast(symptom: Symptom) -> Forecast:
        if _sent(symptom).size_bytes > limit_bytes:
            return _fail(kinds)
        # The second hello may be peeked at in the same way, or just read.
        again = symptom.attempt.sent_again
        return _either(kinds) if again is not None and again.size_bytes > limit_bytes else PASS

    return forecast


def _fragments(symptom: Symptom) -> Forecast:
    return _fail(_ROUTINGS) if len(_sent(symptom).record_ends) > 1 else PASS


def _first_record_and_what_came_with_it(symptom: Symptom) -> Forecast:
    sent = _sent(symptom)
    if len(sent.record_ends) == 1:
        return PASS
    is_late = any(each.start >= sent.record_ends[0] and each.pause_s >= LONG_PAUSE_S for each in sent.segments())
    return _fail(_ROUTINGS) if is_late else _either(_ROUTINGS)


def _name_in_first_record(symptom: Symptom) -> Forecast:
    sent = _sent(symptom)
    if len(sent.record_ends) > 1 and sent.name_end is None:
        return _either(_ROUTINGS)
    return _fail(_ROUTINGS) if (sent.name_end or 0) > sent.record_ends[0] else PASS


def _whole_record(symptom: Symptom) -> Forecast:
    sent = _sent(symptom)
    first = sent.segments()[0]
    kinds: frozenset[SymptomKind] = frozenset(("alert", "reset", "closed", "not-tls"))
    if sent.is_relayed:
        kinds |= {"mute"}  # what is dropped behind a proxy has been acknowledged by it
    if _is_recut(sent, sent.record_ends[0]):
        return _either(kinds)
    if sent.record_ends[0] <= first.end:
        return PASS
    # Dropped, not reset: then nothing of the first segment is ever acknowledged. Else something came through.
    if symptom.kind in ("lost", "timeout") and not symptom.acked_bytes:
        kinds |= {"lost"}
    return _fail(kinds)


def _name_in_first_segment(symptom: Symptom) -> Forecast:
    sent = _sent(symptom)
    kinds = _KILLS | _ROUTINGS
    if sent.name_end is None:
        return _either(kinds)
    if _is_recut(sent, sent.name_end):
        return _either(kinds)
    return _fail(kinds) if sent.name_end > sent.segments()[0].end else PASS


def _mtu_hypotheses(reading: Reading) -> Iterator[Hypothesis]:
    sizes = sorted({segment.size_bytes for symptom in reading.counted for segment in _all_segments(symptom)})
    is_relayed = any(_sent(symptom).is_relayed for symptom in reading.counted)
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
        yield Hypothesis("F14", _reverse_hole(low, only_hybrid=False), detail, _UNANSWERED)
        yield Hypothesis("F14", _reverse_hole(low, only_hybrid=True), detail, _UNANSWERED)


def _hidden_by_a_proxy(reading: Reading) -> Iterator[Hypothesis]:
    """What loses big packets behind a proxy, or takes no more: the proxy acknowledges all, and there is silence.

    So it looks as if receivers and boxes that go by size, or by the hybrid's share, dropped in silence.
    """
    if not any(_sent(symptom).is_relayed for symptom in reading.counted):
        return
    silence: frozenset[SymptomKind] = frozenset(("mute", "timeout"))
    detail = "beyond the proxy"
    sizes = {_sent(symptom).size_bytes for symptom in reading.counted}
    sizes |= {segment.size_bytes for symptom in reading.counted for segment in _all_segments(symptom)}
    for limit in sorted(sizes):
        yield Hypothesis("F13", _forward_hole_beyond(limit), detail, silence)
        yield Hypothesis("F06", _closed_window(limit, "mute"), detail, silence)
    yield Hypothesis("F14", _reverse_hole_beyond, detail, silence)


def _forward_hole_beyond(limit_bytes: int) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        mute: frozenset[SymptomKind] = frozenset(("mute",))
        again = symptom.attempt.sent_again
        sizes = [_sent(symptom).size_bytes] + ([] if again is None else [again.size_bytes])
        if max(sizes) <= limit_bytes:
            return PASS
        # The proxy may send on segment by segment; where the smaller ones were made here, they may get through.
        is_small = all(segment.size_bytes <= limit_bytes for segment in _all_segments(symptom))
        return _either(mute) if is_small else _fail(mute)

    return forecast


def _reverse_hole_beyond(symptom: Symptom) -> Forecast:
    mute: frozenset[SymptomKind] = frozenset(("mute",))
    sent = _sent(symptom)
    if HYBRID in sent.shares:
        return _fail(mute)
    return _either(mute) if HYBRID in sent.groups else PASS


def _all_segments(symptom: Symptom) -> tuple[Segment, ...]:
    """Return the segments that had to get through, of both hellos."""
    again = symptom.attempt.sent_again
    return _sent(symptom).segments() + (() if again is None else again.segments())


def _forward_hole(limit_bytes: int) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        if all(segment.size_bytes <= limit_bytes for segment in _all_segments(symptom)):
            return PASS
        sent = _sent(symptom)
        starts = [segment.start for segment in sent.segments() if segment.size_bytes > limit_bytes]
        is_beyond = bool(starts) and symptom.acked_bytes is not None and symptom.acked_bytes > starts[0]
        return _fail(frozenset()) if is_beyond else _fail(frozenset(("lost",)))

    return forecast


def _hole_both_ways(limit_bytes: int) -> Callable[[Symptom], Forecast]:
    """A tunnel that is too small for both directions; the answer may or may not have a segment that is too big."""
    forward = _forward_hole(limit_bytes)

    def forecast(symptom: Symptom) -> Forecast:
        there = forward(symptom)
        if not there.may_pass or (_our_mss(symptom) or 0) <= limit_bytes:
            return there
        return _either(_UNANSWERED | _LOST if symptom.is_after_retry else _UNANSWERED)

    return forecast


def _our_mss(symptom: Symptom) -> int | None:
    """Return the segment size that the server may send us, as far as it is known: what we may send it."""
    return _sent(symptom).mss_bytes


def _reverse_hole(limit_bytes: int, *, only_hybrid: bool) -> Callable[[Symptom], Forecast]:
    silence: frozenset[SymptomKind] = frozenset(("reverse", "mute"))

    def forecast(symptom: Symptom) -> Forecast:
        if (_our_mss(symptom) or 0) <= limit_bytes:
            return PASS
        sent = _sent(symptom)
        # The acknowledgement of a second hello rides on the answer, and is lost with it (seen on real packets).
        kinds: frozenset[SymptomKind] = silence | _LOST if symptom.is_after_retry else silence
        if only_hybrid and HYBRID not in sent.shares:
            return _either(kinds) if HYBRID in sent.groups else PASS
        return _fail(kinds)

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
        sent = _sent(symptom)
        groups = sent.shares if in_shares else sent.groups
        unknown = {group for group in groups if is_grease(group) or group == UNKNOWN_GROUP}
        hybrid = {group for group in groups if group_kind(group) == "hybrid"}
        if unknown or (hybrid and not knows_hybrid):
            return _fail(_KILLS)
        # Old but rare groups, and the rarer hybrids, it may know or not.
        is_rare = {X448, FFDHE4096} & set(groups) or hybrid - {HYBRID}
        return _either(_KILLS) if is_rare else PASS

    return forecast


def _blocked_group(*, in_shares: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = _sent(symptom)
        if HYBRID in (sent.shares if in_shares else sent.groups):
            return _fail(_KILLS)
        # After a retry, the second hello may bring what the first did not.
        again = symptom.attempt.sent_again
        return _either(_KILLS) if again is not None and HYBRID in again.shares else PASS

    return forecast


def _by_schemes(*, in_certificates: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = _sent(symptom)
        schemes = (sent.certificate_schemes or ()) if in_certificates else sent.schemes
        return _fail(_KILLS) if set(schemes) & set(ML_DSA_SCHEMES) else PASS

    return forecast


def _by_grease(fields: frozenset[str]) -> Callable[[Symptom], Forecast]:
    return lambda symptom: _fail(_KILLS) if _sent(symptom).grease & fields else PASS


def _two_shares(*, only_hybrid: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        shares = _sent(symptom).shares
        if only_hybrid:
            shares = tuple(group for group in shares if group_kind(group) == "hybrid")
        return _fail(_KILLS) if len(shares) > 1 else PASS

    return forecast


def _broken_retry(symptom: Symptom) -> Forecast:
    kinds: frozenset[SymptomKind] = _REFUSALS | _BROKEN_RULES
    sent = _sent(symptom)
    if symptom.is_ok and symptom.attempt.was_retried:
        return _fail(kinds)
    if not sent.shares:
        return _fail(kinds)
    # A server that prefers the hybrid asks for it where it is named without a share.
    needs_none = HYBRID in sent.shares or (X25519 in sent.shares and HYBRID not in sent.groups)
    if HYBRID in sent.shares and X25519 not in sent.shares:
        return _either(kinds)
    return PASS if needs_none else _either(kinds)


def _wrong_encoding(symptom: Symptom) -> Forecast:
    sent = _sent(symptom)
    kinds: frozenset[SymptomKind] = frozenset(("bad-finish",))
    if symptom.kind == "alert" and symptom.attempt.alert in (20, 47, 50, 51):
        kinds |= {"alert"}
    if HYBRID in sent.shares:
        return _fail(kinds)
    if any(group_kind(group) == "hybrid" for group in sent.shares):
        return _either(kinds)  # it may have them all wrong
    # Named without a share: a server that prefers the hybrid asks for one, and then gets that wrong.
    return _either(kinds) if HYBRID in sent.groups and symptom.is_after_retry else PASS
