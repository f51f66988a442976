"""`pqtls run`: any command, with the chosen OpenSSL under it. No rebuild, no container, no root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pqtls.cli.options import groups_option, openssl_options, require_pq_option
from pqtls.errors import CannotProveError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pqtls.openssl.ways import Way


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a command is run with.

    Attributes:
        way: The chosen OpenSSL, and why.
        environment: The whole environment for it.
    """

    way: Way
    environment: dict[str, str]


@contextlib.contextmanager
def prepare(
    openssl: str,
    openssl_source: Path | None,
    groups: str,
    command: Sequence[str] | None,
    *,
    require_pq: bool = False,
) -> Iterator[Prepared]:
    """Choose the OpenSSL for a command and make its environment; what was made for it is removed after.

    Args:
        openssl: The way asked for.
        openssl_source: Folder to graft from, or None.
        groups: A list of groups to hold the command to, or a preset's name; "" for what is in force.
        command: The command line, if it is known: a Python program's own interpreter decides then.
        require_pq: Leave OpenSSL nothing but post-quantum TLS 1.3.

    Yields:
        The way and the environment.

    Raises:
        CannotProveError: No such OpenSSL can be had here.
        UsageError: OpenSSL would silently drop these groups, or a classical one is in them though post-quantum is
            required.
    """
    from pqtls.openssl.interpreter import find_interpreter, inspect_interpreter
    from pqtls.openssl.openssh import keep_openssh_working
    from pqtls.openssl.require_pq import hold_by_conf
    from pqtls.openssl.ways import choose_way, reach_other_programs

    found = find_interpreter(command, os.environ.get("PATH", os.defpath)) if command else None
    interpreter = inspect_interpreter(found or sys.executable)
    sources = (openssl_source,) if openssl_source else ()
    way = choose_way(openssl, interpreter, extra_sources=sources)
    if openssl == "auto":
        way = reach_other_programs(way, sources)
    environment = way.apply(dict(os.environ))
    if way.graft is not None:
        environment = keep_openssh_working(way.graft.folder, environment)
    if not (groups or require_pq):
        yield Prepared(way, environment)
        return
    folder = Path(tempfile.mkdtemp(prefix="pqtls-groups-"))  # 0700
    try:
        is_bare = bool(command) and found is None
        held = hold_by_conf(folder, interpreter, environment, groups, require_pq=require_pq, is_bare=is_bare)
        yield Prepared(way, held)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@click.command(
    short_help="Run a command with an OpenSSL that has ML-KEM.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@openssl_options
@groups_option
@require_pq_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- CMD [ARGS]...")
def run(openssl: str, openssl_source: Path | None, groups: str, require_pq: bool, command: tuple[str, ...]) -> int:
    """Run CMD with the chosen OpenSSL, and return its exit code.

    This affects every program that is linked to libssl.so.3, and its children. If CMD uses another TLS library, pqtls
    says so on standard error and runs it all the same; with --require-pq it refuses. Whether connections are then
    really post-quantum is proven by `pqtls test`, not by this.
    """
    from pqtls.openssl.openssh import find_wrapper

    program = find_program(command[0])
    with prepare(openssl, openssl_source, groups, command, require_pq=require_pq) as prepared:
        if openssl != "system" or require_pq:
            _warn(command, prepared.environment, require_pq=require_pq)
        program = shutil.which(command[0], path=prepared.environment.get("PATH")) or program
        program = find_wrapper(program, prepared.environment)
        if not (groups or require_pq):
            _become(program, list(command), prepared.environment)
        return call_program([program, *command[1:]], prepared.environment)


def find_program(name: str) -> str:
    """Return the file that a command's name stands for.

    Args:
        name: As it was typed.

    Raises:
        UsageError: There is none, or it cannot be executed.
    """
    program = shutil.which(name)
    if program is None and os.sep in name and Path(name).exists():
        raise UsageError(f"{name} is no program that you may execute.", "Check its mode, or name its interpreter.")
    if program is None:
        raise UsageError(f"{name}: there is no such command.", "Check its name and PATH.")
    return program


def _warn(command: Sequence[str], environment: dict[str, str], *, require_pq: bool) -> None:
    """Say on standard error if, by its files, the program will not use this OpenSSL, or not well; refuse if it must."""
    from pqtls.openssl.program_tls import examine_program

    found = examine_program(command, environment)
    if found.is_reached is False and require_pq:
        raise CannotProveError(f"Post-quantum TLS is required, but {found.explanation}", found.next_step)
    if found.explanation:
        click.echo(f"pqtls: {found.explanation}\n  {found.next_step}", err=True)


def call_program(arguments: list[str], environment: dict[str, str]) -> int:
    """Run a program in the foreground, hand signals on to it, and return its code as a shell would.

    Args:
        arguments: The program and its arguments.
        environment: Its whole environment.

    Raises:
        UsageError: It cannot be run.
    """
    pending: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _frame: object) -> None:
        if process is None:
            pending.append(number)
        else:
            process.send_signal(number)  # does nothing once the program has ended

    # Before the program starts, or a signal that comes at once would end us and leave it behind. The terminal
    # sends Ctrl-C to the program itself; we only must not die of it first.
    before: dict[int, Any] = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, hand_on)
    try:
        process = subprocess.Popen(arguments, env=environment)
        for early in pending:
            process.send_signal(early)
        code = process.wait()
    except OSError as error:
        raise UsageError(f"{arguments[0]} cannot be run: {error.strerror}.") from error
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    return code if code >= 0 else 128 - code


def _become(program: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Become a program: it gets our process, terminal and signals, and nothing of us stays between."""
    try:
        os.execve(program, arguments, environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise UsageError(f"{program} cannot be run: {error.strerror}.") from error
