"""What outcomes amount to: the exit code of a run, from its cases, its controls and its witnesses."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pqtls.observe.observation import Observation, Process, observe
from pqtls.report.jsonl import JsonLinesWriter, suite_to_json
from pqtls.report.junit import render_junit
from pqtls.report.model import CaseResult, Refusal, Setting, SuiteReport
from pqtls.report.terminal import clean_text, render_case, render_ending
from pqtls.wire.facts import Side
from tests.wire.vectors import load

SETTING = Setting("0", "3.11", "graft", "OpenSSL 3.5.9", "why", "source", "servers", "", "", "witnesses")


def seen(name: str) -> Observation:
    return observe(load(name).track_messages(Side.CLIENT), name.ljust(16, "0")[:16], "recorder")


def case(*names: str, **changes: Any) -> CaseResult:
    result = CaseResult("x", "x", 0, 1.0, "output", tuple(seen(name) for name in names))
    return replace(result, **changes)


def report(*cases: CaseResult, control: CaseResult | None = None) -> SuiteReport:
    return SuiteReport(SETTING, cases, control or case("classical-only"), 1.0)


REFUSED = Refusal("wrong-ca", contacted=True, requests=0, exit_code=1)


@pytest.mark.parametrize(
    ("result", "verdict", "code"),
    [
        (case("hybrid"), "post-quantum", 0),
        (case("hybrid", "mlkem1024"), "post-quantum", 0),
        (case("hybrid", "classical-chosen"), "not-post-quantum", 1),
        (case("hybrid", "tls12-rsa"), "not-post-quantum", 1),
        (case("hybrid", "certificate-refused"), "inconclusive", 3),
        (case(), "inconclusive", 3),
        (case("hybrid", exit_code=1), "inconclusive", 3),
        (case("hybrid", exit_code=None), "inconclusive", 3),
        (case("hybrid", blind_spots=("something",)), "inconclusive", 3),
        (case("hybrid", notes=("something",)), "post-quantum", 0),
        (case("hybrid", disagreements=("something",)), "disagreement", 4),
        (case("classical-chosen", disagreements=("something",)), "disagreement", 4),
        (case("classical-chosen", allowed={"server.example": "why"}), "allowed", 0),
        (case("hybrid", "classical-chosen", allowed={"server.example": "why"}), "allowed", 0),
        (case("hybrid", "classical-chosen", allowed={"other.example": "why"}), "not-post-quantum", 1),
        (case("certificate-refused", allowed={"server.example": "why"}), "inconclusive", 3),
        (case("hybrid", refusals=(REFUSED,)), "post-quantum", 0),
        (case("hybrid", refusals=(replace(REFUSED, requests=1),)), "post-quantum", 1),
        (case("hybrid", refusals=(replace(REFUSED, exit_code=0),)), "post-quantum", 1),
        (case("hybrid", refusals=(replace(REFUSED, contacted=False),)), "post-quantum", 3),
    ],
)
def test_case(result: CaseResult, verdict: str, code: int) -> None:
    assert (result.verdict, result.exit_code_of_case) == (verdict, code)
    assert report(result).exit_code == code
    assert result.reason
    assert render_case(result, 1)
    assert ("PASS" in "".join(text for text, _ in render_ending(report(result))[-1])) == (code == 0)


def test_ech_is_never_allowed_by_its_outer_name() -> None:
    one = seen("classical-chosen")
    hidden = observe(replace(one.handshake, ech=True), one.id, "relay")
    result = CaseResult("x", "x", 0, 1.0, "", (hidden,), {"server.example": "why"})
    assert result.verdict == "not-post-quantum"


@pytest.mark.parametrize(
    ("control", "code"),
    [
        (case("classical-only"), 0),
        (case("classical-chosen"), 0),
        (case("hybrid"), 4),
        (case("classical-only", "hybrid"), 4),
        (case("no-common-group"), 3),
        (case(), 3),
        (case("classical-only", disagreements=("something",)), 4),
    ],
)
def test_the_negative_control_decides_over_everything(control: CaseResult, code: int) -> None:
    """Were a client held to x25519 called post-quantum, nothing that the run says could be believed."""
    assert report(case("hybrid"), control=control).exit_code == code


def test_no_case_proves_nothing() -> None:
    assert report().exit_code == 3


def test_precedence() -> None:
    pq, classical, unsure = case("hybrid"), case("classical-only"), case()
    assert report(pq, unsure).exit_code == 3
    assert report(pq, unsure, classical).exit_code == 1
    assert report(pq, unsure, classical, case("hybrid", disagreements=("x",))).exit_code == 4


def test_no_peer_can_steer_the_terminal() -> None:
    one = seen("hybrid")
    hostile = observe(replace(one.handshake, sni="a\x1b[2Jb\nPASS"), one.id, "relay")
    result = CaseResult("x", "x", 1, 1.0, "out\x1b]0;title\x07put", (hostile,))
    text = "".join(piece for line in render_case(result, 1) for piece, _ in line)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert clean_text("a\tb\x00") == "a\ufffdb\ufffd"


def test_junit_survives_any_output() -> None:
    result = case("classical-chosen", output="\x00\x1b bad \ud800 </testcase>&")
    suite = ET.fromstring(render_junit(report(result)).encode())[0]  # noqa: S314 - our own text
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    unsure = ET.fromstring(render_junit(report(case())).encode())[0]  # noqa: S314 - our own text
    assert (unsure.get("failures"), unsure.get("errors")) == ("0", "1")
    unrefused = case("hybrid", refusals=(replace(REFUSED, requests=1),))
    suite = ET.fromstring(render_junit(report(unrefused)).encode())[0]  # noqa: S314 - our own text
    assert suite.get("failures") == "1"
    unmet = case("hybrid", refusals=(replace(REFUSED, contacted=False),))
    suite = ET.fromstring(render_junit(report(unmet)).encode())[0]  # noqa: S314 - our own text
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1"), "inconclusive, as its exit code says"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"requests": 1}, "its request got through, so verification is not on"),
        ({"exit_code": 0}, "it sent no request, but ended with exit code 0, as if it had its answer"),
        ({"exit_code": None}, "it sent no request, but did not end in time either"),
        ({"contacted": False}, "it never reached it, so nothing is shown"),
    ],
)
def test_why_a_certificate_control_did_not_hold(changes: dict[str, Any], words: str) -> None:
    """Only a request that got through shows that verification is off."""
    result = case("hybrid", refusals=(replace(REFUSED, **changes),))
    text = "\n".join("".join(piece for piece, _ in line) for line in render_case(result, 1))
    assert f"did not refuse the wrong-ca server: {words}\n" in f"{text}\n"
    assert f"did not refuse the wrong-ca server: {words}" in render_junit(report(result))


def test_json_and_junit_survive_any_name_of_a_script() -> None:
    """Its name can be any bytes, which Python has as lone surrogates, and becomes the case's and the process's."""
    name = "\udcff\x1b[31m.py"
    result = case(name=name, title=name, connections=(replace(seen("hybrid"), process=Process(1, name)),))
    file = io.StringIO()
    writer = JsonLinesWriter(file)
    writer.write_case(result)
    writer.write(suite_to_json(report(result)))
    lines = [json.loads(line) for line in file.getvalue().encode().splitlines()]
    assert [line["schema"] for line in lines] == ["pqtls/observation/1", "pqtls/case/1", "pqtls/suite/1"]
    ET.fromstring(render_junit(report(result)).encode())  # noqa: S314 - our own text
