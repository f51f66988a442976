"""A relay on loopback that reads the handshake of every connection it carries."""

from __future__ import annotations

import contextlib
import socket
import threading

from pqtls.wire.facts import Handshake, Side
from pqtls.wire.tracker import HandshakeTracker
from tests.coexistence.far_end import SSL_REQUEST

_CHUNK_BYTES = 65_536
TIMEOUT_S = 60.0


class Relay:
    """Carries connections to a port on loopback until its block ends.

    Args:
        target: The port.

    Attributes:
        port: Where to connect to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._trackers: list[HandshakeTracker] = []
        self._threads: list[threading.Thread] = []
        self._accepter = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Relay:
        self._accepter.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepter.join(TIMEOUT_S)
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def take(self) -> list[Handshake]:
        """Wait for the connections that were made so far to end; return what each said, and forget them."""
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        found = [tracker.handshake for tracker in self._trackers]
        self._trackers, self._threads = [], []
        return [handshake for handshake in found if handshake is not None]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            tracker = HandshakeTracker()
            self._trackers.append(tracker)
            thread = threading.Thread(target=self._serve, args=(client, tracker), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, tracker: HandshakeTracker) -> None:
        lock = threading.Lock()
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as server:
            for end in (client, server):
                end.settimeout(TIMEOUT_S)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _pass_postgres(client, server)
            arguments = (server, client, tracker, lock, Side.SERVER)
            back = threading.Thread(target=_carry, args=arguments, daemon=True)
            back.start()
            _carry(client, server, tracker, lock, Side.CLIENT)
            back.join(TIMEOUT_S)
        tracker.receive_end("closed")


def _pass_postgres(client: socket.socket, server: socket.socket) -> None:
    """Carry what PostgreSQL says before TLS."""
    if client.recv(len(SSL_REQUEST), socket.MSG_PEEK | socket.MSG_WAITALL) == SSL_REQUEST:
        server.sendall(client.recv(len(SSL_REQUEST)))
        client.sendall(server.recv(1))


def _carry(
    source: socket.socket, target: socket.socket, tracker: HandshakeTracker, lock: threading.Lock, side: Side
) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            with lock:
                if not tracker.done:
                    tracker.receive_data(side, data)
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
