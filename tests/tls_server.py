"""A small TLS server in a thread, for tests whose subject is the client's process."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "server.example"


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
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                connection.settimeout(10)
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.sendall(b"hello")
                    tls.unwrap()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], bundle
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)
