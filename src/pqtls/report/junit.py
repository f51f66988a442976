"""JUnit XML, as CI systems read it: a test case per client, its connections as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from pqtls.errors import EXIT_FINDING, EXIT_INCONCLUSIVE
from pqtls.report.terminal import describe_connection, describe_refusal

if TYPE_CHECKING:
    from pqtls.report.model import CaseResult, SuiteReport

# Characters that XML 1.0 cannot carry, whatever a client printed.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: SuiteReport) -> str:
    """Return the whole report as one JUnit document.

    Args:
        report: The run. Not-post-quantum is a failure; inconclusive and disagreement are errors.
    """
    root = ET.Element("testsuites", name="pqtls test")
    suite = ET.SubElement(root, "testsuite", name=f"pqtls ({report.setting.way}: {report.setting.openssl})")
    failures = errors = 0
    for case in report.cases:
        element = ET.SubElement(
            suite, "testcase", classname="pqtls.test", name=_clean(case.title), time=f"{case.seconds:.3f}"
        )
        kind = _kind(case)
        if kind is not None:
            problem = ET.SubElement(element, kind, message=_clean(_message(case)), type=case.reason)
            problem.text = _clean(case.output)
            failures += kind == "failure"
            errors += kind == "error"
        lines = [line for connection in case.connections for line in describe_connection(connection)]
        ET.SubElement(element, "system-out").text = _clean("\n".join(lines))
    control = ET.SubElement(suite, "testcase", classname="pqtls.test", name="negative control (x25519)")
    if report.control_exit_code != 0:
        ET.SubElement(control, "error", message=f"the control came out {report.control.verdict}", type="control")
        errors += 1
    suite.attrib.update(
        tests=str(len(report.cases) + 1),
        failures=str(failures),
        errors=str(errors),
        time=f"{report.seconds:.3f}",
    )
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _kind(case: CaseResult) -> str | None:
    controls = {refusal.exit_code_of_control for refusal in case.refusals}
    if EXIT_FINDING in controls or case.verdict == "not-post-quantum":
        return "failure"
    return "error" if EXIT_INCONCLUSIVE in controls or case.verdict in ("inconclusive", "disagreement") else None


def _message(case: CaseResult) -> str:
    parts = [f"{case.verdict} ({case.reason})", *filter(None, [case.failure]), *case.disagreements, *case.blind_spots]
    parts += [
        f"did not refuse the {each.server} server: {describe_refusal(each)}"
        for each in case.refusals
        if not each.was_refused
    ]
    return "; ".join(parts)


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
