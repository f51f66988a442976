"""The terminal: colours only where a person looks, NO_COLOR respected, progress on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from pqtls.report.terminal import Line


_INDENT = 4


def open_console(*, stderr: bool = False) -> Console:
    """Return a console that colours only on a terminal and honours NO_COLOR.

    Args:
        stderr: Write to standard error instead of standard output.
    """
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False, markup=False)


def print_folded(console: Console, lines: list[Line]) -> None:
    """Print styled lines; where a person looks, long ones are folded at words, below the column after their label.

    Pipes and files get each line whole.

    Args:
        console: Where to.
        lines: The lines, as the renderers return them; a label is a first piece that ends with a space.
    """
    if not console.is_terminal:
        print_lines(console, lines)
        return
    from rich.text import Text

    for line in lines:
        text = Text.assemble(*line)
        if text.cell_len <= console.width:
            console.print(text)
            continue
        label = line[0][0] if len(line) > 1 and line[0][0].endswith(" ") else ""
        # A label as wide as half the screen leaves no room beside it.
        head_size = 0 if len(label) > console.width // 2 else len(label)
        indent = head_size or (_INDENT if label else 0)
        body = text[head_size:].wrap(console, max(1, console.width - indent))
        for number, folded in enumerate(body):
            head = text[:head_size] if number == 0 else Text(" " * indent)
            console.print(Text.assemble(head, folded))


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
