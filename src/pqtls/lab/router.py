"""The name router: AWS host names lead to the lab, by CONNECT or by a plain dial port, and to nowhere else.

One event loop in one thread carries every connection's bytes; each can have a witness that reads them as they
pass. Nothing is resolved: a host that the lab does not have is refused and noted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from pqtls.errors import UsageError
from pqtls.wire.facts import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from typing import Any

    from pqtls.wire.facts import Ending

Address = tuple[str, int]
Result = TypeVar("Result")

CHUNK_BYTES = 65_536
# A CONNECT request has one line and a few headers; a client that sends more is not one of ours.
MAX_REQUEST_BYTES = 8_192
REQUEST_TIMEOUT_S = 20.0
# A client that has ended has closed its connections; the servers get this long to do the same.
CLOSE_TIMEOUT_S = 3.0


class Witness(Protocol):
    """Who reads a relayed connection; called from the router's thread."""

    def receive(self, side: Side, data: bytes, time_ns: int) -> None:
        """Take bytes as they pass."""

    def finished(self, how: Ending | None) -> None:
        """Take the connection's end."""


class Entry:
    """One client's way into the lab: a proxy port and a dial port of its own.

    Attributes:
        proxy_port: Port of its CONNECT proxy on loopback.
        dial_port: Port on loopback that leads straight to its server.
        refused: Hosts that were asked for and that the lab does not have.
        connections: Connections carried.
    """

    def __init__(
        self, routes: Mapping[str, Address], dial: Address, make_witness: Callable[[str, str, str], Witness] | None
    ) -> None:
        self._routes = dict(routes)
        self._dial = dial
        self._make_witness = make_witness
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.proxy_port = 0
        self.dial_port = 0
        self.refused: list[str] = []
        self.connections = 0

    async def open(self, port: int) -> None:
        """Listen on both ports.

        Args:
            port: For the proxy, 0 for any free one.
        """
        for handler, wanted in ((self._serve_proxy, port), (self._serve_dial, 0)):
            self._servers.append(await asyncio.start_server(self._tracked(handler), "127.0.0.1", wanted))
        self.proxy_port, self.dial_port = (server.sockets[0].getsockname()[1] for server in self._servers)

    async def close(self) -> None:
        """Stop listening, let connections end, and cut those that do not."""
        for server in self._servers:
            server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tracked(
        self, handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async def serve() -> None:
                try:
                    await handler(reader, writer)
                except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
                    pass  # a client that fails is seen by its own error
                finally:
                    writer.close()

            task = asyncio.get_running_loop().create_task(serve())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return start

    async def _serve_proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_TIMEOUT_S)
        words = request.split(b"\r\n", 1)[0].decode("ascii", "replace").split(" ")
        if len(words) != 3 or words[0] != "CONNECT":
            writer.write(b"HTTP/1.1 405 Only CONNECT\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = words[1].rpartition(":")
        target = self._routes.get(host.lower())
        if target is None or port != "443":
            self.refused.append(words[1])
            writer.write(b"HTTP/1.1 403 Not in the lab\r\nContent-Length: 0\r\n\r\n")
            return
        await self._carry(reader, writer, target, host, b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def _serve_dial(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._carry(reader, writer, self._dial, "", b"")

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: Address,
        host: str,
        greeting: bytes,
    ) -> None:
        """Carry one connection to its end."""
        self.connections += 1
        server_reader, server_writer = await asyncio.open_connection(*target, limit=CHUNK_BYTES)
        witness: Witness | None = None
        if self._make_witness is not None:
            client = writer.get_extra_info("peername")
            witness = self._make_witness(f"{client[0]}:{client[1]}", f"{target[0]}:{target[1]}", host)
        how: Ending | None = None
        try:
            writer.write(greeting)
            ends = await asyncio.gather(
                _pump(reader, server_writer, Side.CLIENT, witness), _pump(server_reader, writer, Side.SERVER, witness)
            )
            how = "reset" if "reset" in ends else "closed"
        finally:
            server_writer.close()
            if witness is not None:
                witness.finished(how)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: Side, witness: Witness | None
) -> Ending:
    """Carry one direction to its end, and hand the end on: a close as a close, a reset as a reset."""
    try:
        while data := await reader.read(CHUNK_BYTES):
            if witness is not None:
                witness.receive(side, data, time.time_ns())
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()
        return "reset"
    return "closed"


class Router:
    """Runs entries in a thread of its own. Use it as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pqtls-router", daemon=True)

    def __enter__(self) -> Router:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @contextlib.contextmanager
    def open_entry(
        self,
        routes: Mapping[str, Address],
        *,
        dial: Address,
        witness_factory: Callable[[str, str, str], Witness] | None = None,
        port: int = 0,
    ) -> Iterator[Entry]:
        """Open a way into the lab for one client.

        Args:
            routes: Host name, in lower case, to address.
            dial: Where the dial port leads.
            witness_factory: Makes a witness for a connection from client address, server address and host name.
            port: Of the proxy, 0 for any free one.

        Raises:
            UsageError: The port is taken.
        """
        entry = Entry(routes, dial, witness_factory)
        try:
            try:
                self._run(entry.open(port))
            except OSError as error:
                raise UsageError(
                    f"Port {port} on loopback cannot be had: {error.strerror}.",
                    "Choose another with --port, or leave it out.",
                ) from error
            yield entry
        finally:
            self._run(entry.close())
