"""What receivers make of a hello that comes in parts: F01 to F04, F06 and F07. Boxes on the way are in `boxes`.

They differ in four things: what they need to see (the whole hello, as its length says; its first record; the name),
of what (all that came, a buffer's worth, the first segment), whether they wait for it, and what they do without it.
Products are found with most combinations, so each is a hypothesis of its own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pqtls.path.findings import wilson
from pqtls.path.hypotheses import KILLS, PASS, REFUSALS, ROUTINGS, Forecast, Hypothesis, either, fails, sent_of
from pqtls.path.reading import CONTROL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pqtls.path.reading import Reading, Symptom, SymptomKind
    from pqtls.probe.model import Sent

Need = Literal["hello", "record", "name"]
"""What must be there: the handshake message to its stated length, the first record, or the host name."""

NEEDS: dict[Need, str] = {
    "hello": "",
    "record": "the first record is enough for it",
    "name": "the server name is enough for it",
}
# A pause that no receiver sleeps through: one that reads once has read by then.
LONG_PAUSE_S = 0.25
# One write of up to this size is one segment, also where nobody tells how big they are: the least every host takes.
SURE_SEGMENT_BYTES = 536
_BY_CHANCE = 0.01
ENDS: frozenset[SymptomKind] = frozenset(("reset", "closed", "not-tls"))


def receiver_hypotheses(reading: Reading) -> Iterator[Hypothesis]:
    """Return every hypothesis of a receiver or a box that wants some of the hello at once.

    Args:
        reading: The attempts; sizes in them are what buffers can lie between.
    """
    for need, detail in NEEDS.items():
        is_proved = _always if need == "hello" else _was_in_hand(need)
        yield Hypothesis("F01", _read_once(need, REFUSALS), detail, is_proved=is_proved)
        yield Hypothesis("F04", _read_once(need, ENDS), detail, is_proved=is_proved)
    yield Hypothesis(
        "F04",
        _decide_at_once,
        "it decides even before the first segment has come",
        is_proved=_fails_more_when_paused,
    )
    yield Hypothesis("F02", _default_server, must_show=frozenset(("other-certificate",)))
    for need, detail in NEEDS.items():
        yield from _buffer_hypotheses(reading, need, detail)
    yield Hypothesis("F07", _fragments)
    yield Hypothesis("F07", _first_record_and_what_came_with_it, "it waits for the first record only")
    yield Hypothesis("F07", _name_in_first_record, "the name must be in the first record")


def _buffer_hypotheses(reading: Reading, need: Need, detail: str) -> Iterator[Hypothesis]:
    sizes = sorted({_needed_end(sent_of(symptom), need) for symptom in reading.counted})
    once = f"it reads once, and {detail}" if detail else "it reads once"
    for low, high in pairwise(sizes):
        bracket = (low, high)
        by_size = _by_size(need, low, KILLS | ROUTINGS)
        yield Hypothesis("F03", by_size, detail, bracket_bytes=bracket, is_proved=_was_taken)
        is_proved = _is_too_big_at_once(need, low)
        yield Hypothesis("F03", _full_at_once(need, low), once, bracket_bytes=bracket, is_proved=is_proved)
        if need != "name":
            yield Hypothesis("F06", closed_window(need, low), detail, bracket_bytes=bracket)


def _was_taken(symptoms: Sequence[Symptom]) -> bool:
    """Tell whether of what failed something of the last write was acknowledged: else it never came to a receiver."""
    failed = [each for each in symptoms if not each.is_ok]
    return any(each.acked_bytes is None or each.acked_bytes > (0, *sent_of(each).write_ends)[-2] for each in failed)


def _always(_: Sequence[Symptom]) -> bool:
    return True


def _needed_end(sent: Sent, need: Need) -> int:
    """Return up to which byte of the stream a hello must be there."""
    if need == "hello":
        return sent.size_bytes
    return sent.record_ends[0] if need == "record" or sent.name_end is None else sent.name_end


def _is_beyond_first_record(sent: Sent, need: Need) -> bool:
    """Tell whether what is needed is behind the first record, where not every reader looks, or knows how to."""
    return need == "name" and (sent.name_end or 0) > sent.record_ends[0]


def _is_cut(sent: Sent | None, need: Need) -> bool:
    """Tell whether what is needed arrives in several segments; where their size is not known: whether it may."""
    if sent is None:
        return False
    end = _needed_end(sent, need)
    is_known = sent.mss_bytes is not None and not sent.is_relayed
    return (not is_known and end > SURE_SEGMENT_BYTES) or sent.segments()[0].end < end


def _is_surely_cut(sent: Sent, end: int) -> bool:
    """Tell whether a place in the stream is behind the first segment: by the kernel's word, else by our writes."""
    if sent.is_relayed:
        return False
    return (sent.write_ends[0] if sent.mss_bytes is None else sent.segments()[0].end) < end


def is_paused_before(sent: Sent, end: int) -> bool:
    """Tell whether a pause that no reader sleeps through comes before a byte of the stream.

    Args:
        sent: What was sent.
        end: Up to which byte.
    """
    return any(segment.pause_s >= LONG_PAUSE_S and segment.start < end for segment in sent.segments())


def _read_once(need: Need, kinds: frozenset[SymptomKind]) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = sent_of(symptom)
        if is_paused_before(sent, _needed_end(sent, need)):
            # What has read has the second part too by then, and its kernel has said so.
            is_let_through = is_late(symptom) and symptom.acked_bytes == sent.segments()[0].end
            return fails(frozenset() if is_let_through else kinds)
        is_open = _is_cut(sent, need) or _is_beyond_first_record(sent, need)
        return either(kinds) if is_open or _is_cut(symptom.attempt.sent_again, "hello") else PASS

    return forecast


def is_late(symptom: Symptom) -> bool:
    """Tell whether a hello that was cut by a pause failed after its second part, where what kills at once is heard of.

    Args:
        symptom: An attempt that was not just silent.
    """
    sent = sent_of(symptom)
    is_far = (symptom.attempt.connect_s or 0.0) > LONG_PAUSE_S / 2
    is_heard = symptom.kind in ENDS or symptom.kind == "alert"
    is_cut = is_paused_before(sent, sent.size_bytes) and not sent.is_relayed
    return is_cut and is_heard and not is_far and not symptom.attempt.was_early


def _was_in_hand(need: Need) -> Callable[[Sequence[Symptom]], bool]:
    """Return what tells a reader from a box that judges the first segment (F08, F09): it fails by time, not by place.

    Either the same cut got through where no pause was made, or the first segment was acknowledged by whoever failed.
    """

    def is_proved(symptoms: Sequence[Symptom]) -> bool:
        for symptom in symptoms:
            sent = sent_of(symptom)
            end = _needed_end(sent, need)
            is_cut = _is_surely_cut(sent, end)
            if is_cut and symptom.is_ok and not _is_beyond_first_record(sent, need):
                return True
            is_taken = (symptom.acked_bytes or 0) >= sent.segments()[0].end
            if is_cut and not symptom.is_ok and is_taken:
                return True
        return False

    return is_proved


def _decide_at_once(symptom: Symptom) -> Forecast:
    """A router that may decide as soon as there is a connection: a race even for the smallest hello."""
    sent = sent_of(symptom)
    return fails(ENDS) if is_paused_before(sent, sent.size_bytes) else either(ENDS)


def _fails_more_when_paused(symptoms: Sequence[Symptom]) -> bool:
    """Tell whether whole hellos fail at times, and paused ones so often that this is not the same chance.

    The control follows each failure: of two servers that take turns it would always meet the other one. If no hello
    failed that is smaller than one that passed, it is their size that decides, and no chance.
    """
    others = (each for each in symptoms if each.attempt.experiment != CONTROL)
    whole = [each for each in others if not _is_cut(each.attempt.sent, "hello") and not each.is_after_retry]
    failed = [sent_of(each).size_bytes for each in whole if not each.is_ok]
    passed = [sent_of(each).size_bytes for each in whole if each.is_ok]
    if not failed or min(failed) > max(passed, default=0):
        return False
    paused = sum(is_paused_before(sent_of(each), sent_of(each).size_bytes) for each in symptoms)
    return wilson(len(failed), len(whole))[1] ** paused < _BY_CHANCE


def _default_server(symptom: Symptom) -> Forecast:
    kinds: frozenset[SymptomKind] = frozenset(("other-certificate", "alert", "reset", "closed"))
    sent = sent_of(symptom)
    if not _is_cut(sent, "hello"):
        return PASS
    is_name_late = (sent.name_end or 0) > sent.segments()[0].end
    return fails(kinds) if is_name_late and is_paused_before(sent, sent.size_bytes) else either(kinds)


def _by_size(need: Need, limit_bytes: int, kinds: frozenset[SymptomKind]) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = sent_of(symptom)
        if _needed_end(sent, need) > limit_bytes:
            return fails(kinds)
        return either(kinds) if _is_beyond_first_record(sent, need) else PASS

    return forecast


def _full_at_once(need: Need, limit_bytes: int) -> Callable[[Symptom], Forecast]:
    """One read, into a buffer: too much is cut off, and what comes later is not waited for."""
    kinds = KILLS | ROUTINGS
    too_big, once = _by_size(need, limit_bytes, kinds), _read_once(need, kinds)

    def forecast(symptom: Symptom) -> Forecast:
        by_size = too_big(symptom)
        return once(symptom) if by_size.may_pass else by_size

    return forecast


def _is_too_big_at_once(need: Need, limit_bytes: int) -> Callable[[Sequence[Symptom]], bool]:
    """Return what shows that there is a buffer too: something failed that came whole, as far as is known."""

    def is_whole(sent: Sent) -> bool:
        if sent.mss_bytes is None and not sent.is_relayed:
            return sent.segments()[0].end >= _needed_end(sent, need)
        return not _is_cut(sent, need)

    def is_proved(symptoms: Sequence[Symptom]) -> bool:
        failed = [sent_of(each) for each in symptoms if not each.is_ok]
        return any(_needed_end(sent, need) > limit_bytes and is_whole(sent) for sent in failed)

    return is_proved


def closed_window(need: Need, limit_bytes: int, kind: SymptomKind = "zero-window") -> Callable[[Symptom], Forecast]:
    """Return the forecast of a receiver that looks without taking until it has seen enough, and runs out of window.

    Args:
        need: What it wants to see.
        limit_bytes: Bytes that its window takes.
        kind: How that looks from here.
    """
    kinds: frozenset[SymptomKind] = frozenset((kind,))

    def forecast(symptom: Symptom) -> Forecast:
        if _needed_end(sent_of(symptom), need) > limit_bytes:
            return fails(kinds)
        # The second hello may be peeked at in the same way, or just read.
        again = symptom.attempt.sent_again
        return either(kinds) if again is not None and _needed_end(again, need) > limit_bytes else PASS

    return forecast


def _fragments(symptom: Symptom) -> Forecast:
    return fails(ROUTINGS) if len(sent_of(symptom).record_ends) > 1 else PASS


def _first_record_and_what_came_with_it(symptom: Symptom) -> Forecast:
    sent = sent_of(symptom)
    if len(sent.record_ends) == 1:
        return PASS
    is_rest_late = any(each.start >= sent.record_ends[0] and each.pause_s >= LONG_PAUSE_S for each in sent.segments())
    return fails(ROUTINGS) if is_rest_late else either(ROUTINGS)


def _name_in_first_record(symptom: Symptom) -> Forecast:
    sent = sent_of(symptom)
    if len(sent.record_ends) > 1 and sent.name_end is None:
        return either(ROUTINGS)
    return fails(ROUTINGS) if (sent.name_end or 0) > sent.record_ends[0] else PASS
