"""`pqtls lab`: faulty networks on this machine, made for the occasion, to see how a program fares on them."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pqtls.errors import EXIT_FINDING, EXIT_PROVEN, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pqtls.lab.namespace_refusal import NamespacesRefusedError
    from pqtls.lab.paths.path_lab import PathLab
    from pqtls.suite.path_runs import PathRun

_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
# There is nothing but the lab on its network.
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PQTLS_PROXY")


@click.group(short_help="Reproduce networks that break TLS handshakes; no root needed.")
def lab() -> None:
    """Reproduce networks that break TLS handshakes: client, router, box, router and server, all on this machine.

    On most Linux systems no root is needed. Nothing leaves the machine, and nothing is left on it afterwards.
    """


@lab.command("list", short_help="List the faults that can be simulated.")
def list_() -> int:
    """List the faults that can be simulated; `loopback too` are those of servers, which need no namespaces."""
    from pqtls.faults.catalogue import CATALOGUE
    from pqtls.lab.paths.draws import DRAWINGS, draw

    for fault in DRAWINGS:
        entry = CATALOGUE[fault]
        where = "loopback too" if draw(fault, 0).is_socket_level else ""
        click.echo(f"{fault:<5}  {entry.kind:<12}  {entry.name:<32}  {where}".rstrip())
    click.echo(f"{'rough':<5}  {'healthy':<12}  far, lossy, shuffled, narrow, slow; and nothing wrong")
    return EXIT_PROVEN


_SEED = click.option("--seed", type=int, default=0, show_default=True, help="Draws the fault's parameters.")
_HEALED = click.option("--without-fault", "is_removed", is_flag=True, help="The same path, its fault taken out.")
_NAMES = click.option(
    "--name", "names", multiple=True, metavar="HOST", help="A host name that leads to the lab's server too."
)


@lab.command(short_help="Make a network with FAULT; keep it until Ctrl-C.")
@click.argument("fault")
@_SEED
@_HEALED
@_NAMES
@click.option(
    "--loopback",
    "is_loopback",
    is_flag=True,
    help="Without namespaces, on a port of localhost: only faults of servers.",
)
def up(fault: str, seed: int, is_removed: bool, names: tuple[str, ...], is_loopback: bool) -> int:
    """Make a network with FAULT, print how to reach it, and keep it until Ctrl-C."""
    from pqtls.cli.signals import end_like_interrupted

    opening = _open(fault, seed, names, is_removed=is_removed, is_loopback=is_loopback)
    with end_like_interrupted(), opening as (path_lab, environment, folder):
        script = folder / "in"
        variables = [f"{name}={environment[name]}" for name in (*_CA_VARIABLES, "PQTLS_LAB_FOLDER")]
        command = ["exec", "env", *variables, *([] if is_loopback else path_lab.wrap([]))]
        script.write_text(f'#!/bin/sh\n{shlex.join(command)} "$@"\n', encoding="utf-8")
        script.chmod(0o700)
        port = path_lab.address[1]
        place = f"{path_lab.server_name}:{port}" if is_loopback else path_lab.server_name
        click.echo(f"{path_lab.server_name}, port {port}, is behind {fault}. In another terminal:")
        click.echo(f"  {script} pqtls path {place}")
        click.echo("Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return EXIT_PROVEN


@lab.command(short_help="Run CMD behind FAULT, and return its exit code.")
@_SEED
@_HEALED
@_NAMES
@click.argument("fault")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- CMD [ARGS]...")
def run(fault: str, seed: int, is_removed: bool, names: tuple[str, ...], command: tuple[str, ...]) -> int:
    """Run CMD behind FAULT, and return its exit code.

    server.example, AWS Secrets Manager's names and those of --name lead to the lab's server, port 443. CMD gets the
    lab's certificate authority in its environment (SSL_CERT_FILE and the like) and sees no other network.
    """
    from pqtls.cli.run import call_program, find_program
    from pqtls.cli.signals import end_like_interrupted

    program = find_program(command[0])
    with (
        end_like_interrupted(),
        _open(fault, seed, names, is_removed=is_removed) as (path_lab, environment, _),
    ):
        return call_program(path_lab.wrap([program, *command[1:]]), environment)


@lab.command(short_help="Let `pqtls path` diagnose each fault; compare with the truth.")
@click.argument("faults", nargs=-1, metavar="[FAULT]...")
@click.option("--runs", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs of each class.")
@click.option("--first-seed", type=int, default=0, show_default=True, help="The first run's seed.")
@click.option("--jobs", type=click.IntRange(1, 32), default=6, show_default=True, help="Paths at a time.")
@click.option("--loopback", "is_loopback", is_flag=True, help="Without namespaces: only what a server gets wrong.")
def verify(faults: tuple[str, ...], runs: int, first_seed: int, jobs: int, is_loopback: bool) -> int:
    """Let `pqtls path` diagnose every FAULT (default: all), and the same network without it; check each answer.

    Exits 0 if every answer was right, 1 if one was not.
    """
    from pqtls.cli.console import open_console
    from pqtls.cli.signals import end_like_interrupted
    from pqtls.lab.namespace_refusal import NamespacesRefusedError
    from pqtls.lab.paths.draws import DRAWINGS, HEALTHY, draw
    from pqtls.path.target import check_able
    from pqtls.suite.path_runs import render_table, run_paths

    chosen = [_check(fault) for fault in faults] or [*DRAWINGS, *HEALTHY]
    check_able()
    plan = [(fault, first_seed + number) for number in range(runs) for fault in chosen]
    if is_loopback:
        plan = [each for each in plan if draw(*each).is_socket_level]

    console = open_console(stderr=True)
    count = 0

    def report(run: PathRun) -> None:
        nonlocal count
        count += 1
        status.update(f"{count} of {len(plan)} paths, {run.fault} was the last")
        if not run.is_right:
            console.print(f"{run.fault} seed {run.seed}: {run.problem or run.control_problem}")

    # Silent faults take most of a minute each. Without a terminal nothing of it is shown.
    with end_like_interrupted(), console.status(f"0 of {len(plan)} paths, a minute for the slow ones") as status:
        try:
            done = run_paths(plan, jobs, is_loopback=is_loopback, report=report)
        except NamespacesRefusedError as error:
            raise _also(error, "pqtls lab verify --loopback") from error
    for line in render_table(done):
        click.echo(line)
    return EXIT_PROVEN if all(run.is_right for run in done) else EXIT_FINDING


@lab.command(short_help="Remove what killed labs left behind.")
def clean() -> int:
    """Remove folders and programs of labs that were killed together with the process that cleans up after them."""
    from pqtls.lab.paths.remains import clean_up

    folders, ended = clean_up()
    for folder in folders:
        click.echo(f"removed {folder}")
    for pid in ended:
        click.echo(f"ended process {pid}")
    if not folders:
        click.echo("Nothing was left.")
    return EXIT_PROVEN


def _check(fault: str) -> str:
    """Return the id of a fault that was named by its id or by its name."""
    from pqtls.faults.catalogue import CATALOGUE
    from pqtls.lab.paths.draws import DRAWINGS, HEALTHY

    for each in (*DRAWINGS, *HEALTHY):
        name = CATALOGUE[each].name if each in CATALOGUE else each
        if fault.lower() in (each.lower(), name):
            return each
    raise UsageError(f"{fault}: the lab has no such fault.", "See `pqtls lab list`.")


def _also(error: NamespacesRefusedError, command: str) -> NamespacesRefusedError:
    """Return a refusal that names the way without namespaces too, "" for none."""
    from pqtls.lab.namespace_refusal import NamespacesRefusedError

    steps = [error.next_step, f"Without namespaces: {command}" if command else ""]
    return NamespacesRefusedError(error.message, "\n  ".join(step for step in steps if step))


@contextlib.contextmanager
def _open(
    fault: str, seed: int, names: tuple[str, ...], *, is_removed: bool, is_loopback: bool = False
) -> Iterator[tuple[PathLab, dict[str, str], Path]]:
    """Make a path; yield it, the environment for programs on it, and its private folder."""
    from pqtls.ending.keeper import Keeper
    from pqtls.lab.names import AWS_HOSTS, LOOPBACK
    from pqtls.lab.namespace_refusal import NamespacesRefusedError
    from pqtls.lab.paths.draws import draw
    from pqtls.lab.paths.path_lab import SERVER_NAME, PathLab
    from pqtls.lab.paths.remains import FOLDER_VARIABLE, PREFIX, sign

    fault = _check(fault)
    is_socket_level = draw(fault, seed).is_socket_level
    if is_loopback and not is_socket_level:
        raise UsageError(f"{fault} is about packets, which loopback does not show.", "Leave --loopback out.")
    known = (*(("localhost", LOOPBACK) if is_loopback else ()), SERVER_NAME, *AWS_HOSTS, *names)
    with contextlib.ExitStack() as stack:
        keeper = stack.enter_context(Keeper(PREFIX))
        try:
            path_lab = stack.enter_context(PathLab(is_loopback=is_loopback, names=known))
        except NamespacesRefusedError as error:
            way = f"pqtls lab up {fault} --loopback" if is_socket_level else ""
            raise _also(error, way) from error
        sign(keeper.folder)
        path_lab.apply(fault, seed, is_removed=is_removed)
        bundle = keeper.folder / "ca.pem"
        bundle.write_text(path_lab.ca_pem, encoding="ascii")
        dropped = {each for name in _PROXY_VARIABLES for each in (name, name.lower())}
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        environment |= dict.fromkeys(_CA_VARIABLES, str(bundle)) | {FOLDER_VARIABLE: str(keeper.folder)}
        yield path_lab, environment, keeper.folder
