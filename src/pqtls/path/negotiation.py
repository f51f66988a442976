"""What faults of negotiation make of each experiment: groups, key shares, signature algorithms, GREASE, the retry.

What a receiver knows and what it looks at differ from product to product, so each class has a hypothesis for every
such combination that can be told by what was sent: unknown groups with or without GREASE, one number or all of
ML-KEM's, shares counted in this way or in that.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

from pqtls.path.hypotheses import (
    BROKEN_RULES,
    KILLS,
    PASS,
    REFUSALS,
    Forecast,
    Hypothesis,
    either,
    fails,
    sent_of,
)
from pqtls.probe.model import ALL_GREASE, FFDHE4096, HYBRID, UNKNOWN_GROUP, X448, X25519
from pqtls.wire.groups import group_kind, is_grease
from pqtls.wire.hello_builder import ML_DSA_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pqtls.path.reading import Reading, Symptom, SymptomKind

_RARE = frozenset((X448, FFDHE4096))
# What comes of a share, or a secret, that the two sides read differently.
_ENCODING_KINDS: frozenset[SymptomKind] = frozenset(("bad-finish",))
_ENCODING_ALERTS = (20, 47, 50, 51)


def negotiation_hypotheses(reading: Reading) -> Iterator[Hypothesis]:
    """Return every hypothesis on what is offered.

    Args:
        reading: The attempts; the sizes of second hellos in them are what a limit can lie between.
    """
    # Key shares first: what a second hello brings may look as if the list were looked at.
    for in_shares, knows_hybrid, knows_grease in product((True, False), repeat=3):
        where = "among the key shares" if in_shares else "in supported_groups"
        yield Hypothesis("F22", _unknown_group(in_shares, knows_hybrid, knows_grease), where)
    yield Hypothesis("F22", _unknown_share_alone, "in a key share, where none that it knows is beside it")
    for in_shares, is_every in product((True, False), (False, True)):
        where = "among the key shares" if in_shares else "in supported_groups"
        with_all = ", as every hybrid is" if is_every else ""
        yield Hypothesis("F23", _blocked_group(in_shares, is_every), where + with_all)
    yield Hypothesis("F23", _where_chosen(KILLS), "where the server chooses it")
    yield Hypothesis("F24", _by_schemes(in_certificates=False), "in signature_algorithms")
    yield Hypothesis("F24", _by_schemes(in_certificates=True), "in signature_algorithms_cert")
    detail = "in signature_algorithms, as anything that it does not know there"
    yield Hypothesis("F24", _by_schemes(in_certificates=False, with_grease=True), detail)
    for count in range(1, len(ALL_GREASE) + 1):
        for fields in combinations(sorted(ALL_GREASE), count):
            yield Hypothesis("F25", _by_grease(frozenset(fields)), f"in {', '.join(fields)}")
    for detail, counts, may_count in _SHARES:
        yield Hypothesis("F26", _two_shares(counts, may_count), detail)
    yield Hypothesis("F26", _hybrid_beside_classical, "a hybrid share beside a classical one")
    breaches = [each.attempt.detail.rstrip(".") for each in reading.counted if each.kind == "bad-retry"]
    breach = breaches[0] if breaches else ""
    yield Hypothesis("F27", _unlawful_retry, breach)
    yield Hypothesis("F27", _broken_retry, breach)
    for limit in sorted({again.size_bytes for each in reading.counted if (again := each.attempt.sent_again)}):
        yield Hypothesis("F27", _big_second_hello(limit), f"second hellos of {limit} bytes pass, bigger ones do not")
    kinds = _ENCODING_KINDS | KILLS if takes_swapped(reading) else _ENCODING_KINDS
    yield Hypothesis("F31", _wrong_encoding(kinds))
    yield Hypothesis("F31", _where_chosen(kinds))


def takes_swapped(reading: Reading) -> bool:
    """Tell whether the hybrid was chosen where its share had its halves in the wrong order, and nowhere else.

    Args:
        reading: The attempts.
    """
    return {each.attempt.experiment for each in reading.symptoms if each.attempt.group == HYBRID} == {"E31"}


def _is_hybrid(group: int) -> bool:
    return group_kind(group) == "hybrid"


def _unknown_group(in_shares: bool, knows_hybrid: bool, knows_grease: bool) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent, again = sent_of(symptom), symptom.attempt.sent_again
        groups = sent.shares if in_shares else sent.groups
        hybrid = {group for group in groups if _is_hybrid(group)}
        is_unknown = any(group == UNKNOWN_GROUP or (is_grease(group) and not knows_grease) for group in groups)
        if is_unknown or (hybrid and not knows_hybrid):
            return fails(KILLS)
        # Old but rare groups, and the rarer hybrids, it may know or not; a retry can bring the hybrid's share.
        is_rare = bool(_RARE & set(groups) or hybrid - {HYBRID})
        is_later = in_shares and not knows_hybrid and again is not None and any(map(_is_hybrid, again.shares))
        return either(KILLS) if is_rare or is_later else PASS

    return forecast


def _unknown_share_alone(symptom: Symptom) -> Forecast:
    """A server that fails where it should ask for a share that it knows; it does ask where there is none at all."""
    shares = sent_of(symptom).shares
    if not shares or any(group_kind(group) == "classical" and group not in _RARE for group in shares):
        return PASS
    return either(KILLS) if _RARE & set(shares) else fails(KILLS)


def _blocked_group(in_shares: bool, is_every: bool) -> Callable[[Symptom], Forecast]:
    def is_blocked(groups: tuple[int, ...]) -> bool:
        return any(map(_is_hybrid, groups)) if is_every else HYBRID in groups

    def forecast(symptom: Symptom) -> Forecast:
        sent, again = sent_of(symptom), symptom.attempt.sent_again
        if is_blocked(sent.shares if in_shares else sent.groups):
            return fails(KILLS)
        # After a retry, the second hello may bring what the first did not.
        return either(KILLS) if again is not None and is_blocked(again.shares) else PASS

    return forecast


def _by_schemes(*, in_certificates: bool, with_grease: bool = False) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent = sent_of(symptom)
        schemes = (sent.certificate_schemes or ()) if in_certificates else sent.schemes
        is_disliked = any(code in ML_DSA_SCHEMES or (with_grease and is_grease(code)) for code in schemes)
        return fails(KILLS) if is_disliked else PASS

    return forecast


def _by_grease(fields: frozenset[str]) -> Callable[[Symptom], Forecast]:
    return lambda symptom: fails(KILLS) if sent_of(symptom).grease & fields else PASS


def _none(_: int) -> bool:
    return False


# Which shares a receiver counts that takes one only, and which it may count or not.
_SHARES: tuple[tuple[str, Callable[[int], bool], Callable[[int], bool]], ...] = (
    ("any two shares", lambda _: True, _none),
    ("any two shares, GREASE aside", lambda group: not is_grease(group), _none),
    (
        "any two shares of groups that it knows",
        lambda group: group == HYBRID or group_kind(group) == "classical",
        lambda group: _is_hybrid(group) or group == UNKNOWN_GROUP,
    ),
    ("two hybrid shares", _is_hybrid, _none),
    ("two classical shares", lambda group: group_kind(group) == "classical", _none),
)


def _two_shares(counts: Callable[[int], bool], may_count: Callable[[int], bool]) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        shares = sent_of(symptom).shares
        if sum(map(counts, shares)) > 1:
            return fails(KILLS)
        return either(KILLS) if sum(counts(group) or may_count(group) for group in shares) > 1 else PASS

    return forecast


def _hybrid_beside_classical(symptom: Symptom) -> Forecast:
    kinds = {group_kind(group) for group in sent_of(symptom).shares}
    return fails(KILLS) if {"hybrid", "classical"} <= kinds else PASS


def _broken_retry(symptom: Symptom) -> Forecast:
    """No retry works, whatever becomes of it."""
    kinds: frozenset[SymptomKind] = REFUSALS | BROKEN_RULES
    sent = sent_of(symptom)
    if symptom.attempt.was_retried or not sent.shares:
        return fails(kinds)
    # A server that prefers the hybrid asks for it where it is named without a share.
    needs_none = HYBRID in sent.shares or (X25519 in sent.shares and HYBRID not in sent.groups)
    if HYBRID in sent.shares and X25519 not in sent.shares:
        return either(kinds)
    return PASS if needs_none else either(kinds)


def _unlawful_retry(symptom: Symptom) -> Forecast:
    """Which hellos it answers with such a request is its own affair: that one came is proof."""
    kinds: frozenset[SymptomKind] = frozenset(("bad-retry",))
    return fails(kinds) if symptom.kind == "bad-retry" else PASS


def _big_second_hello(limit_bytes: int) -> Callable[[Symptom], Forecast]:
    """Retries work, but for a second hello with a hybrid's share: what reads it is not what reads the first."""

    def forecast(symptom: Symptom) -> Forecast:
        again = symptom.attempt.sent_again
        return fails(KILLS) if again is not None and again.size_bytes > limit_bytes else PASS

    return forecast


def _wrong_encoding(kinds: frozenset[SymptomKind]) -> Callable[[Symptom], Forecast]:
    def forecast(symptom: Symptom) -> Forecast:
        sent, allowed = sent_of(symptom), _refusals_of(symptom, kinds)
        if HYBRID in sent.shares:
            return fails(allowed)
        if any(map(_is_hybrid, sent.shares)):
            return either(allowed)  # it may have them all wrong
        # Named without a share: a server that prefers the hybrid asks for one, and then gets that wrong.
        return either(allowed) if HYBRID in sent.groups and symptom.is_after_retry else PASS

    return forecast


def _where_chosen(kinds: frozenset[SymptomKind]) -> Callable[[Symptom], Forecast]:
    """A server that prefers classical groups: the hybrid fails only where no classical share is beside it."""

    def forecast(symptom: Symptom) -> Forecast:
        sent, allowed = sent_of(symptom), _refusals_of(symptom, kinds)
        is_hybrid_alone = HYBRID in sent.shares and all(map(_is_hybrid, sent.shares))
        if is_hybrid_alone:
            return fails(allowed)
        again = symptom.attempt.sent_again
        return either(allowed) if again is not None and HYBRID in again.shares else PASS

    return forecast


def _refusals_of(symptom: Symptom, kinds: frozenset[SymptomKind]) -> frozenset[SymptomKind]:
    """Return the kinds, with alerts where this one says that a value or its decryption was wrong."""
    is_about_values = symptom.kind == "alert" and symptom.attempt.alert in _ENCODING_ALERTS
    return kinds | {"alert"} if is_about_values else kinds
