"""Examine a path: plan a step, make the attempt, until enough is known or the limits are reached; then diagnose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pqtls.path.diagnose import diagnose
from pqtls.path.plan import PlanOptions, next_step
from pqtls.path.reading import CONTROL
from pqtls.path.words import say_answer
from pqtls.probe.experiments import find_experiment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pqtls.path.diagnosis import Diagnosis
    from pqtls.probe.model import Attempt, Experiment

MIN_TIMEOUT_S, MAX_TIMEOUT_S = 3.0, 8.0
_FIRST_TIMEOUT_S = 5.0


class Attempter(Protocol):
    """Who makes attempts: `pqtls.probe.run.Prober`, or a model of a network."""

    def attempt(self, experiment: Experiment, number: int, started_s: float, timeout_s: float) -> Attempt:
        """Make one connection.

        Args:
            experiment: What to send.
            number: Which connection this is.
            started_s: Seconds since the examination began.
            timeout_s: How long to wait for anything.
        """


class Clock(Protocol):
    """What time it is there."""

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: How much.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be done.

    Attributes:
        connections: Connections at most.
        seconds: Seconds at most, from first to last attempt. The minute that people are told has the program's start
            and end in it too.
    """

    connections: int = 40
    seconds: float = 58.0


FULL_LIMITS = Limits(connections=100, seconds=240.0)


def limits_for(options: PlanOptions | None) -> Limits:
    """Return the usual limits, wider for the whole set and for what is to be repeated.

    Args:
        options: What was asked for.
    """
    options = options or PlanOptions()
    base = FULL_LIMITS if options.is_full else Limits()
    return Limits(base.connections + 4 * options.repeats, base.seconds + 10.0 * options.repeats)


def examine(
    attempter: Attempter,
    clock: Clock,
    options: PlanOptions | None = None,
    limits: Limits | None = None,
    report: Callable[[Attempt], None] | None = None,
    earlier: Sequence[Attempt] = (),
    began: float | None = None,
) -> Diagnosis:
    """Examine a path.

    Args:
        attempter: Makes the attempts.
        clock: Tells the time and lets it pass.
        options: What was asked for.
        limits: How much may be done; None for the usual.
        report: Is told every attempt as it ends.
        earlier: What was done of this examination before; it counts for the limits.
        began: When the examination began, by the clock; None for now.
    """
    limits = limits or limits_for(options)
    began = clock.now() if began is None else began
    attempts = list(earlier)
    is_cut_short = False
    while True:
        step = next_step(attempts, options)
        if step is None:
            break
        left_s = limits.seconds - (clock.now() - began) - step.wait_s
        timeout_s = _timeout_s(attempts) if step.timeout_s is None else step.timeout_s
        # A shortened wait would be no evidence of silence: what does not fit any more is not begun. After what only
        # says more, the control still has to fit.
        needed = 2 if step.is_optional else 1
        if len(attempts) + needed > limits.connections or left_s < (timeout_s + _preamble_s(attempts)) * needed:
            is_cut_short = not step.is_optional
            break
        clock.sleep(step.wait_s)
        attempt = attempter.attempt(find_experiment(step.experiment), len(attempts), clock.now() - began, timeout_s)
        attempts.append(attempt)
        if report is not None:
            report(attempt)
        if attempt.ending == "turned-away":
            break  # who asks again and again with a wrong password is locked out
    return diagnose(attempts, is_cut_short=is_cut_short)


def conclude_early(attempts: Sequence[Attempt], options: PlanOptions | None = None) -> Diagnosis:
    """Say what is known of an examination that a person interrupted: less than a verdict, where more was to be tried.

    Args:
        attempts: What was done by then.
        options: What was asked for.
    """
    found = diagnose(attempts)
    step = next_step(attempts, options)
    if step is None:
        return found
    note = f"It was interrupted after {len(attempts)} connection{'s' * (len(attempts) != 1)}."
    found = replace(found, notes=(note, *found.notes))
    if step.is_optional:
        return found
    fits = dict.fromkeys((*(each.id for each in found.faults), *found.also_fits))
    found = replace(found, verdict="inconclusive", faults=(), also_fits=tuple(fits), where="unknown", workarounds=())
    return replace(found, answer=say_answer(found))


def _timeout_s(attempts: list[Attempt]) -> float:
    """Return how long to wait: much longer than this server has ever taken, so that slow is not silent."""
    answers = [(attempt.connect_s or 0.0) + attempt.answer_s for attempt in attempts if attempt.answer_s is not None]
    if not any(attempt.experiment == CONTROL for attempt in attempts) or not answers:
        return _FIRST_TIMEOUT_S
    return min(MAX_TIMEOUT_S, max(MIN_TIMEOUT_S, 2.0 + 3.0 * max(answers)))


def _preamble_s(attempts: list[Attempt]) -> float:
    """Return how long a proxy and STARTTLS have taken at most, and so may take again."""
    return max((attempt.preamble_s for attempt in attempts), default=0.0)
