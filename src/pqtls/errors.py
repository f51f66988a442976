"""Errors that a person can act on, each with the exit code it ends a command with.

Exit codes of every verb: 0 proven, 1 a finding, 2 wrong usage, 3 inconclusive, 4 a bug in pqtls.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_PROVEN = 0
EXIT_FINDING = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_BUG = 4


class PqtlsError(Exception):
    """A failure to be told to a person in one sentence, without a traceback.

    Args:
        message: What happened and why; one sentence.
        next_step: What to do about it; a command where there is one.
    """

    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".rstrip()


class UsageError(PqtlsError):
    """The command line, its input or the installation must change first (exit code 2)."""

    exit_code: ClassVar[int] = EXIT_USAGE


class CannotProveError(PqtlsError):
    """Nothing can be proven here, for example without any OpenSSL that has ML-KEM (exit code 3)."""

    exit_code: ClassVar[int] = EXIT_INCONCLUSIVE


class BugError(PqtlsError):
    """Something that pqtls itself got wrong, such as two witnesses that disagree (exit code 4)."""

    exit_code: ClassVar[int] = EXIT_BUG


def combine_exit_codes(codes: list[int]) -> int:
    """Return the one exit code that several outcomes amount to.

    Args:
        codes: Exit codes 0 to 4, one per outcome.

    Returns:
        The code that takes precedence: 4, then 2, 1, 3, 0. An empty list proves nothing: 3.
    """
    if not codes:
        return EXIT_INCONCLUSIVE
    precedence = (EXIT_BUG, EXIT_USAGE, EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_PROVEN)
    return next(code for code in precedence if code in codes)
