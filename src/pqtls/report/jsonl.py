"""JSON Lines: one object a line, each with its schema, written and flushed as results come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pqtls.openssl.paths import to_json_text

if TYPE_CHECKING:
    from typing import TextIO

    from pqtls.report.model import CaseResult, Setting, SuiteReport


def setting_to_json(setting: Setting) -> dict[str, Any]:
    """Return the first line of a run: what it runs on.

    Args:
        setting: The setting.
    """
    return {
        "schema": "pqtls/setting/1",
        "pqtls": setting.pqtls,
        "python": setting.python,
        "openssl": {
            "way": setting.way,
            "version": setting.openssl,
            "why": setting.why,
            "source": setting.source,
        },
        "servers": {
            "version": setting.servers or None,
            "groups": setting.server_groups or None,
            "tls": setting.server_tls or None,
        },
        "targets": list(setting.targets),
        "client_groups": setting.client_groups or None,
        "witnesses": setting.witnesses,
        "aws_cli_v2": setting.aws_cli_v2 or None,
    }


def case_to_json(case: CaseResult, *, is_control: bool = False) -> dict[str, Any]:
    """Return the line that closes one case; its connections were written before it, joined by `connections`.

    Args:
        case: The case.
        is_control: It is the suite's negative control.
    """
    return {
        "schema": "pqtls/case/1",
        "case": case.name,
        "title": case.title,
        "control": is_control,
        "verdict": case.verdict,
        "reason": case.reason,
        "exit_code": case.exit_code,
        "failure": case.failure or None,
        "seconds": round(case.seconds, 3),
        "connections": [connection.id for connection in case.connections],
        "allowed": [
            {"id": connection.id, "host": connection.host, "reason": case.allowed[connection.host or ""]}
            for connection in case.connections
            if case.is_allowed(connection)
        ],
        "not_visible_here": list(case.blind_spots),
        "notes": list(case.notes),
        "disagreements": list(case.disagreements),
        "refusals": [
            {
                "server": refusal.server,
                "refused": refusal.was_refused,
                "contacted": refusal.contacted,
                "requests": refusal.requests,
                "exit_code": refusal.exit_code,
            }
            for refusal in case.refusals
        ],
    }


def suite_to_json(report: SuiteReport) -> dict[str, Any]:
    """Return the last line of a run; its absence means that the run did not finish.

    Args:
        report: The run.
    """
    return {
        "schema": "pqtls/suite/1",
        "exit_code": report.exit_code,
        "control_exit_code": report.control_exit_code,
        "cases": {case.name: case.verdict for case in report.cases},
        "seconds": round(report.seconds, 3),
    }


class JsonLinesWriter:
    """Writes lines to an open text file, each flushed, so that what was gathered survives whatever comes.

    Args:
        file: The file; the caller closes it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: dict[str, Any]) -> None:
        """Write one object as one line.

        Args:
            line: The object.
        """
        self._file.write(to_json_text(json.dumps(line, ensure_ascii=False)) + "\n")
        self._file.flush()

    def write_case(self, case: CaseResult, *, is_control: bool = False) -> None:
        """Write a case: an observation a line, then the line that sums it up.

        Args:
            case: The case.
            is_control: It is the suite's negative control.
        """
        for connection in case.connections:
            self.write(connection.to_json())
        self.write(case_to_json(case, is_control=is_control))
