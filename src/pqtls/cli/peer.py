"""Both ends of `pqtls path`: ask `pqtls serve` what arrived, before and after an examination."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import click

from pqtls.errors import CannotProveError, UsageError

if TYPE_CHECKING:
    from pqtls.path.compare import Comparison
    from pqtls.path.diagnosis import Diagnosis
    from pqtls.peer.arrivals import Arrival

TOKEN_VARIABLE = "PQTLS_TOKEN"  # noqa: S105 - its name
_CONNECT_TIMEOUT_S = 10.0


class Peer:
    """The far end during one examination.

    Args:
        where: Host and port of `pqtls serve`.

    Raises:
        UsageError: There is no token, or this is no host.
        CannotProveError: It gives no answer.
    """

    def __init__(self, where: str) -> None:
        from pqtls.path.target import parse_target

        self._place = parse_target(where)
        self._token = os.environ.get(TOKEN_VARIABLE, "")
        if not self._token:
            raise UsageError("--peer needs the far end's token.", f"Put it into {TOKEN_VARIABLE}.")
        self._since = self._ask(0)[0]

    def compare(self, found: Diagnosis) -> tuple[Comparison, ...]:
        """Return what became of each hello on its way.

        Args:
            found: The examination.

        Raises:
            CannotProveError: The far end gives no answer any more.
        """
        from pqtls.path.compare import compare

        return compare(found.attempts, self._ask(self._since)[1])

    def _ask(self, since: int) -> tuple[int, list[Arrival]]:
        from pqtls.peer.asking import ask

        def connect() -> socket.socket:
            return socket.create_connection((self._place.host, self._place.port), _CONNECT_TIMEOUT_S)

        return ask(connect, self._token, since)


def open_peer(where: str) -> Peer | None:
    """Return the far end; None, said on standard error, if it gives no answer: this end can be examined without.

    Args:
        where: Host and port of `pqtls serve`.

    Raises:
        UsageError: There is no token, or this is no host.
    """
    try:
        return Peer(where)
    except CannotProveError as error:
        _say(error)
        return None


def compare_ends(peer: Peer, found: Diagnosis) -> tuple[Comparison, ...] | None:
    """Return what became of each hello; None, said on standard error, if the far end gives no answer any more.

    Args:
        peer: The far end.
        found: The examination.
    """
    try:
        return peer.compare(found)
    except CannotProveError as error:
        _say(error)
        return None


def _say(error: CannotProveError) -> None:
    click.echo(f"pqtls: {error.message} What follows is from this end alone.\n  {error.next_step}", err=True)


def print_comparisons(comparisons: tuple[Comparison, ...], *, to_stderr: bool) -> None:
    """Print what both ends say together.

    Args:
        comparisons: What became of each hello.
        to_stderr: On standard error.
    """
    from pqtls.path.compare import summarize

    click.echo("both ends", err=to_stderr)
    for line in summarize(comparisons):
        click.echo(f"  {line}", err=to_stderr)
