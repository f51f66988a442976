"""The negative control: a client that is held to x25519, which must never come out post-quantum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.suite.case import load_builtin_cases
from pqtls.suite.result import case_result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.lab.names import Address
    from pqtls.report.model import CaseResult
    from pqtls.suite.client import Client

CONTROL_GROUPS = "x25519"
CONTROL_CASE = "socket-ssl"


def run_control(client: Client[Address], server: Address, environment: Mapping[str, str]) -> CaseResult:
    """Run the control against a server of the lab.

    Args:
        client: Who runs it.
        server: A server that would choose ML-KEM.
        environment: What holds it to `CONTROL_GROUPS`.
    """
    case = next(each for each in load_builtin_cases() if each.name == CONTROL_CASE)
    return case_result(case, client.run(case, server, environment))
