"""From what one process did to the result that reports show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.report.model import CaseResult
from pqtls.suite.failure import explain_failure, hide_user_info

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.report.model import Refusal
    from pqtls.suite.case import Case
    from pqtls.suite.client import ClientRun
    from pqtls.suite.target import Target


def case_result(
    case: Case,
    run: ClientRun,
    *,
    allowed: Mapping[str, str] | None = None,
    refusals: tuple[Refusal, ...] = (),
    target: Target | None = None,
) -> CaseResult:
    """Return a case's result.

    Args:
        case: The case.
        run: What its process did.
        allowed: Host to reason, for hosts that may be classical.
        refusals: Its certificate controls.
        target: The real server that it was sent to; None in the lab.
    """
    failure = explain_failure(run.finished.exit_code, run.finished.output)
    return CaseResult(
        name=case.name if target is None else f"{case.name}@{target.name}",
        title=case.title if target is None else f"{case.title}, {target.name}",
        exit_code=run.finished.exit_code,
        seconds=run.finished.seconds,
        output=hide_user_info(run.finished.output),
        connections=run.connections,
        allowed=dict(allowed or {}),
        blind_spots=run.blind_spots,
        notes=(*case.notes, *run.notes),
        disagreements=run.disagreements,
        refusals=refusals,
        target_host=None if target is None else target.host,
        # AWS's own clients may be told elsewhere: a VPC endpoint, FIPS, dual stack.
        must_reach_target=target is not None and not (target.region and case.is_for_aws),
        failure_reason="" if failure is None else failure.reason,
        failure="" if failure is None else failure.sentence,
    )
