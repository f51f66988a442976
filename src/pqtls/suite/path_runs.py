"""Runs of the whole examination against the lab's faulty paths: is what comes out what was drawn?"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pqtls.faults.catalogue import fault_name
from pqtls.lab.paths.draws import HEALTHY
from pqtls.lab.paths.path_lab import PathLab
from pqtls.path.examine import examine, limits_for
from pqtls.path.plan import PlanOptions
from pqtls.probe.run import Prober

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pqtls.lab.paths.scenario import Scenario
    from pqtls.path.diagnosis import Diagnosis


@dataclass(frozen=True, slots=True)
class PathRun:
    """One path, examined with its fault and again without.

    Attributes:
        fault: Id of the class.
        seed: What its parameters were drawn by.
        problem: What came out wrong with the fault, "" if nothing.
        control_problem: What came out wrong without it.
        connections: Connections that the examination with the fault took.
        seconds: How long it took.
        named: Ids of the faults that were named.
    """

    fault: str
    seed: int
    problem: str
    control_problem: str
    connections: int
    seconds: float
    named: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Nothing came out wrong."""
        return not self.problem and not self.control_problem

    def to_json(self) -> dict[str, Any]:
        """Return it as an object."""
        return {name: getattr(self, name) for name in self.__slots__}


def run_path(fault: str, seed: int, *, is_loopback: bool = False) -> PathRun:
    """Make a path, examine it, take the fault out, examine it again.

    Args:
        fault: A key of `DRAWINGS` or `HEALTHY` in `pqtls.lab.paths.draws`.
        seed: Decides its parameters.
        is_loopback: On loopback, without namespaces.

    Raises:
        NamespacesRefusedError: The system does not allow it.
    """
    with PathLab(is_loopback=is_loopback) as lab:
        scenario = lab.apply(fault, seed)
        began = time.monotonic()
        found = _examine(lab, scenario)
        seconds = time.monotonic() - began
        problem = find_problem(scenario, found, is_loopback=is_loopback)
        lab.apply(fault, seed, is_removed=True)
        control = _examine(lab, scenario)
        is_healthy = control.verdict == "healthy" and not control.faults
        control_problem = "" if is_healthy else f"{control.verdict} {sorted(control.fault_ids)} without the fault"
    named = tuple(sorted(found.fault_ids))
    return PathRun(fault, seed, problem, control_problem, len(found.attempts), seconds, named)


def _examine(lab: PathLab, scenario: Scenario) -> Diagnosis:
    network = lab.network()
    options = PlanOptions(scenario.is_full, scenario.repeats, network.can_limit_hops)
    return examine(Prober(network, lab.server_name), network, options, limits_for(options))


def find_problem(scenario: Scenario, found: Diagnosis, *, is_loopback: bool = False) -> str:
    """Return how a diagnosis differs from what a path was made to show, "" if it does not.

    Args:
        scenario: The path.
        found: The diagnosis.
        is_loopback: There were no packets, so what only they cost is not expected.
    """
    if found.fault_ids != scenario.expected:
        wanted = ", ".join(sorted(scenario.expected)) or "nothing"
        named = ", ".join(sorted(found.fault_ids)) or found.verdict
        return f"{named} in place of {wanted}"
    if not scenario.expected and found.verdict != "healthy":
        return f"{found.verdict} in place of healthy"
    if missing := scenario.also - set(found.also_fits):
        return f"{', '.join(sorted(missing))} is not told as fitting as well"
    if missing := scenario.triggered_by - set(found.triggered_by):
        return f"{', '.join(sorted(missing))} is not told as what set it off"
    if scenario.state and found.server_state != scenario.state:
        return f"server state {found.server_state} in place of {scenario.state}"
    if missing := (frozenset() if is_loopback else scenario.costs) - {cost.id for cost in found.costs}:
        return f"the cost {', '.join(sorted(missing))} is not told"
    return ""


def run_paths(
    plan: Iterable[tuple[str, int]],
    jobs: int,
    *,
    is_loopback: bool = False,
    report: Callable[[PathRun], None] | None = None,
) -> list[PathRun]:
    """Run paths, several at a time: each waits most of the time.

    Args:
        plan: Classes and seeds, in order.
        jobs: Paths at a time.
        is_loopback: On loopback, without namespaces.
        report: Is told every run as it ends.

    Raises:
        NamespacesRefusedError: The system does not allow it.
    """
    waiting: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
    results: queue.SimpleQueue[PathRun | BaseException] = queue.SimpleQueue()

    def work() -> None:
        while (item := waiting.get()) is not None:
            try:
                results.put(run_path(*item, is_loopback=is_loopback))
            except BaseException as error:  # noqa: BLE001 - it is raised again where somebody waits
                results.put(error)

    items = list(plan)
    for each in (*items, *[None] * jobs):
        waiting.put(each)
    # Threads that nobody waits for: an interruption does not wait for paths, which end with this process.
    for number in range(jobs):
        threading.Thread(target=work, name=f"path-{number}", daemon=True).start()
    done: list[PathRun] = []
    for _ in items:
        result = results.get()
        if isinstance(result, BaseException):
            raise result
        done.append(result)
        if report is not None:
            report(result)
    return done


def render_table(runs: list[PathRun]) -> list[str]:
    """Return the runs as a table in Markdown, a line for each class.

    Args:
        runs: All of them.
    """
    lines = ["| class | runs | right | healthy without it | connections, median and most | seconds, median |"]
    lines.append("|---|---|---|---|---|---|")
    for fault in sorted({run.fault for run in runs}):
        own = [run for run in runs if run.fault == fault]
        right = sum(not run.problem for run in own)
        healthy = sum(not run.control_problem for run in own)
        counts = [run.connections for run in own]
        middle, seconds = statistics.median_high(counts), statistics.median(run.seconds for run in own)
        lines.append(
            f"| {fault if fault in HEALTHY else f'{fault} {fault_name(fault)}'} | {len(own)} | {right} | {healthy} "
            f"| {middle}, {max(counts)} | {seconds:.0f} |"
        )
    return lines
