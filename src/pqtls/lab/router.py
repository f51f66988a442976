"""Carries host names into the lab: an HTTP CONNECT proxy and a dial port for each client, on loopback.

One asyncio loop in one thread moves the bytes of all of them. A host that has no route is refused, so nothing
leaves the machine.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.lab.entry import Entry, listen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.lab.names import Address
    from pqtls.lab.witness import WitnessFactory


class Router:
    """Runs entries from entering the context to leaving it; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="pqtls-router", daemon=True)

    def __enter__(self) -> Router:
        self._thread.start()
        self._started.result()
        return self

    def __exit__(self, *_: object) -> None:
        loop, end = self._started.result()
        loop.call_soon_threadsafe(end.set)
        self._thread.join()

    async def _serve(self) -> None:
        end = asyncio.Event()
        self._started.set_result((asyncio.get_running_loop(), end))
        await end.wait()
        for entry in self._entries:
            await entry.shut(grace_s=0.0)

    def open_entry(
        self,
        routes: Mapping[str, Address],
        *,
        dial: Address | None = None,
        witness_factory: WitnessFactory | None = None,
        port: int = 0,
    ) -> Entry:
        """Open a way into the lab, usually for one client.

        Args:
            routes: Host name to the address that it leads to, whatever port is asked for.
            dial: Address that the entry's dial port leads to; None for no dial port.
            witness_factory: Makes a witness for each connection.
            port: Port of the proxy on loopback, 0 for any free one.

        Returns:
            The entry: a context manager, also closed with the router.

        Raises:
            UsageError: The port cannot be had.
        """
        loop, _ = self._started.result()
        try:
            proxy = listen(port)
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"Port {port} on loopback cannot be had: {reason}.", "Choose another one.") from error
        entry = Entry(loop, proxy, listen(0) if dial else None, routes, dial, witness_factory)
        self._entries.append(entry)
        asyncio.run_coroutine_threadsafe(entry.start(), loop).result()
        return entry
