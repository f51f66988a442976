"""Options that several verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pqtls.observe.names import normalize_host

if TYPE_CHECKING:
    from collections.abc import Callable

# A host name as a client asks for it: no scheme, port, path or pattern.
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")

Command = TypeVar("Command", bound="Callable[..., Any]")


def venv_option(command: Command) -> Command:
    """Add --venv, as `folder`.

    Args:
        command: The function of a verb.
    """
    return click.option(
        "--venv",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="The virtual environment; else $VIRTUAL_ENV, else the one that pqtls runs in.",
    )(command)


def python_option(command: Command) -> Command:
    """Add --python, as `executable`.

    Args:
        command: The function of a verb.
    """
    return click.option(
        "--python", "executable", metavar="PROGRAM", help="For this interpreter instead of the one that runs pqtls."
    )(command)


def openssl_source_option(command: Command) -> Command:
    """Add --openssl-source.

    Args:
        command: The function of a verb.
    """
    return click.option(
        "--openssl-source",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="PQTLS_OPENSSL_SOURCE",
        help="Folder with libssl.so.3 and libcrypto.so.3 (3.5 or newer) to graft from.",
    )(command)


def openssl_options(command: Command) -> Command:
    """Add --openssl and --openssl-source.

    Args:
        command: The function of a verb.
    """
    command = openssl_source_option(command)
    return click.option(
        "--openssl",
        type=click.Choice(["auto", "native", "graft", "system"]),
        default="auto",
        show_default=True,
        help="Which OpenSSL: the interpreter's own if it has ML-KEM (native), a newer one put under it (graft), "
        "or the machine's as it is (system).",
    )(command)


def groups_option(command: Command) -> Command:
    """Add --groups.

    Args:
        command: The function of a verb.
    """
    return click.option(
        "--groups",
        default="",
        metavar="LIST",
        help="Restrict programs to these groups: default, hybrid-only, level5, mlkem1024, or a list in the syntax of "
        "OpenSSL 3.5.",
    )(command)


def require_pq_option(command: Command) -> Command:
    """Add --require-pq to verbs that start programs.

    Args:
        command: The function of a verb.
    """
    return click.option(
        "--require-pq",
        is_flag=True,
        help="Allow nothing but post-quantum TLS 1.3, and refuse to start a program that this cannot be enforced on.",
    )(command)


def parse_allowed(values: tuple[str, ...]) -> dict[str, str]:
    """Read `--allow HOST=REASON` values.

    Args:
        values: The values as given.

    Returns:
        Host name to reason.

    Raises:
        click.BadParameter: A value has no host or no reason.
    """
    allowed = {}
    for value in values:
        host, _, reason = (part.strip() for part in value.partition("="))
        if not host or not reason:
            raise click.BadParameter(f"{value!r} is not HOST=REASON.", param_hint="--allow")
        if not _HOST.fullmatch(host):
            raise click.BadParameter(
                f"{host!r} is not a plain host name, without port or pattern.", param_hint="--allow"
            )
        allowed[normalize_host(host)] = reason
    return allowed
