"""`pqtls serve`: the far end of `pqtls path`, on networks of one's own."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

import click

from pqtls.errors import EXIT_PROVEN, UsageError

if TYPE_CHECKING:
    from pqtls.peer.arrivals import Arrival


@click.command(short_help="Be the far end of `pqtls path --peer`: record what arrives.")
@click.option(
    "--listen",
    default="127.0.0.1:8443",
    show_default=True,
    metavar="[ADDR]:PORT",
    help="Where to listen; `:8443` without an address means all addresses of this machine, IPv6 and IPv4.",
)
@click.option(
    "--token",
    envvar="PQTLS_TOKEN",
    metavar="T",
    help="Secret shared with `pqtls path --peer`, at least 16 characters; better set in PQTLS_TOKEN, since other users "
    "can see arguments. Default: one is made and printed.",
)
def serve(listen: str, token: str | None) -> int:
    """Accept TLS connections and record what arrives: bytes, segments, MSS, the hello's hash.

    This is the far end for `pqtls path --peer`. It needs no privileges, answers handshakes with X25519MLKEM768 or
    x25519, keeps the last 1000 connections in memory, and shows them only to those who have the token. Ctrl-C ends it.
    """
    from pqtls.cli.signals import end_like_interrupted
    from pqtls.path.target import Target, check_able, parse_target
    from pqtls.peer.far_end import FarEnd
    from pqtls.peer.questions import MIN_TOKEN_CHARACTERS

    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise UsageError(f"The token has fewer than {MIN_TOKEN_CHARACTERS} characters.", "Leave it out to have one.")
    check_able()
    secret = token or secrets.token_urlsafe(24)
    is_everywhere = listen.startswith(":") and not listen.startswith("::")
    if is_everywhere:
        every = "[::]" if _has_ipv6() else "0.0.0.0"  # noqa: S104 - it was asked for
        listen = f"{every}{listen}"
    place = parse_target(listen)
    try:
        far_end = FarEnd((place.host, place.port), secret, _print)
    except OSError as error:
        raise UsageError(f"{listen} cannot be had: {error.strerror}.", "Choose another address or port.") from error
    click.echo(f"pqtls serve: listening at {Target(place.host, far_end.port)}, process {os.getpid()}")
    if token is None:
        click.echo(f"token: {secret}")
    try:
        with end_like_interrupted():
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        far_end.close()
    return EXIT_PROVEN


def _has_ipv6() -> bool:
    """Tell whether this machine has IPv6 switched on."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _print(arrival: Arrival) -> None:
    sizes = "+".join(str(size) for size, _ in arrival.chunks) or "nothing"
    at = time.strftime("%H:%M:%S", time.localtime(arrival.started_s))
    whole = f"hello {arrival.hello_bytes} B {arrival.sha256[:16]}" if arrival.is_whole else "no whole hello"
    click.echo(f"{at}  {arrival.client}  {sizes} B  {whole}  answered {arrival.answered_bytes} B  {arrival.ending}")
