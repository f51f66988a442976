"""`pqtls path`: does the network in between let post-quantum handshakes through; if not, what exactly breaks?"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pqtls.cli.path_options import choose_way, suggest_proxy, way_options
from pqtls.cli.peer import compare_ends, open_peer, print_comparisons
from pqtls.errors import EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_PROVEN, CannotProveError, UsageError, combine_exit_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from pqtls.cli.peer import Peer
    from pqtls.path.diagnosis import Diagnosis
    from pqtls.path.reach import Reach
    from pqtls.path.survey import Examined
    from pqtls.path.target import Target
    from pqtls.probe.model import Attempt
    from pqtls.report.path_summary import Row
    from pqtls.report.terminal import Line

_CODES = {"healthy": EXIT_PROVEN, "fault": EXIT_FINDING, "inconclusive": EXIT_INCONCLUSIVE}


@click.command(short_help="Find what on the way to HOST breaks post-quantum handshakes.")
@click.argument("targets", nargs=-1, metavar="HOST[:PORT]...")
@click.option("--full", "is_full", is_flag=True, help="Run all experiments even if all is well; up to 4 minutes.")
@click.option(
    "--repeat",
    "repeats",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="Afterwards repeat the hybrid, a cut hello and the control N times in turn, to count intermittent failures.",
)
@click.option(
    "--require-pq", is_flag=True, help="Exit 1 also if the path is healthy but the server is not post-quantum."
)
@click.option("-4", "is_ipv4", is_flag=True, help="IPv4 addresses only.")
@click.option("-6", "is_ipv6", is_flag=True, help="IPv6 addresses only.")
@way_options
@click.option(
    "--peer",
    "peer_place",
    metavar="URL",
    help="The target is a `pqtls serve`: ask it what arrived, and compare. HOST[:PORT] or "
    "pqtls://HOST[:PORT]; its token is in PQTLS_TOKEN.",
)
@click.option(
    "--json", "json_path", metavar="FILE", help="Write a JSON object for each address examined; - for standard output."
)
def path(
    targets: tuple[str, ...],
    is_full: bool,
    repeats: int,
    require_pq: bool,
    is_ipv4: bool,
    is_ipv6: bool,
    peer_place: str | None,
    json_path: str | None,
    **way: Any,
) -> int:
    """Find out what, if anything, on the way to HOST breaks post-quantum handshakes, and what works around it.

    Sends specially made ClientHellos, one on each connection: three if all is well, otherwise at most 40 within a
    minute. Handshakes are completed, but no application data is sent; the server's certificate is read and not
    verified. A name with IPv6 and IPv4 addresses is examined over both.

    Exits 0 if the path is healthy, even if the server is not post-quantum; 1 on a fault; 3 if the evidence does not
    decide, or if --peer gave no answer.
    """
    from pqtls.cli.signals import end_like_interrupted
    from pqtls.path.plan import PlanOptions
    from pqtls.path.survey import examine_target
    from pqtls.path.target import check_able

    if is_ipv4 and is_ipv6:
        raise UsageError("-4 and -6 leave no address.", "Both families are examined without either.")
    parsed, reach = choose_way(targets, **way)
    check_able()
    if peer_place is not None and (len(parsed) > 1 or reach.starttls):
        raise UsageError(
            "--peer goes with one target, and TLS from the start.", "Name the host where `pqtls serve` runs."
        )
    options = PlanOptions(is_full=is_full, repeats=repeats)
    family = socket.AF_INET if is_ipv4 else socket.AF_INET6 if is_ipv6 else socket.AF_UNSPEC

    def examine(target: Target, report: Callable[[Attempt], None]) -> tuple[Examined, ...]:
        return examine_target(target, options, None, family, report, reach)

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_open(json_path))
        peer = None if peer_place is None else open_peer(peer_place, parsed[0].port, reach)
        is_one_ended = peer_place is not None and peer is None
        output = _Output(file, peer, reach, requires_pq=require_pq, to_stderr=json_path == "-")
        stack.enter_context(end_like_interrupted())
        try:
            for target in parsed:
                output.examine(target, examine)
        except KeyboardInterrupt:
            output.summarize(len(parsed))  # what is known by then is not lost
            raise
        output.summarize(len(parsed))
    return output.exit_code(is_one_ended=is_one_ended)


class _Output:
    """What is told of each target as it is done, and of all together.

    Args:
        file: Where JSON goes; None for nowhere.
        peer: The far end; None for this end alone.
        reach: How targets are reached.
        requires_pq: That a server is not post-quantum is a finding.
        to_stderr: What is for people goes to standard error.
    """

    def __init__(
        self, file: IO[str] | None, peer: Peer | None, reach: Reach, *, requires_pq: bool, to_stderr: bool
    ) -> None:
        self._file = file
        self._peer = peer
        self._reach = reach
        self._requires_pq = requires_pq
        self._to_stderr = to_stderr
        self._rows: list[Row] = []
        self._is_peer_lost = False

    def examine(
        self, target: Target, examine: Callable[[Target, Callable[[Attempt], None]], tuple[Examined, ...]]
    ) -> None:
        with _Progress(target) as progress:
            try:
                found = examine(target, progress.report)
            except CannotProveError as error:
                # One name that does not resolve is no reason to leave the others out.
                progress.stop()
                click.echo(f"pqtls: {error.message}\n  {error.next_step}", err=True)
                self._leave_out(target, error.message)
                return
            except KeyboardInterrupt as stop:
                progress.stop()
                self._tell_interrupted(target, stop)
                raise
        for each in found:
            self._tell(target, each, [other.diagnosis for other in found if other is not each])

    def _tell_interrupted(self, target: Target, stop: KeyboardInterrupt) -> None:
        """Tell what was known of a target by then; the far end is asked no more."""
        from pqtls.path.survey import InterruptedExaminationError

        known = stop.examined if isinstance(stop, InterruptedExaminationError) else ()
        if not known:
            self._leave_out(target, "It was interrupted before anything was known.")
        self._peer = None
        for each in known:
            self._tell(target, each, [])

    def _leave_out(self, target: Target, problem: str) -> None:
        """Tell of a target of which nothing was seen."""
        from pqtls.path.reach import qualify_unseen
        from pqtls.report.path_summary import Row

        self._rows.append(Row(str(target), problem=problem))
        self._write(qualify_unseen(problem, self._reach).to_json(str(target), None))

    def _write(self, value: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(value, ensure_ascii=False) + "\n")
            self._file.flush()

    def _tell(self, target: Target, examined: Examined, others: list[Diagnosis]) -> None:
        from pqtls.path.words import say_unmet
        from pqtls.report.path import render_diagnosis
        from pqtls.report.path_summary import Row

        found, address = examined.diagnosis, examined.address
        compared = None
        if self._peer is not None:
            compared = compare_ends(self._peer, found, others)
            self._is_peer_lost |= compared is None
        self._rows.append(Row(str(target), address, found))
        unmet = say_unmet(found) if self._requires_pq else ""
        value = found.to_json(str(target), address)
        if compared is not None:
            value["peer"] = [each.to_json() for each in compared]
        if self._requires_pq:
            value["required"] = {"post_quantum": True, "finding": unmet or None}
        self._write(value)
        lines = render_diagnosis(found, str(target), address)
        if unmet:
            lines.insert(1, [(f"finding (--require-pq): {unmet}", "bold red")])
        self._print(lines)
        if not found.proxy and not any(attempt.is_connected for attempt in found.attempts):
            suggest_proxy()
        if compared is not None:
            print_comparisons(compared, to_stderr=self._to_stderr)

    def summarize(self, planned: int) -> None:
        from pqtls.report.path_summary import render_summary

        if planned > 1:
            self._print(render_summary(self._rows, planned))

    def exit_code(self, *, is_one_ended: bool) -> int:
        from pqtls.path.words import say_unmet

        # Asked to look from both ends, and one said nothing: what was asked for is not known.
        codes = [EXIT_INCONCLUSIVE] if is_one_ended or self._is_peer_lost else []
        for row in self._rows:
            found = row.found
            code = EXIT_INCONCLUSIVE if found is None else _CODES[found.verdict]
            if self._requires_pq and found is not None and say_unmet(found):
                code = EXIT_FINDING
            codes.append(code)
        return combine_exit_codes(codes)

    def _print(self, lines: list[Line]) -> None:
        from pqtls.cli.console import open_console, print_folded

        print_folded(open_console(stderr=self._to_stderr), lines)


@contextlib.contextmanager
def _open(path_text: str | None) -> Iterator[IO[str] | None]:
    """Yield the stream to write JSON to, None for none.

    Raises:
        UsageError: It cannot be written.
    """
    if path_text is None:
        yield None
    elif path_text == "-":
        yield sys.stdout
    else:
        try:
            file = Path(path_text).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise UsageError(f"--json {path_text} cannot be written: {reason}.", "Name another file.") from error
        with file:
            yield file


class _Progress:
    """A line on standard error while experiments run, where a person looks."""

    def __init__(self, target: Target) -> None:
        from pqtls.cli.console import open_console

        self._console = open_console(stderr=True)
        self._status = self._console.status(f"{target}") if self._console.is_terminal else None
        self._target = str(target)
        self._count = 0

    def __enter__(self) -> _Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._status is not None:
            self._status.stop()

    def report(self, attempt: Attempt) -> None:
        self._count += 1
        if self._status is not None:
            self._status.update(f"{self._target}  {self._count} connections, {attempt.experiment} {attempt.ending}")
