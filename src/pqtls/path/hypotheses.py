"""What a hypothesis is: a class of fault with its parameters filled in, and what it says of an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pqtls.path.reading import Symptom, SymptomKind
    from pqtls.probe.model import Sent


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
        weight: How common it is, against the usual form of its class.
    """

    fault: str
    forecast: Callable[[Symptom], Forecast]
    detail: str = ""
    must_show: frozenset[SymptomKind] = frozenset()
    is_proved: Callable[[Sequence[Symptom]], bool] = lambda _: True
    bracket_bytes: tuple[int, int] | None = None
    weight: float = 1.0


PASS = Forecast(may_pass=True)
# "not-tls": a page that says "blocked", a redirect, the banner of the program that a router fell back to.
REFUSALS: frozenset[SymptomKind] = frozenset(("alert", "reset", "closed", "mute", "not-tls"))
BROKEN_RULES: frozenset[SymptomKind] = frozenset(("bad-retry", "malformed"))
LOST: frozenset[SymptomKind] = frozenset(("lost",))
UNANSWERED: frozenset[SymptomKind] = frozenset(("reverse", "mute", "timeout"))
KILLS: frozenset[SymptomKind] = REFUSALS | {"lost"}
# A router that cannot read a hello may also send it to its default server.
ROUTINGS: frozenset[SymptomKind] = REFUSALS | {"other-certificate"}


def fails(kinds: frozenset[SymptomKind]) -> Forecast:
    """Return the forecast of what cannot get through.

    Args:
        kinds: Ways in which it may fail; none at all makes it impossible.
    """
    return Forecast(may_pass=False, kinds=kinds)


def either(kinds: frozenset[SymptomKind]) -> Forecast:
    """Return the forecast of what may get through, or may not.

    Args:
        kinds: Ways in which it may fail.
    """
    return Forecast(may_pass=True, kinds=kinds)


def sent_of(symptom: Symptom) -> Sent:
    """Return the first hello of an attempt that counts.

    Args:
        symptom: The attempt, read.
    """
    sent = symptom.attempt.sent
    assert sent is not None  # noqa: S101 - counted symptoms have sent
    return sent
