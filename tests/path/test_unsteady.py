"""What comes and goes names no class that fails always, and is not called healthy where it was seen."""

from __future__ import annotations

import random

import pytest

from pqtls.path.diagnosis import Diagnosis
from pqtls.path.examine import examine
from pqtls.path.plan import PlanOptions
from tests.path.drawn_path import draw_link, draw_tls
from tests.path.servers_model import HYBRID, P256, X25519, FirstFlightBox, TlsApp
from tests.path.simulator import Simulator
from tests.path.unsteady_paths import UNSTEADY
from tests.path.wire_model import Box

RUNS = 40


def examine_unsteady(name: str, seed: int) -> tuple[Diagnosis, frozenset[str]]:
    rng = random.Random(f"{name} {seed}")  # noqa: S311 - a model, seeded
    simulator, allowed = UNSTEADY[name](rng)
    return examine(simulator, simulator, PlanOptions(is_full=rng.random() < 0.3)), allowed


@pytest.mark.parametrize("name", UNSTEADY)
def test_no_other_class_is_named(name: str) -> None:
    wrong = []
    for seed in range(RUNS):
        found, allowed = examine_unsteady(name, seed)
        if not found.fault_ids <= allowed:
            wrong.append((seed, found.answer))
    assert wrong == []


@pytest.mark.parametrize("name", ["chance-for-all", "dead-backend"])
def test_what_failed_again_and_again_is_not_healthy(name: str) -> None:
    for seed in range(RUNS):
        found, _ = examine_unsteady(name, seed)
        failed = [each.experiment for each in found.attempts if each.ending not in ("answered", "silent", "retry-only")]
        counted = [each for each in failed if each not in ("E11", "E17", "E24")]
        assert found.verdict != "healthy" or len(counted) <= 2, (seed, found.answer, counted)


def test_a_pool_of_old_and_new_servers_is_a_state_and_told() -> None:
    """Where both kinds were met; three connections may meet one kind only."""
    answers, misjudged = [], 0
    for seed in range(RUNS):
        found, _ = examine_unsteady("mixed-pool", seed)
        assert found.verdict == "healthy"
        misjudged += found.server_state == "supported"  # by chance: neither kind prefers classical groups
        assert found.also_fits == (), "it is a state, and no fault"
        answers += [found.answer] * any("several servers stand behind" in note for note in found.notes)
    assert answers
    assert misjudged < RUNS / 8
    assert all("chance" in answer for answer in answers)


def test_a_penalty_needs_no_class_that_sets_it_off() -> None:
    """A box that resets on big packets (no class of its own), then refuses the address after every failure."""
    rng = random.Random("penalty")  # noqa: S311 - a model, seeded
    tls = draw_tls(rng, groups=(HYBRID, X25519, P256))
    simulator = Simulator(rng, draw_link(rng), lambda: TlsApp(tls, rng), block_kind="reset")

    class BigPackets(FirstFlightBox):
        def dislikes(self, offset: int, payload: bytes) -> bool:
            return len(payload) > 1300

    def make_boxes() -> list[Box]:
        box = BigPackets("reset")

        def block() -> None:
            simulator.blocked_until_s = simulator.clock_s + 4.0

        box.on_kill = block
        return [box]

    simulator.make_boxes = make_boxes
    found = examine(simulator, simulator)
    assert found.fault_ids == {"F40"}, found.answer
