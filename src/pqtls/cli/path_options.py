"""Options of `pqtls path` that say what is examined, and by which way it is reached."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.path.reach import Reach
    from pqtls.path.target import Target

# Where programs look for the proxy of https:// URLs, in the order in which they do.
_SHARED_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_STARTTLS = ("smtp", "imap", "postgres", "mysql")

Command = TypeVar("Command", bound="Callable[..., Any]")


def way_options(command: Command) -> Command:
    """Add --hosts, --proxy and --starttls, as `hosts_path`, `proxy_url` and `starttls`.

    Args:
        command: The function of a verb.
    """
    for option in (
        click.option(
            "--starttls",
            type=click.Choice(_STARTTLS),
            help="Begin in plain text and ask for TLS in this protocol; ports 25, 143, 5432 and 3306.",
        ),
        click.option(
            "--proxy",
            "proxy_url",
            metavar="URL",
            help="Go through this HTTP proxy by CONNECT: http://[USER@]HOST:PORT, or `env` for the one in HTTPS_PROXY. "
            "One with a password goes into PQTLS_PROXY, which counts without this option too.",
        ),
        click.option(
            "--hosts", "hosts_path", metavar="FILE", help="Targets from a file too, one a line; - for standard input."
        ),
    ):
        command = option(command)
    return command


def choose_way(
    texts: tuple[str, ...], hosts_path: str | None, proxy_url: str | None, starttls: str | None
) -> tuple[list[Target], Reach]:
    """Return what is to be examined, each target once, and by which way it is reached.

    Args:
        texts: Targets from the command line.
        hosts_path: File with more; - for standard input.
        proxy_url: As given by --proxy; None if it was not.
        starttls: As given by --starttls; None for TLS from the start.

    Raises:
        UsageError: Something is no target, or there is none; or no proxy, or its password stands where others read it.
    """
    reach = _choose_reach(proxy_url, starttls)
    return _choose_targets(texts, hosts_path, reach.starttls), reach


def suggest_proxy() -> None:
    """Say on standard error that there is a proxy, after the straight way has led nowhere."""
    if name := _shared_variable():
        click.echo(f"pqtls: {name} is set; `--proxy env` goes through that proxy.", err=True)


def _shared_variable() -> str:
    """Return the name of the variable that has the proxy of other programs, "" if none has."""
    return next((name for name in _SHARED_VARIABLES if os.environ.get(name)), "")


def _choose_reach(proxy_url: str | None, starttls: str | None) -> Reach:
    from pqtls.path.reach import Reach
    from pqtls.probe.http_proxy import VARIABLE, has_password, parse_proxy

    url, source = proxy_url or os.environ.get(VARIABLE, ""), "--proxy" if proxy_url else VARIABLE
    if proxy_url is not None and has_password(proxy_url):
        raise UsageError(
            "--proxy has a password in it, which everybody on this machine can read while pqtls runs.",
            f"Put the whole URL into {VARIABLE}, and leave --proxy out.",
        )
    if url == "env":
        source = _shared_variable()
        if not source:
            raise UsageError("`--proxy env` finds no proxy: HTTPS_PROXY is not set.", "Name it: --proxy URL.")
        url = os.environ[source]
    return Reach(parse_proxy(url, source) if url else None, starttls or "")


def _read_hosts(path: str, size_bytes: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(size_bytes)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(
            f"--hosts {path} cannot be read: {reason}.", "Name a file, or - for standard input."
        ) from error


def _choose_targets(texts: tuple[str, ...], hosts_path: str | None, starttls: str) -> list[Target]:
    from pqtls.path.hosts import MAX_BYTES, parse_hosts
    from pqtls.path.target import USUAL_PORT, parse_target
    from pqtls.probe.starttls.protocols import PROTOCOLS

    port = PROTOCOLS[starttls].port if starttls else USUAL_PORT
    chosen = dict.fromkeys(parse_target(text, port) for text in texts)
    if hosts_path is not None:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if hosts_path == "-" else _read_hosts(hosts_path, MAX_BYTES + 1)
        targets, repeated = parse_hosts(data, "Standard input" if hosts_path == "-" else hosts_path, port)
        chosen |= dict.fromkeys(targets)
        if repeated:
            click.echo(f"pqtls: lines that name a host again: {repeated}; each is examined once.", err=True)
    if not chosen:
        raise UsageError("There is no host to examine.", "pqtls path HOST[:PORT]..., or --hosts FILE")
    return list(chosen)
