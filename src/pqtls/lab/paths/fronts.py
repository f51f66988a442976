"""How a far end reads a ClientHello: as it should, once, into a fixed buffer, with a window that closes."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from pqtls.lab.paths.hellos import find_hello

if TYPE_CHECKING:
    from pqtls.lab.paths.scenario import Front

PATIENCE_S = 15.0
"""How long a client may take."""
_CHUNK_BYTES = 65_536
_POLL_S = 0.002
_ALERT_HEAD = bytes.fromhex("150301000202")


class RefusedError(Exception):
    """The front has ended the connection, or sends it to the default server.

    Attributes:
        has_default: It goes to the default server, with what was read.
        data: What was read.
    """

    def __init__(self, *, has_default: bool = False, data: bytes = b"") -> None:
        super().__init__()
        self.has_default = has_default
        self.data = data


def read_hello(connection: socket.socket, front: Front) -> bytes:
    """Return a whole ClientHello, and what came with it.

    Args:
        connection: From the client.
        front: How to read.

    Raises:
        RefusedError: It did not get it, by its own fault.
        OSError: The client has gone, or takes too long.
    """
    connection.settimeout(PATIENCE_S)
    if front.reading == "once":
        select.select([connection], [], [], PATIENCE_S)
        time.sleep(front.wake_s)
        data = connection.recv(_CHUNK_BYTES)
        return data if _is_whole(data) else _react(connection, front, data)
    if front.reading == "peek":
        return _peek(connection, front, front.peek_bytes)
    if front.reading == "window":
        return _peek(connection, front, _CHUNK_BYTES)
    data = _read_whole(connection)
    if front.reading == "first-record":
        found = find_hello(data)
        if found is not None and found.first_record_bytes < found.size_bytes:
            return _react(connection, front, data)
    return data


def _is_whole(data: bytes) -> bool:
    return not data or find_hello(data) is not None


def _read_whole(connection: socket.socket) -> bytes:
    data = b""
    while find_hello(data) is None:
        chunk = connection.recv(_CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError
        data += chunk
    return data


def _peek(connection: socket.socket, front: Front, size_bytes: int) -> bytes:
    """Look, and leave all in the kernel until it is whole."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        data = connection.recv(size_bytes, socket.MSG_PEEK)
        if not data:
            raise ConnectionResetError
        if find_hello(data) is not None:
            return connection.recv(_CHUNK_BYTES)
        if len(data) >= size_bytes:
            return _react(connection, front, data)
        time.sleep(_POLL_S)
    raise TimeoutError


def _react(connection: socket.socket, front: Front, data: bytes) -> bytes:
    if front.reaction == "default":
        raise RefusedError(has_default=True, data=data)
    end(connection, front.reaction)
    raise RefusedError


def end(connection: socket.socket, how: str) -> None:
    """End a connection.

    Args:
        connection: From the client.
        how: "reset", "close", "alert:N", or "mute": read on and say nothing until the client goes.
    """
    kind, _, code = how.partition(":")
    with contextlib.suppress(OSError):
        if kind == "mute":
            connection.settimeout(PATIENCE_S)
            while connection.recv(_CHUNK_BYTES):
                pass
        elif kind == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == "alert":
            connection.sendall(_ALERT_HEAD + bytes((int(code),)))
    connection.close()


def splice(client: socket.socket, server: socket.socket, early: bytes) -> None:
    """Carry bytes both ways until one side ends.

    Args:
        client: Connection from the client.
        server: Connection to the server.
        early: What the client has sent already.
    """
    server.sendall(early)
    peers = {client: server, server: client}
    while True:
        readable, _, _ = select.select(list(peers), [], [], PATIENCE_S)
        if not readable:
            return
        for each in readable:
            data = each.recv(_CHUNK_BYTES)
            if not data:
                return
            peers[each].sendall(data)
