"""`pqtls path`: does the network in between let post-quantum handshakes through; if not, what exactly breaks?"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pqtls.cli.peer import compare_ends, open_peer, print_comparisons
from pqtls.errors import EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_PROVEN, CannotProveError, UsageError, combine_exit_codes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from pqtls.path.diagnosis import Diagnosis
    from pqtls.path.target import Target
    from pqtls.probe.model import Attempt

_CODES = {"healthy": EXIT_PROVEN, "fault": EXIT_FINDING, "inconclusive": EXIT_INCONCLUSIVE}
_POST_QUANTUM = ("preferred", "supported", "only-by-retry")


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="HOST[:PORT]...")
@click.option("--full", "is_full", is_flag=True, help="All experiments, also where all is well; up to 4 minutes.")
@click.option(
    "--repeat",
    "repeats",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="Then repeat the hybrid and the control N times in turn, to count what comes and goes.",
)
@click.option("--require-pq", is_flag=True, help="A healthy path to a server without post-quantum is a finding too.")
@click.option("-4", "family", flag_value=int(socket.AF_INET), type=int, help="IPv4 addresses only.")
@click.option("-6", "family", flag_value=int(socket.AF_INET6), type=int, help="IPv6 addresses only.")
@click.option(
    "--peer",
    "peer_place",
    metavar="HOST[:PORT]",
    help="Ask the `pqtls serve` there, the target itself, what arrived, and compare; its token is in PQTLS_TOKEN.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write a JSON object for each target; - for standard output.")
def path(
    targets: tuple[str, ...],
    is_full: bool,
    repeats: int,
    require_pq: bool,
    family: int | None,
    peer_place: str | None,
    json_path: str | None,
) -> int:
    """Say what, if anything, on the way to HOST breaks post-quantum handshakes, and what works around it.

    Sends crafted ClientHellos, one a connection: three if all is well, else at most 40 within a minute. They finish
    their handshakes and send nothing; the server's certificate is read and not verified.

    Exits 0 if the path is healthy, also to a server that is not post-quantum; 1 on a fault; 3 if it cannot be told.
    """
    from pqtls.path.examine import FULL_LIMITS, Limits
    from pqtls.path.plan import PlanOptions
    from pqtls.path.target import check_able, examine_target, parse_target

    parsed = [parse_target(target) for target in targets]
    check_able()
    if peer_place is not None and len(parsed) > 1:
        raise UsageError("--peer goes with one target.", "Name the host where `pqtls serve` runs.")
    peer = None if peer_place is None else open_peer(peer_place)
    base = FULL_LIMITS if is_full else Limits()
    limits = Limits(base.connections + 4 * repeats, base.seconds + 10.0 * repeats)
    codes = []
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_open(json_path))
        for target in parsed:
            progress = stack.enter_context(_Progress(target))
            options = PlanOptions(is_full=is_full, repeats=repeats)
            try:
                found, address = examine_target(target, options, limits, family or socket.AF_UNSPEC, progress.report)
            except CannotProveError as error:
                # One name that does not resolve is no reason to leave the others out.
                click.echo(f"pqtls: {error.message}\n  {error.next_step}", err=True)
                codes.append(error.exit_code)
                continue
            finally:
                progress.stop()
            compared = None if peer is None else compare_ends(peer, found)
            if file is not None:
                value = found.to_json(str(target), address)
                if compared is not None:
                    value["peer"] = [each.to_json() for each in compared]
                file.write(json.dumps(value, ensure_ascii=False) + "\n")
                file.flush()
            _print(found, str(target), address, to_stderr=json_path == "-")
            if compared is not None:
                print_comparisons(compared, to_stderr=json_path == "-")
            is_classical = found.verdict == "healthy" and found.server_state not in _POST_QUANTUM
            codes.append(EXIT_FINDING if require_pq and is_classical else _CODES[found.verdict])
    return combine_exit_codes(codes)


def _print(found: Diagnosis, target: str, address: str, *, to_stderr: bool) -> None:
    from pqtls.cli.console import open_console, print_lines
    from pqtls.report.path import render_diagnosis

    print_lines(open_console(stderr=to_stderr), render_diagnosis(found, target, address))


@contextlib.contextmanager
def _open(path_text: str | None) -> Iterator[IO[str] | None]:
    """Yield the stream to write JSON to, None for none."""
    if path_text is None:
        yield None
    elif path_text == "-":
        yield sys.stdout
    else:
        with Path(path_text).open("w", encoding="utf-8") as file:
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
