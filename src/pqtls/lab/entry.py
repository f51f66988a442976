"""One client's way into the lab: its proxy port, its dial port, and what came through them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from pqtls.lab.connect_request import receive_request
from pqtls.lab.names import LOOPBACK
from pqtls.lab.tunnel import GuardedWitness, Tunnel, close

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pqtls.lab.names import Address
    from pqtls.lab.witness import WitnessFactory

# Clients send the head of CONNECT in one write; servers are on loopback.
_HEAD_TIMEOUT_S = 10.0
_DIAL_TIMEOUT_S = 10.0
# A client that has ended leaves its last bytes in flight for milliseconds.
_GRACE_S = 2.0


def listen(port: int) -> socket.socket:
    """Return a non-blocking socket that accepts on loopback.

    Args:
        port: The port, 0 for any free one.

    Raises:
        OSError: It cannot be had.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers on POSIX do: a port of connections that have ended (TIME_WAIT) is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


class Entry:
    """What `Router.open_entry` returns; a context manager that closes itself.

    Attributes:
        proxy_port: Port on loopback of its HTTP CONNECT proxy.
        dial_port: Port on loopback that leads straight to one server, 0 if there is none.
        connections: Connections that were carried, both ports together.
        refused: Hosts that the proxy was asked for and that have no route, in order.
        witness_errors: What witnesses raised; the traffic went on without them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        proxy: socket.socket,
        dial_listener: socket.socket | None,
        routes: Mapping[str, Address],
        dial: Address | None,
        witness_factory: WitnessFactory | None,
    ) -> None:
        self._loop = loop
        self._listeners = {"proxy": proxy}
        if dial_listener is not None:
            self._listeners["dial"] = dial_listener
        self._routes = {host.lower(): address for host, address in routes.items()}
        self._dial = dial
        self._witness_factory = witness_factory
        self._accepting: list[asyncio.Task[None]] = []
        self._carrying: set[asyncio.Task[None]] = set()
        self.proxy_port: int = proxy.getsockname()[1]
        self.dial_port: int = dial_listener.getsockname()[1] if dial_listener else 0
        self.connections = 0
        self.refused: list[str] = []
        self.witness_errors: list[Exception] = []

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, grace_s: float = _GRACE_S) -> None:
        """Accept no more, let open connections end, and cut off those that don't.

        After it every witness has been told the end of its connection.

        Args:
            grace_s: Seconds that open connections have to end by themselves.
        """
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self.shut(grace_s), self._loop).result()

    async def start(self) -> None:
        """Begin to accept; runs in the router's loop."""
        handlers = {"proxy": self._proxy, "dial": self._forward}
        for name, listener in self._listeners.items():
            self._accepting.append(asyncio.ensure_future(self._accept(listener, handlers[name])))

    async def shut(self, grace_s: float) -> None:
        """Do what `close` does; runs in the router's loop.

        Args:
            grace_s: Seconds that open connections have to end by themselves.
        """
        await _cancel(self._accepting)
        for listener in self._listeners.values():
            listener.close()
        if self._carrying and grace_s:
            await asyncio.wait(self._carrying, timeout=grace_s)
        await _cancel(list(self._carrying))

    async def _accept(self, listener: socket.socket, handler: Callable[[socket.socket], Awaitable[None]]) -> None:
        while True:
            try:
                client, _ = await self._loop.sock_accept(listener)
            except ConnectionAbortedError:  # it has gone again while it waited
                continue
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.ensure_future(self._handle(client, handler))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _handle(self, client: socket.socket, handler: Callable[[socket.socket], Awaitable[None]]) -> None:
        try:
            await handler(client)
        except (OSError, asyncio.TimeoutError):
            close(client, reset=True)  # either side broke off before there was a tunnel
        finally:
            client.close()

    async def _proxy(self, client: socket.socket) -> None:
        request = await asyncio.wait_for(receive_request(client), _HEAD_TIMEOUT_S)
        if request is None:
            return
        target = self._routes.get(request.host)
        if target is None or request.method != "CONNECT":
            self.refused.append(request.host)
            await self._answer(client, "403 Forbidden")
            return
        try:
            server = await self._connect(target)
        except (OSError, asyncio.TimeoutError):
            await self._answer(client, "502 Bad Gateway")
            return
        with server:
            await self._answer(client, "200 Connection established")
            await self._carry(client, server, request.host, request.early)

    async def _forward(self, client: socket.socket) -> None:
        assert self._dial is not None  # noqa: S101 - there is no dial port without it
        with await self._connect(self._dial) as server:
            await self._carry(client, server, "")

    async def _answer(self, client: socket.socket, status: str) -> None:
        length = "" if status.startswith("2") else "Content-Length: 0\r\nConnection: close\r\n"
        await self._loop.sock_sendall(client, f"HTTP/1.1 {status}\r\n{length}\r\n".encode())

    async def _connect(self, target: Address) -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            server.setblocking(False)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.wait_for(self._loop.sock_connect(server, target), _DIAL_TIMEOUT_S)
        except BaseException:
            server.close()
            raise
        return server

    async def _carry(self, client: socket.socket, server: socket.socket, host: str, early: bytes = b"") -> None:
        self.connections += 1
        witness = None
        if self._witness_factory is not None:
            try:
                witness = self._witness_factory(_name(client), _name(server), host)
            except Exception as error:  # noqa: BLE001 - a witness is foreign code here
                self.witness_errors.append(error)
        await Tunnel(client, server, GuardedWitness(witness, self.witness_errors.append)).run(early)


def _name(connection: socket.socket) -> str:
    host, port = connection.getpeername()[:2]
    return f"{host}:{port}"


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
