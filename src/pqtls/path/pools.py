"""What comes and goes with the same hello (E20, F43): counted, and told from what a pause decides. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pqtls.path.findings import PAUSED, Rate, find_gap
from pqtls.path.reading import CONTROL

if TYPE_CHECKING:
    from pqtls.path.reading import Reading

_ENOUGH = 9
_ENOUGH_PAUSED = 4
_TRIES = 3
_MIN_SEEN = 2
_MAX_NAMES = 2
_MAX_CHANCE = 0.1
# All that is new in one hello: whatever a server of a pool does not bear shows.
_NEWEST = "E23"


def find_mixed(reading: Reading) -> dict[str, Rate]:
    """Return the experiments, but the control, that got through at times and failed at others: how often.

    Args:
        reading: The attempts, read.
    """
    found = {}
    for name in dict.fromkeys(each.attempt.experiment for each in reading.failures):
        outcomes = [each.is_ok for each in reading.counted if each.attempt.experiment == name]
        if name != CONTROL and True in outcomes:
            found[name] = Rate(outcomes.count(False), len(outcomes))
    return found


def find_pool(reading: Reading) -> tuple[str, Rate] | None:
    """Return the experiment that shows a mixed pool and how often it failed; None if none does.

    What failed at times and at others got through did so at least twice; the control always got through, so often that
    this is no chance; and no pause decides.

    Args:
        reading: The attempts, read.
    """
    mixed = find_mixed(reading)
    gap = find_gap(reading)
    has_steady_control = all(each.is_ok for each in reading.counted if each.attempt.experiment == CONTROL)
    if not mixed or not has_steady_control or (gap is not None and (gap.depends or gap.paused.is_always)):
        return None
    name, rate = max(mixed.items(), key=lambda item: item[1].attempts)
    failed = sum(each.failed for each in mixed.values())
    passed = sum(each.attempts for each in mixed.values()) - failed
    is_seen = failed >= _MIN_SEEN and passed >= _MIN_SEEN
    return (name, rate) if is_seen and _chance(reading) <= _MAX_CHANCE else None


def _chance(reading: Reading) -> float:
    """Return how likely failures that hit any connection would have spared every control."""
    controls = sum(each.attempt.experiment == CONTROL for each in reading.counted)
    others = len(reading.counted) - controls
    failed = len(reading.failures)
    return math.comb(others, failed) / math.comb(others + controls, failed)


def next_count(reading: Reading) -> str | None:
    """Return the experiment to repeat next where nothing explains what was seen; None once enough is counted.

    Args:
        reading: The attempts, read.
    """
    mixed = find_mixed(reading)
    if mixed:
        most = max(mixed, key=lambda each: mixed[each].attempts)
        return _next_of(reading, {PAUSED[0]: _ENOUGH_PAUSED, most: _ENOUGH})
    names = list(dict.fromkeys(each.attempt.experiment for each in reading.failures))[:_MAX_NAMES]
    return _next_of(reading, {name: _TRIES for name in names if name != CONTROL})


def next_repeat(reading: Reading, repeats: int) -> str | None:
    """Return the next of what --repeat asks for: the hybrid, a cut hello with a pause, and the control between them.

    Args:
        reading: The attempts, read.
        repeats: How often.
    """
    found = _next_of(reading, {_NEWEST: repeats, PAUSED[0]: repeats})
    return CONTROL if found is None and len(reading.of(CONTROL)) < repeats else found


def _next_of(reading: Reading, wanted: dict[str, int]) -> str | None:
    """Return the experiment that lacks most, or a control before it; None if none lacks anything.

    Where servers take turns, a steady order would meet the same server with the same experiment every time: so there
    are one or two controls between, by the sequence of Thue and Morse, which no turns fall in with.
    """
    lacking = {name: count - len(reading.of(name)) for name, count in wanted.items()}
    name = max(lacking, key=lambda each: lacking[each], default="")
    if not name or lacking[name] <= 0:
        return None
    done = sum(len(reading.of(each)) for each in wanted)
    controls = 0
    for symptom in reversed(reading.symptoms):
        if symptom.attempt.experiment != CONTROL:
            break
        controls += 1
    return CONTROL if controls < 1 + done.bit_count() % 2 else name
