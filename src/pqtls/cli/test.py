"""`pqtls test`: the suite that proves Python clients post-quantum, connection by connection."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pqtls.cli.options import openssl_options, parse_allowed
from pqtls.cli.signals import end_like_interrupted
from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from rich.console import Console
    from rich.status import Status

    from pqtls.report.model import CaseResult, Setting, SuiteReport
    from pqtls.suite.options import Options
    from pqtls.suite.schedule import Listener


@click.command(short_help="Prove that Python clients negotiate post-quantum TLS.")
@click.option("--local", is_flag=True, help="Against a throwaway lab on this machine, offline (the default).")
@click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="R",
    help="Against AWS Secrets Manager in this region, with your own credentials (repeatable).",
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="HOST[:PORT]|URL",
    help="Against this TLS server (repeatable); with the clients that are not AWS's.",
)
@click.option(
    "--case",
    "cases",
    multiple=True,
    metavar="NAME|FILE",
    help="Only this client of --list, or a script of yours, FILE.py or FILE.sh (repeatable).",
)
@click.option("--list", "only_list", is_flag=True, help="List the clients and where their scripts are.")
@openssl_options
@click.option("--groups", default="", metavar="LIST", help="Restrict the clients to these groups, such as x25519.")
@click.option("--server-groups", default="", metavar="LIST", help="Restrict the lab's servers to these groups.")
@click.option(
    "--server-tls",
    type=click.Choice(["1.2"]),
    default=None,
    help="Restrict the lab's servers to TLS 1.2; the suite must then fail (a control).",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="HOST=REASON",
    help="Accept classical connections to this host, and report the reason (repeatable).",
)
@click.option("--json", "json_path", metavar="FILE", help="Write JSON Lines as results come; - for standard output.")
@click.option("--junit", "junit_path", metavar="FILE", help="Write JUnit XML for a CI system.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(1, 3600),
    default=60,
    show_default=True,
    help="Seconds for each client.",
)
@click.option(
    "--network",
    type=click.Choice(["auto", "namespaces", "router"]),
    default="auto",
    show_default=True,
    help="How clients reach the lab: on a network of its own with a packet capture (namespaces, where the system "
    "allows it), or through a router on loopback.",
)
@click.option(
    "--pcap",
    "pcap_path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the captured handshakes for Wireshark; - for standard output. Needs a capture: namespaces in the lab, "
    "root against real servers.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="First client's proxy port on loopback; 0: any free one.",
)
def test(
    only_list: bool,
    local: bool,
    allow: tuple[str, ...],
    json_path: str | None,
    junit_path: str | None,
    **rest: Any,
) -> int:
    """Prove that Python clients negotiate post-quantum TLS: every connection, from the handshake's bytes.

    Runs eight built-in clients, or those of --case, against a lab on this machine (offline, without credentials), or
    against the real servers that you name with --region and --endpoint.

    Exits 0 only if every connection of every client was post-quantum and the negative control was not; 1 if one was
    not; 3 if something could not be proven.
    """
    if only_list:
        return _list_cases()
    from pqtls.suite.options import Options

    options = Options(allowed=parse_allowed(allow), **{key: rest[key] for key in Options.names() if key in rest})
    is_real = bool(options.regions or options.endpoints)
    if local and is_real:
        raise UsageError("--local and --region or --endpoint exclude each other.", "Make two runs.")
    _check_outputs(json_path, junit_path, options.pcap_path)
    run = _load_run(is_real=is_real)
    with contextlib.ExitStack() as stack:
        stack.enter_context(end_like_interrupted())
        json_file = stack.enter_context(_open_output(json_path))
        junit_file = stack.enter_context(_open_whole(junit_path))
        is_taken = "-" in (json_path, junit_path, str(options.pcap_path))
        view = stack.enter_context(_View(json_file, to_stderr=is_taken))
        report = run(options, view)
        view.finish(report)
        if junit_file is not None:
            from pqtls.report.junit import render_junit

            junit_file.write(render_junit(report))
    return report.exit_code


def _load_run(*, is_real: bool) -> Callable[[Options, Listener], SuiteReport]:
    if is_real:
        from pqtls.suite.remote import run_remote

        return run_remote
    from pqtls.suite.local import run_local

    return run_local


def _list_cases() -> int:
    from pqtls.suite.aws_v2 import find_aws_v2
    from pqtls.suite.case import load_builtin_cases

    cases = load_builtin_cases()
    aws = find_aws_v2()
    for case in (*cases, *([aws.case] if aws else [])):
        missing = case.missing()
        note = f"   (needs {', '.join(missing)}, not installed)" if missing else ""
        click.echo(f"{case.name:<16} {case.title:<24} {case.host}{note}")
    if aws:
        click.echo(f"\n{aws.description}")
    click.echo(f"\nThe scripts, made to be copied and changed: {cases[0].path.parent}")
    return 0


def _check_outputs(*paths: str | Path | None) -> None:
    """Refuse one file for two outputs: the one that is written last would be all that is left."""
    names = [Path(path) if str(path) == "-" else Path(path).resolve() for path in paths if path]
    named = [name for name in names if not name.exists() or name.is_file()]  # /dev/null takes any number
    if len(set(named)) < len(named):
        raise UsageError("--json, --junit and --pcap cannot share one file.", "Name another one for each.")


@contextlib.contextmanager
def _open_output(path: str | None) -> Iterator[TextIO | None]:
    """Open a file to write before anything runs, so that a bad path is told at once."""
    if path is None:
        yield None
        return
    if path == "-":
        yield sys.stdout
        return
    try:
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    with file:
        yield file


@contextlib.contextmanager
def _open_whole(path: str | None) -> Iterator[TextIO | None]:
    """Open a file that appears under its name only when it is whole: half an XML file is of use to nobody."""
    if path is None or path == "-":
        with _open_output(path) as file:
            yield file
        return
    from pqtls.suite.output_files import open_whole

    with open_whole(Path(path)) as text:
        yield text


class _View:
    """Shows the run as it goes: results on standard output, progress on standard error, JSON as lines."""

    def __init__(self, json_file: TextIO | None, *, to_stderr: bool) -> None:
        from pqtls.cli.console import open_console

        self._console: Console = open_console(stderr=to_stderr)
        self._progress: Console = open_console(stderr=True)
        self._status: Status | None = None
        self._writer = None
        if json_file is not None:
            from pqtls.report.jsonl import JsonLinesWriter

            self._writer = JsonLinesWriter(json_file)

    def __enter__(self) -> _View:
        if self._progress.is_terminal:
            self._status = self._progress.status("starting the lab")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        """Take the progress line away while results are printed: both go to one screen."""
        if self._status is None:
            yield
            return
        self._status.stop()
        yield
        self._status.start()

    def setting_known(self, setting: Setting) -> None:
        """Show which OpenSSL the clients use, before any client runs."""
        from pqtls.cli.console import print_lines
        from pqtls.report.jsonl import setting_to_json
        from pqtls.report.terminal import render_setting

        with self._paused():
            print_lines(self._console, [*render_setting(setting), []])
        if self._writer is not None:
            self._writer.write(setting_to_json(setting))

    def running(self, titles: list[str], done: int, total: int) -> None:
        """Show what is under way."""
        if self._status is not None:
            self._status.update(f"{done} of {total} done; running: {', '.join(titles)}")

    def case_finished(self, case: CaseResult, number: int | None) -> None:
        """Show one case; number None is the negative control, which is told at the end."""
        from pqtls.cli.console import print_lines
        from pqtls.report.terminal import render_case

        if number is not None:
            with self._paused():
                print_lines(self._console, [*render_case(case, number), []])
        if self._writer is not None:
            self._writer.write_case(case, is_control=number is None)

    def finish(self, report: Any) -> None:
        """Show the answer."""
        from pqtls.cli.console import print_lines
        from pqtls.report.jsonl import suite_to_json
        from pqtls.report.terminal import render_ending

        if self._status is not None:
            self._status.stop()
            self._status = None
        print_lines(self._console, render_ending(report))
        if self._writer is not None:
            self._writer.write(suite_to_json(report))
