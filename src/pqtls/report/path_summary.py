"""Several targets in one table, at the end of `pqtls path`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.faults.catalogue import fault_name
from pqtls.report.terminal import clean_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.path.diagnosis import Diagnosis
    from pqtls.report.terminal import Line

_STYLES = {"healthy": "green", "fault": "bold red", "inconclusive": "yellow"}
_MAX_NAME_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One target at one address.

    Attributes:
        target: Host and port as asked for.
        address: IP address, "" if there was none.
        found: The diagnosis; None where there was nothing to examine.
        problem: Why not; "" where there is a diagnosis.
    """

    target: str
    address: str = ""
    found: Diagnosis | None = None
    problem: str = ""


def render_summary(rows: Sequence[Row], planned: int) -> list[Line]:
    """Return the table, and a line that counts.

    Args:
        rows: In the order in which they were examined.
        planned: How many targets there were to examine.
    """
    names = [_name(row) for row in rows]
    width = min(_MAX_NAME_WIDTH, max(map(len, names), default=0))
    lines: list[Line] = [[]]
    for row, name in zip(rows, names, strict=True):
        verdict = "inconclusive" if row.found is None else row.found.verdict
        lines.append([(f"{name:<{width}}  ", ""), (f"{verdict:<12}  ", _STYLES[verdict]), (_say(row), "")])
    counts = {verdict: sum(_verdict(row) == verdict for row in rows) for verdict in _STYLES}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    done = len({row.target for row in rows})
    cut = "" if done == planned else f"; {planned - done} of {planned} not examined"
    lines.append([(f"{done} target{'s' * (done != 1)}, {len(rows)} examined: {told or 'nothing'}{cut}", "bold")])
    return [[(clean_text(text), style) for text, style in line] for line in lines]


def _verdict(row: Row) -> str:
    return "inconclusive" if row.found is None else row.found.verdict


def _name(row: Row) -> str:
    return row.target if not row.address or row.address in row.target else f"{row.target} ({row.address})"


def _say(row: Row) -> str:
    if row.found is None:
        return row.problem
    faults = " or ".join(f"{each.id} {fault_name(each.id)}" for each in row.found.faults)
    if row.found.verdict == "inconclusive":
        return row.found.notes[0] if row.found.notes else row.found.answer
    state = "" if row.found.server_state == "unknown" else row.found.server_state
    return "; ".join(part for part in (faults, state) if part)
