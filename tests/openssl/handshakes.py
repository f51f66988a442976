"""What other programs say on loopback: a listener for a client's first flight, a relay for whole handshakes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from pqtls.wire.facts import ClientHelloFacts, Handshake, Side
from pqtls.wire.tracker import HandshakeTracker

TIMEOUT_S = 30.0
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What libpq sends before TLS; the server says S (PostgreSQL's protocol, "SSL Session Encryption")."""


class FirstFlight:
    """A listener that reads one ClientHello and hangs up."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT_S)
        self.port: int = self._listener.getsockname()[1]
        self.hello: ClientHelloFacts | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FirstFlight:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(TIMEOUT_S)

    def wait(self) -> ClientHelloFacts:
        self._thread.join(TIMEOUT_S)
        assert self.hello is not None, "no ClientHello came"
        return self.hello

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while self.hello is None:
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(TIMEOUT_S)
                    self.hello = _read_hello(connection)


def _read_hello(connection: socket.socket) -> ClientHelloFacts | None:
    tracker = HandshakeTracker()
    is_first = True
    while data := connection.recv(65_536):
        if is_first and data == SSL_REQUEST:
            connection.sendall(b"S")
            continue
        is_first = False
        tracker.receive_data(Side.CLIENT, data)
        if tracker.handshake is not None and tracker.handshake.client_hellos:
            return tracker.handshake.client_hellos[0]
    return None


@contextlib.contextmanager
def relay_to(port: int) -> Iterator[tuple[int, Callable[[], Handshake]]]:
    """Carry one connection to a port on loopback, and read its handshake.

    Yields:
        The port to connect to, and what returns the handshake once the connection has ended.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(TIMEOUT_S)
    tracker, lock = HandshakeTracker(), threading.Lock()

    def carry(source: socket.socket, target: socket.socket, side: Side) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                with lock:
                    if not tracker.done:
                        tracker.receive_data(side, data)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as server:
                client.settimeout(TIMEOUT_S)
                back = threading.Thread(target=carry, args=(server, client, Side.SERVER), daemon=True)
                back.start()
                carry(client, server, Side.CLIENT)
                back.join(TIMEOUT_S)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def result() -> Handshake:
        thread.join(TIMEOUT_S)
        assert tracker.handshake is not None, "nothing was said"
        return tracker.handshake

    try:
        yield listener.getsockname()[1], result
    finally:
        listener.close()
        thread.join(TIMEOUT_S)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, is_alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and is_alive():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at port {port}")
