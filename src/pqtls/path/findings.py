"""What the experiments that take a number found: from which size on, at which pause, at which hop, for how long.

They name no class; they say more of one that is named. Pure.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pqtls.path.reading import CONTROL, SILENT
from pqtls.probe.experiments import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pqtls.path.hypotheses import Hypothesis
    from pqtls.path.reading import Reading, Symptom

# Classical hellos cut before the name differ in nothing but the pause; the third is cut elsewhere.
PAUSED = ("E3", "E3(after)", "E3(3)")
UNPAUSED = "E3(0)"
MIN_CUT = 3
"""Fewer cut hellos than this, with a pause or without, do not show that the pause does not matter."""
_OF_SEGMENTS = ("F13", "F19")
_Z_95 = 1.96
_GAP = re.compile(r"E19\((\d+)\)")
_HOP = re.compile(r"E21\((.+)@(\d+)\)")


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something failed.

    Attributes:
        failed: So often.
        attempts: Out of so many.
    """

    failed: int
    attempts: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the rate."""
        return wilson(self.failed, self.attempts) if self.attempts else (0.0, 1.0)

    @property
    def is_always(self) -> bool:
        """It failed each time."""
        return bool(self.attempts) and self.failed == self.attempts

    def __str__(self) -> str:
        return f"{self.failed} of {self.attempts}"

    def say_interval(self) -> str:
        """Return the rate with its interval, in words."""
        low, high = self.interval
        return f"{self} (95 %: {low:.0%} to {high:.0%})"

    def to_json(self) -> dict[str, Any]:
        """Return it as an object."""
        low, high = self.interval
        return {"failed": self.failed, "attempts": self.attempts, "low": round(low, 3), "high": round(high, 3)}


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """Between which sizes passing turns into failing.

    Attributes:
        passed_bytes: The largest that got through below it.
        failed_bytes: The smallest that did not.
        is_of_segments: Of TCP segments; else of whole hellos.
    """

    passed_bytes: int
    failed_bytes: int
    is_of_segments: bool

    @property
    def is_exact(self) -> bool:
        """One byte decides."""
        return self.failed_bytes == self.passed_bytes + 1


@dataclass(frozen=True, slots=True)
class GapDependence:
    """What a pause between two parts of a small classical hello does.

    Attributes:
        paused: With a pause of 0.3 s.
        unpaused: Without one.
        depends: Failing depends on the pause; None if that was not seen either way.
        passed_ms: Longest pause with which a cut hello got through, None if none did.
        failed_ms: Shortest with which one failed.
    """

    paused: Rate
    unpaused: Rate
    depends: bool | None
    passed_ms: int | None
    failed_ms: int | None


@dataclass(frozen=True, slots=True)
class HopRange:
    """Where the failing flight is dropped or answered, by packets with few hops to go (E21).

    Attributes:
        flight: Experiment whose hello it was.
        after: It still got to this hop, whose router said so; 0 for none.
        at: It failed with so many hops.
        is_before_server: The control still got to a router with as many; False: to the server, and it was told to the
            hop; None if neither was seen.
    """

    flight: str
    after: int
    at: int
    is_before_server: bool | None


@dataclass(frozen=True, slots=True)
class Block:
    """How long a penalty lasts (F40).

    Attributes:
        at_least_s: In seconds.
        at_most_s: None if its end was never seen.
        count: Penalties that this was read from.
    """

    at_least_s: float
    at_most_s: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All of them; None where there is none.

    Attributes:
        size: From which size on it fails.
        gap: What a pause does.
        hops: Where it is.
        block: How long a penalty lasts.
    """

    size: SizeLimit | None = None
    gap: GapDependence | None = None
    hops: HopRange | None = None
    block: Block | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object `findings` of pqtls/diagnosis/1."""
        size, gap, hops, block = self.size, self.gap, self.hops, self.block
        return {
            "size": None
            if size is None
            else {
                "passed_bytes": size.passed_bytes,
                "failed_bytes": size.failed_bytes,
                "of": "segment" if size.is_of_segments else "hello",
            },
            "gap": None
            if gap is None
            else {
                "depends": gap.depends,
                "paused": gap.paused.to_json(),
                "unpaused": gap.unpaused.to_json(),
                "passed_ms": gap.passed_ms,
                "failed_ms": gap.failed_ms,
            },
            "hops": None if hops is None else {name: getattr(hops, name) for name in hops.__slots__},
            "block": None if block is None else {name: getattr(block, name) for name in block.__slots__},
        }


def find_findings(reading: Reading, hypotheses: Iterable[Hypothesis] = ()) -> Findings:
    """Return what was found.

    Args:
        reading: The attempts, read.
        hypotheses: The classes that explain them.
    """
    return Findings(find_size(hypotheses), find_gap(reading), find_hops(reading), find_block(reading))


def find_size(hypotheses: Iterable[Hypothesis]) -> SizeLimit | None:
    """Return the limit of the first class that has one.

    Args:
        hypotheses: The classes that explain an examination.
    """
    for each in hypotheses:
        if each.bracket_bytes is not None:
            return SizeLimit(*each.bracket_bytes, is_of_segments=each.fault in _OF_SEGMENTS)
    return None


def find_gap(reading: Reading) -> GapDependence | None:
    """Return what pauses do; None if no cut hello ever failed.

    Args:
        reading: The attempts, read.
    """
    counted = [each for each in reading.counted if each not in reading.noise]
    cuts = decisive_cuts(reading)
    paused = _rate(each for each in counted if each.attempt.experiment in cuts)
    unpaused = _rate(each for each in counted if each.attempt.experiment == UNPAUSED)
    tried = [(pause, each.is_ok) for each in counted if (pause := _pause_ms(each)) is not None]
    passed = max((pause for pause, is_ok in tried if is_ok), default=None)
    failed = min((pause for pause, is_ok in tried if not is_ok), default=None)
    if failed is None:
        return None
    return GapDependence(paused, unpaused, _depends(paused, unpaused), passed, failed)


def decisive_cuts(reading: Reading) -> tuple[str, ...]:
    """Return the cut hellos of which a pause might break each; not that behind the name, where the name is enough.

    Args:
        reading: The attempts, read.
    """
    is_enough = reading.failed("E3") and not reading.failed("E3(after)")
    return tuple(name for name in PAUSED if name != "E3(after)" or not is_enough)


def _depends(paused: Rate, unpaused: Rate) -> bool | None:
    if paused.attempts < MIN_CUT:
        return None
    if paused.is_always and unpaused.failed < unpaused.attempts:
        return True
    # Else only rates that lie apart would show that the pause matters.
    return False if unpaused.attempts >= MIN_CUT and paused.interval[0] <= unpaused.interval[1] else None


def _pause_ms(symptom: Symptom) -> int | None:
    name = symptom.attempt.experiment
    match = _GAP.fullmatch(name)
    if match is not None:
        return int(match[1])
    return round(PAUSE_S * 1000) if name == "E3" else 0 if name == UNPAUSED else None


def find_hops(reading: Reading) -> HopRange | None:
    """Return where the failing flight ends; None where it was not looked for, or routers keep silent.

    Args:
        reading: The attempts, read.
    """
    looked = read_hops(reading)
    failed = {hops: each for (flight, hops), each in looked.items() if flight != CONTROL and not each.is_ok}
    flight = next((flight for flight, _ in looked if flight != CONTROL), "")
    for hops, symptom in sorted(failed.items()):
        control = looked.get((CONTROL, hops))
        if symptom.kind in SILENT and (control is None or not control.is_ok):
            continue  # nobody would have said a word at this hop
        after = max((at for (name, at), each in looked.items() if name == flight and _is_expired(each)), default=0)
        return HopRange(flight, after, hops, _is_before_server(looked, after, hops)) if after < hops else None
    return None


def _is_before_server(looked: dict[tuple[str, int], Symptom], after: int, at: int) -> bool | None:
    """Tell whether a router is at this hop for the control, or at one behind it; None if that was not seen."""
    controls = [(hops, each) for (flight, hops), each in looked.items() if flight == CONTROL and each.is_ok]
    if any(hops >= at and _is_expired(each) for hops, each in controls):
        return True
    answered = any(hops == at and not _is_expired(each) for hops, each in controls)
    return False if answered and at == after + 1 else None


def read_hops(reading: Reading) -> dict[tuple[str, int], Symptom]:
    """Return what came of every flight with few hops, by experiment and hops.

    Args:
        reading: The attempts, read.
    """
    found = {}
    for symptom in reading.symptoms:
        match = _HOP.fullmatch(symptom.attempt.experiment)
        if match is not None:
            found[match[1], int(match[2])] = symptom
    return found


def _is_expired(symptom: Symptom) -> bool:
    return symptom.attempt.ending == "expired"


def find_block(reading: Reading) -> Block | None:
    """Return how long penalties last: within what all of them allow, or from the shortest to the longest.

    Args:
        reading: The attempts, read.
    """
    if not reading.episodes:
        return None
    lows = [each.at_least_s for each in reading.episodes]
    highs = [each.at_most_s for each in reading.episodes if each.at_most_s is not None]
    if not highs:
        return Block(max(lows), None, len(lows))
    is_steady = max(lows) <= min(highs)
    low, high = (max(lows), min(highs)) if is_steady else (min(lows), max(highs))
    return Block(low, high, len(lows))


def _rate(symptoms: Iterable[Symptom]) -> Rate:
    outcomes = [each.is_ok for each in symptoms]
    return Rate(outcomes.count(False), len(outcomes))


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson, 1927).

    Args:
        count: How often it happened.
        total: Out of how many, at least 1.
    """
    rate = count / total
    spread = _Z_95 * math.sqrt(rate * (1 - rate) / total + _Z_95**2 / (4 * total**2))
    centre = rate + _Z_95**2 / (2 * total)
    scale = 1 + _Z_95**2 / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
