"""Lines on a screen of 80 columns, and in a pipe."""

from __future__ import annotations

import io

from rich.console import Console

from pqtls.cli.console import print_folded
from pqtls.report.terminal import Line

NOTE = "a word and another one " * 10
LINES: list[Line] = [
    [("host.example:443", "bold"), ("  ", ""), (NOTE, "")],
    [("note     ", "dim"), (NOTE, "")],
    [
        (f"{'E23':<15}", ""),
        (f"{'hybrid as the newest browsers send it':<50} ", ""),
        (f"{'1700 B':<28} ", ""),
        ("X25519MLKEM768, finished", ""),
        ("  69 ms", ""),
    ],
    [(f"{'a-long-name.example:443 (2001:db8::1)':<60}  ", ""), ("healthy", ""), ("preferred by the server", "")],
    [],
    [("short", "")],
]


def render(*, is_terminal: bool) -> list[str]:
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=is_terminal, width=80, color_system=None, soft_wrap=True, markup=False, emoji=False
    )
    print_folded(console, LINES)
    return file.getvalue().splitlines()


def words(lines: list[str]) -> list[str]:
    return " ".join(lines).split()


def test_long_lines_are_folded_below_their_label() -> None:
    told = render(is_terminal=True)
    assert max(map(len, told)) <= 80
    assert words(told) == words(["".join(text for text, _ in line) for line in LINES])
    row = next(number for number, line in enumerate(told) if line.startswith("E23"))
    assert told[row + 1].strip() == "X25519MLKEM768, finished  69 ms"
    assert told[row + 1].startswith(" " * 15 + "X")
    note = next(number for number, line in enumerate(told) if line.startswith("note"))
    assert told[note + 1].startswith(" " * 9 + "word")
    assert told[-1] == "short"


def test_a_pipe_gets_lines_whole() -> None:
    assert render(is_terminal=False) == ["".join(text for text, _ in line) for line in LINES]
