"""The pure model: for each class the right set, for healthy paths never a fault. In full: `make path-model`."""

from __future__ import annotations

import random

import pytest

from pqtls.faults.catalogue import CATALOGUE
from tests.path.faulty_paths import FAULTS
from tests.path.healthy_paths import HEALTHY
from tests.path.model_runs import run_case

FAULT_RUNS, HEALTHY_RUNS, ROUGH_RUNS, BLIND_RUNS = 20, 20, 120, 6


@pytest.mark.parametrize("name", FAULTS)
def test_the_right_set(name: str) -> None:
    wrong = [(seed, problem) for seed in range(FAULT_RUNS) if (problem := run_case(name, seed)[2])]
    assert wrong == []


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_but_different(name: str) -> None:
    runs = ROUGH_RUNS if name == "rough" else HEALTHY_RUNS
    wrong = [(seed, problem) for seed in range(runs) if (problem := run_case(name, seed)[2])]
    assert wrong == []


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_path_without_its_fault_is_healthy(name: str) -> None:
    """The negative control: boxes, holes and faulty servers taken out, everything else as drawn."""
    from pqtls.path.examine import examine
    from pqtls.path.plan import PlanOptions
    from tests.path.drawn_path import draw_tls
    from tests.path.servers_model import TlsApp

    case = FAULTS[name](random.Random(f"{name} control"))  # noqa: S311 - a model, seeded
    simulator = case.simulator
    simulator.link.forward_hole_bytes = simulator.link.reverse_hole_bytes = None
    simulator.make_boxes = list
    tls = draw_tls(simulator.rng)
    simulator.make_app = lambda: TlsApp(tls, simulator.rng)
    found = examine(simulator, simulator, PlanOptions(is_full=case.is_full))
    assert (found.verdict, found.faults) == ("healthy", ())


def test_every_class_of_the_catalogue_is_simulated() -> None:
    simulated = set(FAULTS) | {name.partition("-")[0] for name in HEALTHY}
    assert set(CATALOGUE) - simulated == set()


def test_limits_are_kept() -> None:
    for name in FAULTS:
        case, found, _ = run_case(name, 99)
        if not case.is_full and not case.repeats:
            assert len(found.attempts) <= 40
            assert found.attempts[-1].started_s <= 60


def test_ports_are_fresh_and_controls_follow_failures() -> None:
    _, found, _ = run_case("F13", 3)
    ports = [attempt.local_port for attempt in found.attempts]
    assert len(set(ports)) == len(ports)
    for attempt, after in zip(found.attempts, found.attempts[1:], strict=False):
        if attempt.ending != "answered" and attempt.experiment != "E1":
            assert after.experiment == "E1"


@pytest.mark.parametrize("name", [*FAULTS, *HEALTHY])
def test_without_tcp_facts_more_classes_fit_and_never_others(name: str) -> None:
    """The same paths on a platform that says nothing of its connections, not even how big their segments are."""
    from pqtls.path.examine import examine

    for seed in range(BLIND_RUNS):
        case = (FAULTS | HEALTHY)[name](random.Random(f"{name} {seed}"))  # noqa: S311 - a model, seeded
        case.simulator.has_tcp_facts = False
        found = examine(case.simulator, case.simulator, case.options)
        assert found.verdict == ("fault" if case.expected else "healthy"), (seed, found.answer)
        assert case.expected <= found.fault_ids, (seed, found.answer)
        assert bool(case.expected) or not found.faults, (seed, found.answer)
        assert any("platform" in note for note in found.notes)


def test_without_tcp_facts_fewer_classes_can_be_told_apart() -> None:
    """A closed window is not told from a fixed buffer, nor a hole both ways from one on the way back."""
    from pqtls.path.examine import examine

    told: dict[bool, set[frozenset[str]]] = {True: set(), False: set()}
    for has_facts, sets in told.items():
        for name in ("F06", "F14"):
            for seed in range(BLIND_RUNS):
                case = FAULTS[name](random.Random(f"{name} {seed}"))  # noqa: S311 - a model, seeded
                case.simulator.has_tcp_facts = has_facts
                found = examine(case.simulator, case.simulator, case.options)
                sets.add(found.fault_ids)
                if found.fault_ids == {"F13", "F14"}:
                    assert found.faults[0].id == "F14", "one hole is more common than two"
                    assert found.where == "network-path"
    assert told[True] == {frozenset({"F06"}), frozenset({"F14"})}
    assert {frozenset({"F03", "F06"}), frozenset({"F13", "F14"})} <= told[False]
