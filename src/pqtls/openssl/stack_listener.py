"""A port on loopback that a TLS stack is sent to, so that its handshake can be judged from its own bytes.

The listener reads the ClientHello, then passes both directions on to a TLS server with ML-KEM, if there is one,
until the handshake is over. Nothing is decrypted and nothing leaves loopback. Without such a server the connection
ends after the hello: what a stack offers is known then, not what it would negotiate.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Literal

from pqtls.wire.facts import Side
from pqtls.wire.tracker import HandshakeTracker

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pqtls.wire.facts import Handshake

Opening = Literal["tls", "postgres", "mysql"]

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 32
"""Clients that are turned away try again, some at once; a fake one must not fill this process with threads."""
_CONNECTION_S = 8.0
"""A handshake on loopback takes 0.01 s, and the server may still be on its way up."""
_CHUNK_BYTES = 65_536

# A MySQL server's first packet: protocol 10, its capabilities with CLIENT_SSL, and 20 bytes of a nonce that nobody
# answers. Source: MySQL Internals, "Protocol::HandshakeV10"; the client's SSLRequest is 4 + 32 bytes.
_MYSQL_BODY = (
    b"\x0a8.0.36\0" + (1).to_bytes(4, "little") + b"12345678\0" + b"\xff\xff" + b"\xff" + b"\x02\x00"
    + b"\xff\xcf" + b"\x15" + bytes(10) + b"123456789012\0" + b"caching_sha2_password\0"
)  # fmt: skip
_MYSQL_GREETING = len(_MYSQL_BODY).to_bytes(3, "little") + b"\0" + _MYSQL_BODY
_MYSQL_REQUEST_BYTES = 36
# PostgreSQL's SSLRequest: its length 8 and the code 80877103 (protocol documentation, "SSLRequest").
_POSTGRES_REQUEST = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")


class StackListener:
    """Listens on one port for one stack, from its making to `close`.

    Args:
        opening: What is spoken before TLS begins.
        server: Will be the port of a TLS server with ML-KEM on loopback; None if there is none.

    Attributes:
        port: Where to connect to.
    """

    def __init__(self, opening: Opening, server: Future[int | None]) -> None:
        self._opening = opening
        self._server = server
        self._lock = threading.Lock()
        self._seen: list[Handshake] = []
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepter = threading.Thread(target=self._accept, daemon=True)
        self._accepter.start()

    def close(self) -> list[Handshake]:
        """Stop listening and return every handshake that was seen, in the order in which they ended."""
        self._is_closed = True
        with contextlib.suppress(OSError):  # wakes the accept; Linux alone lets a listener be shut down
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepter.join(timeout=1)
        for thread in self._threads:
            thread.join(timeout=1)
        with self._lock:
            return list(self._seen)

    def _accept(self) -> None:
        for _ in range(MAX_CONNECTIONS):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        tracker = HandshakeTracker()
        with connection, contextlib.suppress(OSError, FutureTimeoutError):
            connection.settimeout(_CONNECTION_S)
            self._watch(connection, tracker, _open(connection, self._opening))
        tracker.receive_end("closed")
        handshake = tracker.handshake
        if handshake is not None and handshake.client_hellos:
            with self._lock:
                self._seen.append(handshake)

    def _watch(self, client: socket.socket, tracker: HandshakeTracker, first: bytes) -> None:
        """Pass bytes on until the handshake is over, an end closes, or time is up."""
        deadline = time.monotonic() + _CONNECTION_S
        sent = _read_hello(client, tracker, first, deadline)
        port = self._server.result(timeout=_CONNECTION_S) if sent and not tracker.done else None
        if port is None:
            return
        with socket.create_connection((LOOPBACK, port), timeout=_CONNECTION_S) as server:
            server.sendall(sent)
            pair = {client: (Side.CLIENT, server), server: (Side.SERVER, client)}
            while not tracker.done and not self._is_closed and time.monotonic() < deadline:
                for end in select.select(list(pair), [], [], 0.2)[0]:
                    data = end.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    tracker.receive_data(pair[end][0], data)
                    pair[end][1].sendall(data)


def _read_hello(client: socket.socket, tracker: HandshakeTracker, first: bytes, deadline: float) -> bytes:
    """Read until a ClientHello is whole; return all that was read, b"" if it never was."""
    sent = data = first
    while time.monotonic() < deadline:
        tracker.receive_data(Side.CLIENT, data)
        if tracker.handshake is not None:
            return sent
        data = client.recv(_CHUNK_BYTES)
        if not data:
            return b""
        sent += data
    return b""


def _open(connection: socket.socket, opening: Opening) -> bytes:
    """Speak what comes before TLS, as its server; return what was read of TLS itself."""
    if opening == "mysql":
        connection.sendall(_MYSQL_GREETING)
        _read_exactly(connection, _MYSQL_REQUEST_BYTES)
    elif opening == "postgres":
        request = _read_exactly(connection, len(_POSTGRES_REQUEST))
        if request != _POSTGRES_REQUEST:
            return request  # TLS from the first byte: libpq's sslnegotiation=direct
        connection.sendall(b"S")
    return b""


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        data = connection.recv(size - len(read))
        if not data:
            raise ConnectionResetError("it ended before TLS began")
        read += data
    return read
