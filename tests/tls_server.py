"""A small TLS server in a thread, for tests whose subject is the client's process."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOST = "server.example"


@contextlib.contextmanager
def serve_on_loopback(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept on a port of loopback, one connection after the other, in a thread.

    Args:
        answer: Is given each connection, which is closed after; what breaks one is no concern of the next.

    Yields:
        The port.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                connection.settimeout(10)
                answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)


@contextlib.contextmanager
def run_tls_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """Answer every TLS client with "hello" and close.

    Args:
        folder: Where to write the authority's bundle.

    Yields:
        Port on loopback, and the bundle.
    """
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(HOST).configure_cert(context)
    bundle = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(bundle))

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"hello")
            tls.unwrap()

    with serve_on_loopback(answer) as port:
        yield port, bundle
