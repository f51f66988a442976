"""Run the model: `python -m tests.path.model_runs 1000 2000` prints the table of docs/path.md."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from pqtls.path.examine import examine
from tests.path.faulty_paths import FAULTS
from tests.path.healthy_paths import HEALTHY

if TYPE_CHECKING:
    from pqtls.path.diagnosis import Diagnosis
    from pqtls.path.findings import Findings
    from tests.path.drawn_path import Case


def run_case(name: str, seed: int) -> tuple[Case, Diagnosis, str]:
    """Return the case, its diagnosis, and what is wrong with it ("" if nothing)."""
    rng = random.Random(f"{name} {seed}")  # noqa: S311 - a model, seeded
    case = (FAULTS | HEALTHY)[name](rng)
    found = examine(case.simulator, case.simulator, case.options)
    return case, found, check(case, found)


def check(case: Case, found: Diagnosis) -> str:
    if found.fault_ids != case.expected:
        return f"faults {sorted(found.fault_ids)} in place of {sorted(case.expected)} ({found.verdict}: {found.notes})"
    if not case.expected and found.verdict != "healthy":
        return f"{found.verdict} in place of healthy: {found.notes} {found.also_fits}"
    if found.verdict == "healthy" and found.also_fits:
        return f"healthy, and yet {found.also_fits} fits"
    if not case.also <= set(found.also_fits):
        return f"also fits {found.also_fits}, without {sorted(case.also - set(found.also_fits))}"
    if not case.triggered_by <= set(found.triggered_by):
        return f"triggered by {found.triggered_by} in place of {sorted(case.triggered_by)}"
    if case.state and found.server_state != case.state:
        return f"server state {found.server_state} in place of {case.state}"
    costs = {cost.id for cost in found.costs}
    if not case.costs <= costs:
        return f"costs {sorted(costs)} without {sorted(case.costs - costs)}"
    return check_findings(case, found.findings)


def check_findings(case: Case, findings: Findings) -> str:
    """Return which finding contradicts what was drawn."""
    size, gap, hops, block = findings.size, findings.gap, findings.hops, findings.block
    if case.size_bytes is not None and not (size and size.passed_bytes <= case.size_bytes < size.failed_bytes):
        return f"{size} in place of {case.size_bytes} bytes"
    if case.is_by_pause is not None:
        # What failed without a pause each time does not tell; and that needs three times.
        seen = {case.is_by_pause} if gap is None or not gap.unpaused.is_always else {False, None}
        if gap is None or gap.depends not in seen:
            return f"{gap}, and it is by the pause: {case.is_by_pause}"
    link = case.simulator.link
    place = link.box_after + 1 if case.has_place else link.hops
    if hops is not None and not hops.after < place <= hops.at:
        return f"{hops} in place of hop {place}"
    before = None if hops is None else hops.is_before_server
    if (before and place >= link.hops) or (before is False and place < link.hops):
        return f"{hops} with the server at hop {link.hops}"
    # An end that was not seen is right where the examination was too short for it.
    at_most_s = math.inf if "F50" in case.also else 0.0
    if case.block_s and not (block and block.at_least_s <= case.block_s <= (block.at_most_s or at_most_s) + 1e-9):
        return f"{block} in place of {case.block_s:.1f} s"
    return ""


def count_case(name: str, seed: int) -> tuple[int, str]:
    """Return how many connections a case took, and what is wrong with it ("" if nothing)."""
    _, found, problem = run_case(name, seed)
    return len(found.attempts), problem


def main() -> int:
    """Print a table of all classes; return 1 if one run is wrong."""
    runs, healthy_runs = int(sys.argv[1]), int(sys.argv[2])
    only = sys.argv[3:]
    wrong_total = 0
    print("| class | runs | right | connections, median and most |\n|---|---|---|---|")
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for name in [*FAULTS, *HEALTHY]:
            if only and name not in only:
                continue
            began = time.monotonic()
            outcomes = pool.map(partial(count_case, name), range(healthy_runs if name in HEALTHY else runs))
            wrong = [(seed, problem) for seed, (_, problem) in enumerate(outcomes) if problem]
            connections = sorted(count for count, _ in outcomes)
            median, right = connections[len(connections) // 2], len(outcomes) - len(wrong)
            print(f"| {name} | {len(outcomes)} | {right} | {median}, {connections[-1]} |", flush=True)
            for seed, problem in wrong[:3]:
                print(f"    seed {seed}: {problem}", file=sys.stderr)
            print(f"    {name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
            wrong_total += len(wrong)
    return 1 if wrong_total else 0


if __name__ == "__main__":
    sys.exit(main())
