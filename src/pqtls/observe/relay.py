"""The relay as a witness: it carries a connection's bytes between client and server and reads the handshake.

It sees what a network would see: the encrypted part stays closed to it. Programs reach it through a proxy
variable or a dial address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.observe.observation import Observation, observe
from pqtls.wire.tracker import HandshakeTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.wire.facts import Ending, Side


class RelayWitness:
    """Watches one relayed connection.

    Args:
        client: Address of the client as `ip:port`.
        server: Address that was dialled for it, as `ip:port`.
        report: Called once with the observation when the connection has ended, if any byte was sent.
    """

    def __init__(self, client: str, server: str, report: Callable[[Observation], None]) -> None:
        self._client = client
        self._server = server
        self._report = report
        self._tracker = HandshakeTracker()
        self._started_ns: int | None = None

    def receive(self, side: Side, data: bytes, time_ns: int) -> None:
        """Take relayed bytes.

        Args:
            side: Who sent them.
            data: The bytes, cut anywhere.
            time_ns: Wall clock in nanoseconds since 1970.
        """
        if self._started_ns is None:
            self._started_ns = time_ns
        if not self._tracker.done:
            self._tracker.receive_data(side, data, time_ns)

    def finished(self, how: Ending | None) -> None:
        """Take the end of the connection and report what was seen of it.

        Args:
            how: How it ended, None if that is not known.
        """
        if self._started_ns is None:
            return  # nothing was sent: a connection, but none of TLS
        if how is not None and not self._tracker.done:
            self._tracker.receive_end(how)
        handshake = self._tracker.handshake
        if handshake is None:
            return
        observation = observe(
            handshake,
            self._tracker.connection_id,
            "relay",
            started_ns=self._started_ns,
            client=self._client,
            server=self._server,
        )
        self._report(observation)
