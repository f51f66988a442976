"""What boxes on the way make of a hello that comes in parts: F08 to F10, F19. They judge packets, and wait for none."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pqtls.path.hypotheses import KILLS, LOST, PASS, ROUTINGS, Forecast, Hypothesis, either, fails, sent_of
from pqtls.path.receivers import ENDS, SURE_SEGMENT_BYTES, is_late, is_paused_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pqtls.path.reading import Reading, Symptom, SymptomKind
    from pqtls.probe.model import Sent

    _PacketsOf = Callable[[Sent], list[tuple[int, int]]]

_LOUD: frozenset[SymptomKind] = ENDS | {"alert"}
_JOINED = "of packets that were joined by offloading"


def box_hypotheses(reading: Reading) -> Iterator[Hypothesis]:
    """Return every hypothesis of a box that judges packets one by one.

    Args:
        reading: The attempts; sizes in them are what limits can lie between.
    """
    yield Hypothesis("F08", _whole_record)
    yield Hypothesis("F09", _name_in_first_segment)
    yield Hypothesis("F10", _continuation)
    if any(sent_of(symptom).is_relayed for symptom in reading.counted):
        return  # the sizes beyond a proxy are its own
    for detail, packets_of in (("", _segments), (_JOINED, _bursts)):
        sizes = {end - start for each in reading.counted for sent in _hellos(each) for start, end in packets_of(sent)}
        for low, high in pairwise(sorted(sizes)):
            forecast, is_proved = _big_packet(low, packets_of), _is_no_hole(low, packets_of)
            yield Hypothesis("F19", forecast, detail, bracket_bytes=(low, high), is_proved=is_proved)


def _is_unsure(sent: Sent, end: int) -> bool:
    """Tell whether nobody knows if the first segment ends before or behind a place in the stream.

    A proxy cuts anew; without TCP's own facts a clamp on the way goes unseen. Pauses and small writes stay.
    """
    if is_paused_before(sent, sent.size_bytes):
        return False
    if sent.is_relayed:
        return end > SURE_SEGMENT_BYTES or sent.segments()[0].end < end
    return sent.mss_bytes is None and SURE_SEGMENT_BYTES < end <= sent.write_ends[0]


def _whole_record(symptom: Symptom) -> Forecast:
    sent = sent_of(symptom)
    is_unsure = _is_unsure(sent, sent.record_ends[0])
    if not is_unsure and sent.record_ends[0] <= sent.segments()[0].end:
        return PASS
    if not is_unsure and is_late(symptom):
        return fails(frozenset())  # it came through, and what followed it was killed
    kinds = _LOUD
    if sent.is_relayed:
        kinds |= {"mute"}  # what is dropped behind a proxy has been acknowledged by it
    # Dropped, not reset: then nothing of the first segment is ever acknowledged. Else something came through.
    elif symptom.kind in ("lost", "timeout") and not symptom.acked_bytes:
        kinds |= {"lost"}
    return either(kinds) if is_unsure else fails(kinds)


def _name_in_first_segment(symptom: Symptom) -> Forecast:
    sent = sent_of(symptom)
    kinds = KILLS | ROUTINGS
    if sent.name_end is None or _is_unsure(sent, sent.name_end):
        return either(kinds)
    return fails(kinds) if sent.name_end > sent.segments()[0].end else PASS


def _continuation(symptom: Symptom) -> Forecast:
    """A packet that does not begin with a record is dropped, or ends the connection; also of a second hello."""
    sent = sent_of(symptom)
    starts = {0, *sent.record_ends}
    cut = [segment for segment in sent.segments() if segment.start not in starts]
    kinds: frozenset[SymptomKind] = _LOUD | LOST
    if sent.is_relayed:
        kinds |= {"mute"}  # what is dropped behind a proxy has been acknowledged by it
    if not cut:
        again = symptom.attempt.sent_again
        is_blind = sent.is_relayed or sent.mss_bytes is None
        is_open = (is_blind and sent.size_bytes > SURE_SEGMENT_BYTES) or (
            again is not None and (is_blind or len(again.segments()) > 1)
        )
        return either(kinds) if is_open else PASS
    if sent.is_relayed:
        return fails(kinds) if any(segment.pause_s for segment in cut) else either(kinds)
    # The first packet gets through, and nothing happens before the next is sent.
    acked = symptom.acked_bytes
    if symptom.attempt.was_early:
        kinds -= _LOUD
    if acked is not None and acked > cut[0].start:
        kinds -= {"reset"}  # what ends a stream in its peer's name acknowledges, a reset does not
    if acked is not None and acked != cut[0].start and not symptom.is_after_retry:
        kinds -= LOST
    # Where a packet is cut by its size, what it begins with may be a record's number by chance.
    is_known = any(segment.start in sent.write_ends for segment in cut)
    return fails(kinds) if is_known or symptom.is_after_retry else either(kinds)


def _hellos(symptom: Symptom) -> tuple[Sent, ...]:
    again = symptom.attempt.sent_again
    return (sent_of(symptom),) if again is None else (sent_of(symptom), again)


def _segments(sent: Sent) -> list[tuple[int, int]]:
    return [(segment.start, segment.end) for segment in sent.segments()]


def _bursts(sent: Sent) -> list[tuple[int, int]]:
    """Return what was written at once, by where it starts and ends: a router may see it as one packet."""
    return list(pairwise((0, *sent.write_ends)))


def _is_big(sent: Sent | None, limit_bytes: int, packets_of: _PacketsOf) -> bool:
    return sent is not None and any(end - start > limit_bytes for start, end in packets_of(sent))


def _big_packet(limit_bytes: int, packets_of: _PacketsOf) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        big = [(start, end) for start, end in packets_of(sent_of(symptom)) if end - start > limit_bytes]
        if not big:
            # It may look at first packets only, or at those that begin with a record of the handshake.
            is_open = _is_big(symptom.attempt.sent_again, limit_bytes, packets_of)
            return either(_LOUD | LOST) if is_open else PASS
        start, end = big[0]
        # It did not arrive; but what ends a stream in its peer's name acknowledges it.
        is_forged = packets_of is _segments and symptom.kind not in ("reset", "lost")
        is_beyond = (symptom.acked_bytes or 0) > (end if is_forged else start)
        return fails(frozenset() if is_beyond else _LOUD | LOST)

    return forecast


def _is_no_hole(limit_bytes: int, packets_of: _PacketsOf) -> Callable[[Sequence[Symptom]], bool]:
    """Return what tells it from a black hole (F13): it answers, or lets the big packets of a second hello pass."""

    def is_proved(symptoms: Sequence[Symptom]) -> bool:
        return any(
            each.kind in _LOUD or (each.is_ok and _is_big(each.attempt.sent_again, limit_bytes, packets_of))
            for each in symptoms
        )

    return is_proved
