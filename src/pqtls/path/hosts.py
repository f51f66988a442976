"""A file of targets: one a line, `#` for remarks. Pure, and all that is wrong with it is told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.path.target import parse_target

if TYPE_CHECKING:
    from pqtls.path.target import Target

# Ten thousand long names; examined one after the other, that is hours.
MAX_BYTES = 1 << 20
_MAX_TOLD = 10


def parse_hosts(data: bytes, source: str, usual_port: int) -> tuple[list[Target], int]:
    """Read a file of targets.

    Args:
        data: Its bytes.
        source: Its name, for what is told of it.
        usual_port: Port of those that name none.

    Returns:
        The targets in order, each once, and how many lines named one again.

    Raises:
        UsageError: Lines are no targets, or there are none, or too many.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"{source} is over {MAX_BYTES} bytes.", "Split it, and examine the parts.")
    targets: dict[Target, None] = {}
    wrong: list[str] = []
    named = 0
    for number, line in enumerate(data.decode("utf-8", "replace").removeprefix("\ufeff").splitlines(), 1):
        text = _without_remark(line)
        if not text:
            continue
        try:
            targets[parse_target(text, usual_port)] = None
            named += 1
        except UsageError:
            wrong.append(f"line {number}: {text[:80]!r}")
    if wrong:
        more = f" and {len(wrong) - _MAX_TOLD} more" if len(wrong) > _MAX_TOLD else ""
        raise UsageError(
            f"{source} has lines that are not HOST[:PORT]: {'; '.join(wrong[:_MAX_TOLD])}{more}.",
            "Name hosts as in example.com:443, one a line, without scheme or path; # begins a remark.",
        )
    if not targets:
        raise UsageError(f"{source} names no host.", "Write one HOST[:PORT] a line.")
    return list(targets), named - len(targets)


def _without_remark(line: str) -> str:
    """Return a line without what follows a `#`, which no target has in it."""
    return line.partition("#")[0].strip()
