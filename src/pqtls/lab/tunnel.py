"""Carry one connection's bytes both ways between two sockets, past a witness."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import time
from typing import TYPE_CHECKING, Literal

from pqtls.wire.facts import Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.lab.witness import Witness

# A direction holds one chunk at a time: nothing more is read before it has been passed on.
CHUNK_BYTES = 65_536


class GuardedWitness:
    """A witness whose mistakes never reach the traffic: after the first it is not asked again.

    Args:
        witness: The witness, None for none.
        report: Takes what it raised.
    """

    def __init__(self, witness: Witness | None, report: Callable[[Exception], None]) -> None:
        self._witness = witness
        self._report = report

    def receive(self, side: Side, data: bytes) -> None:
        """Pass bytes on to the witness.

        Args:
            side: Who sent them.
            data: The bytes.
        """
        if self._witness is not None:
            try:
                self._witness.receive(side, data, time.time_ns())
            except Exception as error:  # noqa: BLE001 - a witness is foreign code here
                self._witness = None
                self._report(error)

    def finished(self, how: Literal["closed", "reset"] | None) -> None:
        """Pass the end on to the witness.

        Args:
            how: How the connection ended.
        """
        witness, self._witness = self._witness, None
        if witness is not None:
            try:
                witness.finished(how)
            except Exception as error:  # noqa: BLE001 - a witness is foreign code here
                self._report(error)


class Tunnel:
    """Two connected sockets and a witness.

    Ends of stream are passed on one direction at a time (half-close), resets as resets.

    Args:
        client: Non-blocking socket to the client.
        server: Non-blocking socket to the server.
        witness: Sees the bytes.
    """

    def __init__(self, client: socket.socket, server: socket.socket, witness: GuardedWitness) -> None:
        self._sockets = {Side.CLIENT: client, Side.SERVER: server}
        self._witness = witness

    async def run(self, early: bytes = b"") -> None:
        """Carry bytes until both streams have ended or one side broke off; both sockets are closed after.

        Args:
            early: What the client has sent already.
        """
        how: Literal["closed", "reset"] | None = None
        pumps = [asyncio.ensure_future(self._pump(Side.CLIENT, early)), asyncio.ensure_future(self._pump(Side.SERVER))]
        try:
            await asyncio.gather(*pumps)
            how = "closed"
        except OSError:
            how = "reset"
        finally:
            for pump in pumps:
                pump.cancel()
            # The loop must have let go of a socket before it is closed: its number may be another's at once.
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in self._sockets.values():
                close(each, reset=how == "reset")
            self._witness.finished(how)

    async def _pump(self, side: Side, data: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        source, target = self._sockets[side], self._sockets[side.peer]
        data = data or await loop.sock_recv(source, CHUNK_BYTES)
        while data:
            self._witness.receive(side, data)
            await loop.sock_sendall(target, data)
            data = await loop.sock_recv(source, CHUNK_BYTES)
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # it is gone, and what it sent was read to the end
                raise


def close(connection: socket.socket, *, reset: bool = False) -> None:
    """Close a socket.

    Args:
        connection: The socket.
        reset: With a reset (RST) instead of an orderly end (FIN).
    """
    if reset:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
