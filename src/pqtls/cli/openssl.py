"""`pqtls openssl`: which OpenSSL's are here and which one is taken; build one from a release tarball."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pqtls.cli.options import openssl_source_option, python_option
from pqtls.errors import EXIT_FINDING, EXIT_PROVEN, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pqtls.openssl.build import BuildResult, Phase

_SHOWN = {
    "read": "reading the tarball",
    "unpack": "unpacking",
    "configure": "configuring",
    "compile": "compiling",
    "prove": "proving it by a handshake",
}


@click.group(short_help="List the OpenSSLs found here, or build one.")
def openssl() -> None:
    """Build an OpenSSL for the graft, or list those that are here."""


@openssl.command("list", short_help="List every OpenSSL found: version, support, which is taken.")
@python_option
@openssl_source_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def list_(executable: str | None, openssl_source: Path | None, as_json: bool) -> int:
    """List every OpenSSL found for an interpreter: version, support, what it needs, and which is taken and why.

    The choice is the one that `--openssl auto` makes everywhere, proven by a handshake in memory.

    Exits 0 if there is one with ML-KEM, 1 if there is none.
    """
    from pqtls.openssl.interpreter import inspect_interpreter
    from pqtls.openssl.listing import list_openssl
    from pqtls.openssl.paths import map_texts, to_json_text

    found = list_openssl(inspect_interpreter(executable or sys.executable), (openssl_source,) if openssl_source else ())
    if as_json:
        click.echo(json.dumps(map_texts(found.to_json(), to_json_text), indent=2, ensure_ascii=False))
    else:
        from datetime import datetime, timezone

        from pqtls.cli.console import open_console, print_lines
        from pqtls.report.openssl_list import render_listing

        print_lines(open_console(), render_listing(found, datetime.now(timezone.utc).date()))
    return EXIT_FINDING if found.way is None else EXIT_PROVEN


@openssl.command(short_help="Build libssl.so.3 and libcrypto.so.3 from a tarball.")
@click.option(
    "--source",
    metavar="TARBALL",
    help="A release's tarball: a file, or an https address to get it from. pqtls goes to no network by itself.",
)
@click.option(
    "--sha256",
    default="",
    metavar="HEX",
    help="The tarball's checksum, as OpenSSL publishes it; needed for a release that pqtls does not know.",
)
@click.option(
    "--openssldir",
    default="",
    metavar="DIR",
    help="Where it looks for openssl.cnf and CA certificates. Default: where the interpreter's own OpenSSL looks.",
)
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Compilers at once. Default: one a processor.")
@python_option
def build(source: str | None, sha256: str, openssldir: str, jobs: int | None, executable: str | None) -> int:
    """Build libssl.so.3 and libcrypto.so.3 from a release's tarball, for `--openssl graft` to take.

    Needs a C compiler, make and perl. The checksum is verified before anything of the tarball is run; the result
    counts only after the interpreter negotiated X25519MLKEM768 with it.
    """
    if source is None:
        from pqtls.openssl.releases import NEWEST_KNOWN, release_url

        raise UsageError(
            "Which release? Name its tarball: pqtls openssl build --source TARBALL.",
            f"pqtls gets it itself if you name the address: --source {release_url(NEWEST_KNOWN)}",
        )
    from pqtls.cli.signals import end_like_interrupted
    from pqtls.openssl.build import build_openssl
    from pqtls.openssl.interpreter import inspect_interpreter

    interpreter = inspect_interpreter(executable or sys.executable)
    with end_like_interrupted(), _progress() as report:
        result = build_openssl(
            source, interpreter, sha256=sha256, openssl_dir=openssldir, jobs=jobs or 0, report=report
        )
    _print_result(result)
    return EXIT_PROVEN


def _print_result(result: BuildResult) -> None:
    build = result.build
    floor = build.manifest.get("glibc_floor")
    needs = f"needs glibc {floor} or newer" if floor else "needs no glibc"
    took = f"{result.duration_s:.0f} seconds" if result.is_new else f"it was there already, built {build.built}"
    click.echo(f"built    {result.source.version}, {took}")
    click.echo(f"where    {build.folder}")
    click.echo(f"size     {result.size_bytes / 1e6:.1f} MB, {needs}, {result.source.machine}")
    click.echo(f"proven   {build.manifest['proven']['group']}, by a handshake in memory")
    click.echo("next     pqtls openssl list    which OpenSSL is taken, and why")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Phase, int, int], None]]:
    """Show a bar on standard error where a person looks; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from pqtls.cli.console import open_console

    columns = (TextColumn("{task.description:<26}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=open_console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        shown = ""

        def report(phase: Phase, done: int, total: int) -> None:
            nonlocal shown
            if phase != shown:
                shown = phase
                bar.reset(task, description=_SHOWN[phase], total=total or None)
            bar.update(task, completed=done, total=total or None)

        yield report
