"""Both ends of `pqtls path`: ask `pqtls serve` what arrived, before and after an examination."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from pqtls.errors import CannotProveError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.path.compare import Comparison
    from pqtls.path.diagnosis import Diagnosis
    from pqtls.path.reach import Reach
    from pqtls.peer.arrivals import Arrival
    from pqtls.probe.network import Connection
    from pqtls.report.terminal import Line

TOKEN_VARIABLE = "PQTLS_TOKEN"  # noqa: S105 - its name
_CONNECT_TIMEOUT_S = 10.0


class Peer:
    """The far end during one examination.

    Args:
        where: `pqtls serve`, as HOST[:PORT] or a URL.
        usual_port: The port if none is written.
        reach: How it is reached.

    Raises:
        UsageError: There is no token, or none that one could be; or this is no host.
        CannotProveError: It gives no answer.
    """

    def __init__(self, where: str, usual_port: int, reach: Reach) -> None:
        from pqtls.path.target import parse_peer
        from pqtls.peer.questions import MIN_TOKEN_CHARACTERS

        self._place = parse_peer(where, usual_port)
        self.is_on_another_port = self._place.port != usual_port
        self._reach = reach
        self._token = os.environ.get(TOKEN_VARIABLE, "")
        if not self._token:
            raise UsageError("--peer needs the far end's token.", f"Put it into {TOKEN_VARIABLE}.")
        if len(self._token) < MIN_TOKEN_CHARACTERS:
            raise UsageError(
                f"The token in {TOKEN_VARIABLE} is too short: every token of `pqtls serve` has at least "
                f"{MIN_TOKEN_CHARACTERS} characters.",
                "Copy the whole token.",
            )
        self._since = self._ask(0)[0]

    def compare(self, found: Diagnosis, others: Sequence[Diagnosis] = ()) -> tuple[Comparison, ...]:
        """Return what became of each hello on its way.

        Args:
            found: The examination.
            others: Examinations of the same target over other address families, meanwhile.

        Raises:
            CannotProveError: The far end gives no answer any more.
        """
        from pqtls.path.compare import compare

        theirs = {each.sent.sha256 for other in others for each in other.attempts if each.sent is not None}
        arrivals = self._ask(self._since)[1]
        return compare(found.attempts, [arrival for arrival in arrivals if arrival.sha256 not in theirs])

    def _ask(self, since: int) -> tuple[int, list[Arrival]]:
        from pqtls.path.survey import open_network, resolve
        from pqtls.peer.asking import ask

        def connect() -> Connection:
            hop = self._place if self._reach.proxy is None else self._reach.proxy
            places = resolve(hop.host, hop.port)
            for number, place in enumerate(places, 1):
                try:
                    return open_network(place, self._place, self._reach).connect(None, _CONNECT_TIMEOUT_S)
                except OSError:
                    if number == len(places):
                        raise
            raise AssertionError("a name that resolves has an address")

        return ask(connect, self._token, since)


def open_peer(where: str, usual_port: int, reach: Reach) -> Peer | None:
    """Return the far end; None, said on standard error, if it gives no answer: this end can be examined without.

    Args:
        where: `pqtls serve`, as HOST[:PORT] or a URL.
        usual_port: The port if none is written.
        reach: How it is reached.

    Raises:
        UsageError: There is no token, or this is no host.
    """
    try:
        peer = Peer(where, usual_port, reach)
    except CannotProveError as error:
        _say(error)
        return None
    if peer.is_on_another_port:
        click.echo(
            "pqtls: --peer names another port than the target's: that makes sense only where something forwards the "
            "one to the other.",
            err=True,
        )
    return peer


def compare_ends(peer: Peer, found: Diagnosis, others: Sequence[Diagnosis] = ()) -> tuple[Comparison, ...] | None:
    """Return what became of each hello; None, said on standard error, if the far end gives no answer any more.

    Args:
        peer: The far end.
        found: The examination.
        others: Examinations of the same target over other address families, meanwhile.
    """
    try:
        return peer.compare(found, others)
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
    from pqtls.cli.console import open_console, print_folded
    from pqtls.path.compare import summarize
    from pqtls.report.terminal import clean_text

    lines: list[Line] = [[("both ends", "")]]
    lines += [[("  ", ""), (clean_text(text), "")] for text in summarize(comparisons)]
    print_folded(open_console(stderr=to_stderr), lines)
