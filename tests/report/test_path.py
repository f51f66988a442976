"""The screen of `pqtls path`: the answer first and whole, then only what it has not said, then the evidence."""

from __future__ import annotations

import pytest

from pqtls.faults.catalogue import CATALOGUE
from pqtls.path.words import say_step
from pqtls.report.path import render_diagnosis
from tests.path.faulty_paths import FAULTS
from tests.path.model_runs import run_case


def screen(name: str, seed: int = 0) -> tuple[str, list[str], list[str], str]:
    """Return the first line, the rows below it, the evidence, and the answer."""
    _, found, _ = run_case(name, seed)
    lines = ["".join(text for text, _ in line) for line in render_diagnosis(found, "host.example:443", "192.0.2.1")]
    gap = lines.index("")
    return lines[0], lines[1:gap], lines[gap + 1 :], found.answer


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_said_twice_and_nothing_is_left_out(name: str) -> None:
    head, rows, evidence, answer = screen(name)
    assert head == f"host.example:443 (192.0.2.1)  {answer}"
    texts = [row[9:] for row in rows]
    assert not [text for text in texts if text in answer]
    assert len(set(texts)) == len(texts)
    _, found, _ = run_case(name, 0)
    told = "\n".join([answer, *rows])
    for fault in found.faults:
        assert f"{fault.id} {CATALOGUE[fault.id].name}" in told
        assert fault.detail in told
    for step in found.workarounds:
        assert say_step(step) in answer or step.what in told
    assert len(evidence) == len(found.attempts)
    for line, attempt in zip(evidence, found.attempts, strict=True):
        assert line.split()[0] == attempt.experiment, "a space comes after the longest id"


def test_what_tcp_tells_of_the_way_is_shown() -> None:
    _, rows, _, _ = screen("F13")
    (way,) = [row for row in rows if row.startswith("tcp")]
    assert "segments of 1448 bytes (1448 offered)" in way
    assert "first window" in way


def test_the_first_sentence_stands_out() -> None:
    _, found, _ = run_case("F13", 0)
    line = render_diagnosis(found, "host.example:443", "192.0.2.1")[0]
    styled = [text for text, style in line if style == "bold red"]
    assert len(styled) == 1
    assert styled[0].startswith("On this path")
    assert styled[0].endswith(".")
    assert "From this end" not in styled[0]
