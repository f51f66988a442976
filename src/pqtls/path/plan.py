"""Which experiment comes next: pure, from the attempts so far.

A healthy path takes three connections. Anything else opens the whole set, the safest first, with the control again
after every failure: a box may punish (F40), and then nothing else that fails means anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.path.findings import find_block
from pqtls.path.forecasts import explain
from pqtls.path.pools import find_mixed, find_pool, next_count, next_repeat
from pqtls.path.reading import CONTROL, SILENT, read_attempts
from pqtls.path.sharpening import next_sharpening
from pqtls.path.state import find_server_state, is_mixed
from pqtls.wire.codepoints import TLS13

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.path.reading import Reading
    from pqtls.probe.model import Attempt

FAST = (CONTROL, "E23", "E3")
# Safest first: small and classical, then big and classical, then hybrid.
FULL = (
    *("E15", "E15c", "E13", "E14", "E9", "E4", "E2", "E2s", "E3(0)", "E3(after)", "E3(3)", "E7d", "E16c"),
    *("E5", "E6", "E7", "E7b", "E8(536)", "E8(1000)", "E10", "E12c", "E12", "E16h"),
)
# They offer TLS 1.3 alone, which a server of TLS 1.2 refuses whatever else is in them: what is done in their place.
_BEFORE_TLS12 = {"E14": "E14(1700)", "E10": "E10(1700)", "E16h": ""}
_WITHOUT_CONTROL = ("E23", "E15c", "E0", "E8c", "E8c(536)", "E8(1000)", "E17", "E1t(1.3)", "E1t(1.2)")
# As big as an Envoy's hello (inetaf/tcpproxy#40): there are buffers of 4096 bytes, which today's hybrids still fit.
BIGGEST = "E2(5500)"
_GREASE_FIELDS = ("E13(ciphers)", "E13(extensions)", "E13(groups)", "E13(signatures)", "E13(versions)")
# How long to wait before the control is tried again, and again, while a penalty may last.
_WAITS_S = (0.5, 2.0, 5.0, 10.0, 10.0, 10.0, 10.0)
# Penalties of two minutes are known (LxBox#142); with --full there is time for one.
_MORE_WAITS_S = (15.0,) * 8
# Controls that must get through in a row after a penalty, to tell it from a control that fails by chance.
_PROOFS = 4
# A router that decides by chance refuses some; so many in a row are no chance any more.
_REFUSED_CONTROLS = 7
_SPACING_S = 0.05
_AFTER_FAILURE_S = 0.2
# A router's word takes a round trip, its own share of it; what is silent for longer does not tell.
_HOP_TIMEOUT_S = 1.5
_MAX_REPEATS = 2
_FEW = 3
# One or two experiments that fail, of so many, may do so by chance: these are repeated once more.
_VERY_FEW, _MORE_REPEATS = 2, 3
# How often a server must take a hello, where it refuses the control, before that is called its choice.
TAKEN_TIMES = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        experiment: Which experiment.
        wait_s: Seconds to wait before it.
        is_optional: It only says more of what is known: no loss where there is no time for it.
        timeout_s: Seconds after which silence is silence, None for what the examination goes by.
    """

    experiment: str
    wait_s: float = _SPACING_S
    is_optional: bool = False
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What was asked for.

    Attributes:
        is_full: The whole set in any case.
        repeats: How often the hybrid, a cut hello and the control are repeated in turn at the end, 0 for not at all.
        can_limit_hops: Packets can be given few hops, to find the hop that drops or answers (E21).
    """

    is_full: bool = False
    repeats: int = 0
    can_limit_hops: bool = False


def next_step(attempts: Sequence[Attempt], options: PlanOptions | None = None) -> Step | None:
    """Return what to do next, None when enough is known.

    Args:
        attempts: What was done so far, in order.
        options: What was asked for.
    """
    options = options or PlanOptions()
    if not attempts:
        return Step(CONTROL, 0.0)
    reading = read_attempts(attempts)
    last = reading.symptoms[-1]
    if not reading.passed(CONTROL):
        return _without_control(reading)
    if last.attempt.experiment == CONTROL and not last.is_ok:
        return _wait_for_control(reading, options)
    if not last.is_ok and not _is_expected(last.attempt):
        return Step(CONTROL, _AFTER_FAILURE_S)
    if (proof := _prove_penalty(reading)) is not None:
        return proof
    for experiment in FAST:
        tried = reading.of(experiment)
        if not tried:
            return Step(experiment)
        # A request for a connection can get lost like anything else.
        if len(tried) < _MAX_REPEATS and not any(each.attempt.is_connected for each in tried):
            return Step(experiment, _AFTER_FAILURE_S)
    is_clean = not reading.failures and all(each.is_ok for each in reading.symptoms if each.attempt.experiment in FAST)
    done = {attempt.experiment for attempt in attempts}
    if not reading.episodes and _may_come_and_go(reading) and not explain(reading):
        counted = next_count(reading)
        if counted is not None or find_pool(reading) is not None:
            return _repeat(reading, options) if counted is None else Step(counted, _AFTER_FAILURE_S)
    experiments = _state_experiments(attempts) if is_clean and not options.is_full else _full_set(reading, attempts)
    if options.is_full:
        experiments = (*experiments, BIGGEST)
    missing = next((each for each in experiments if each not in done), None)
    if missing is not None:
        return Step(missing)
    return _confirm(reading) or _repeat(reading, options) or _sharpen(reading, options)


def _may_come_and_go(reading: Reading) -> bool:
    """Tell whether the same hello may get through at other times. What is silent may still come to be explained."""
    spoken = [each for each in reading.failures if each.kind not in SILENT]
    return len(spoken) >= _MAX_REPEATS or bool(find_mixed(reading))


def _sharpen(reading: Reading, options: PlanOptions) -> Step | None:
    """Say more of what is known: how big, how late, how far."""
    if reading.episodes:
        return None
    can_limit_hops = options.can_limit_hops
    found = next_sharpening(reading, explain(reading), is_full=options.is_full, can_limit_hops=can_limit_hops)
    if found is None:
        return None
    return Step(found, _SPACING_S, is_optional=True, timeout_s=_HOP_TIMEOUT_S if found.startswith("E21") else None)


def _prove_penalty(reading: Reading) -> Step | None:
    """Return what is still to be done to tell a penalty from a control that fails by chance."""
    for episode in reading.episodes[:1]:
        if _controls_in_a_row(reading) < _PROOFS:
            return Step(CONTROL, _AFTER_FAILURE_S)
        # A penalty is one only if what set it off does so again; a control that fails by chance does not follow it.
        if len(reading.of(episode.trigger.attempt.experiment)) < _MAX_REPEATS:
            return Step(episode.trigger.attempt.experiment, _AFTER_FAILURE_S)
    return None


def _controls_in_a_row(reading: Reading) -> int:
    """Return the longest row of controls that got through, one right after the other."""
    longest = row = 0
    for symptom in reading.symptoms:
        row = row + 1 if symptom.is_ok and symptom.attempt.experiment == CONTROL else 0
        longest = max(longest, row)
    return longest


def _is_expected(attempt: Attempt) -> bool:
    """Tell whether this is a server's own refusal of what it may refuse: no reason for a control."""
    from pqtls.probe.experiments import find_experiment

    return find_experiment(attempt.experiment).is_declinable and attempt.ending == "alert"


def _without_control(reading: Reading) -> Step | None:
    controls = reading.of(CONTROL)
    if all(each.kind == "no-connection" for each in controls):
        return Step(CONTROL, 1.0) if len(controls) < 2 else None
    if reading.plain_protocol:
        return Step(CONTROL, _AFTER_FAILURE_S) if len(controls) < _MAX_REPEATS else None
    is_refused = all(each.kind in ("reset", "closed") for each in controls)
    if len(controls) < (_REFUSED_CONTROLS if is_refused else 2):
        return Step(CONTROL, 0.3 if is_refused else 1.0)
    # Asked for another share each time: one more hello has both that servers ask for.
    needs_retry = all(each.is_after_retry for each in controls)
    experiments = ("E16c", *_WITHOUT_CONTROL) if needs_retry else _WITHOUT_CONTROL
    missing = next((each for each in experiments if not reading.of(each)), None)
    taken = (each for each in ("E23", "E15c") if reading.passed(each) and len(reading.of(each)) < TAKEN_TIMES)
    experiment = missing or next(taken, None)
    return None if experiment is None else Step(experiment, _AFTER_FAILURE_S)


def _wait_for_control(reading: Reading, options: PlanOptions) -> Step | None:
    failed = 0
    for symptom in reversed(reading.symptoms):
        if symptom.attempt.experiment != CONTROL or symptom.is_ok:
            break
        failed += 1
    waits_s = _WAITS_S + (_MORE_WAITS_S if options.is_full else ())
    if failed > len(waits_s):
        return None
    if reading.is_control_by_chance:
        return Step(CONTROL, _AFTER_FAILURE_S)
    return Step(CONTROL, _wait_s(reading, failed, waits_s[failed - 1]))


def _wait_s(reading: Reading, failed: int, usual_s: float) -> float:
    """Return how long to wait under a penalty: once one was over, half-way between what is known of its length."""
    known = find_block(reading)
    if failed > 1 or known is None or known.at_most_s is None:
        return usual_s
    trigger, control = reading.symptoms[-2:]
    passed_s = control.attempt.started_s - trigger.attempt.started_s
    return max(_AFTER_FAILURE_S, (known.at_least_s + known.at_most_s) / 2 - passed_s)


def _state_experiments(attempts: Sequence[Attempt]) -> tuple[str, ...]:
    """Return what tells how far the server is, where the hybrid was answered with something else."""
    newest = next(attempt for attempt in attempts if attempt.experiment == "E23" and attempt.ending == "answered")
    state = find_server_state(attempts)
    if newest.version != TLS13:
        return ("E17",)
    if state in ("preferred", "only-by-retry"):
        return ()
    # With x25519 beside it, a server that prefers that asks for it (E10); alone, the hybrid is all there is (E11).
    asked = ("E10", "E11")
    # Offered both again (E5, E4): one that then takes the hybrid prefers nothing, but is another server of a pool.
    return (*asked, "E5", "E4") if state == "supported" or is_mixed(attempts) else (*asked, "E12", "E24", "E17")


def _find_idle(reading: Reading) -> set[str]:
    """Return those of the whole set that would say nothing new by now."""
    skipped: set[str] = set()
    if reading.failed("E4") and reading.passed("E2") and reading.passed("E2s") and reading.passed("E3"):
        # The group, not the size: how the hybrid is cut no longer matters.
        skipped |= {"E6", "E7", "E7b"}
        if not any(each.kind in SILENT for each in reading.of("E4")):
            skipped |= {"E8(536)", "E8(1000)"}
    if reading.failed("E5"):
        # With the name first it fails already.
        skipped.add("E6")
        if reading.passed("E3") and reading.passed("E3(0)"):
            skipped.add("E7b")
    if reading.failed("E8(536)"):
        skipped.add("E8(1000)")
    if reading.failed("E4") and reading.failed("E2s"):
        # One segment of this size is too much, whatever is in it.
        skipped |= {"E10", "E16h"}
    if not reading.passed("E14") and reading.failed("E9"):
        skipped |= {"E16h"}
    return skipped


def _full_set(reading: Reading, attempts: Sequence[Attempt]) -> tuple[str, ...]:
    """Return the whole set as far as it makes sense by now."""
    idle = _find_idle(reading)
    instead = _BEFORE_TLS12 if find_server_state(attempts) == "tls12" else {}
    found = [name for each in FULL if each not in idle and (name := instead.get(each, each))]
    if reading.failed("E13"):
        found += _GREASE_FIELDS
    if any(each.is_ok and not each.attempt.was_retried for each in reading.of("E12c")):
        found.append("E12d")
    if reading.failed("E16h") and reading.passed("E5"):
        found.append("E2(2700)")
    if reading.failed("E10") and reading.passed("E14"):
        found += ["E31", "E10p"]
    if any(each.kind == "other-certificate" for each in reading.symptoms):
        found.append("E17n")
    if find_server_state(attempts) == "classical":
        # An inspecting box may have a fault of its own beside; and one that prefers classical groups looks classical
        # until it is offered the hybrid alone.
        found += ["E11", "E17"] if reading.failures else ["E11", "E24", "E17"]
    return tuple(found)


def _confirm(reading: Reading) -> Step | None:
    """Repeat what was seen once, where few things failed or nothing explains them all."""
    failures = reading.failures
    if not failures:
        return None
    names = list(dict.fromkeys(each.attempt.experiment for each in failures))
    if len(names) > _FEW and explain(reading):
        return None
    repeats = _MORE_REPEATS if len(names) <= _VERY_FEW else _MAX_REPEATS
    for name in names:
        if len(reading.of(name)) < repeats:
            return Step(name, _AFTER_FAILURE_S)
    return None


def _repeat(reading: Reading, options: PlanOptions) -> Step | None:
    """E20, as asked for."""
    name = next_repeat(reading, options.repeats) if options.repeats else None
    return None if name is None else Step(name, _AFTER_FAILURE_S)
