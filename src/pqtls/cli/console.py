"""The terminal: colours only where a person looks, NO_COLOR respected, progress on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from pqtls.report.terminal import Line


def open_console(*, stderr: bool = False) -> Console:
    """Return a console that colours only on a terminal and honours NO_COLOR.

    Args:
        stderr: Write to standard error instead of standard output.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False, markup=False)


def print_lines(console: Console, lines: list[Line]) -> None:
    """Print styled lines.

    Args:
        console: Where to.
        lines: The lines, as the renderers return them.
    """
    from rich.text import Text

    for line in lines:
        text = Text()
        for piece, style in line:
            text.append(piece, style=style or None)
        console.print(text)
