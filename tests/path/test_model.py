"""The pure model: for each class the right set, for healthy paths never a fault. In full: `make path-model`."""

from __future__ import annotations

import random

import pytest

from pqtls.faults.catalogue import CATALOGUE
from tests.path.faulty_paths import FAULTS, HEALTHY
from tests.path.model_runs import run_case

FAULT_RUNS, HEALTHY_RUNS, ROUGH_RUNS = 20, 20, 120


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
    from tests.path.faulty_paths import draw_tls
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


def test_without_tcp_facts_fewer_classes_can_be_told_apart() -> None:
    """The same black hole, on a platform that says nothing of its connections: more fit, and the answer says so."""
    from pqtls.path.examine import examine
    from pqtls.path.plan import PlanOptions

    case = FAULTS["F13"](random.Random("no facts"))  # noqa: S311 - a model, seeded
    case.simulator.has_tcp_facts = False
    found = examine(case.simulator, case.simulator, PlanOptions())
    assert "F13" in found.fault_ids
    assert any("platform" in note for note in found.notes)
