"""A network on whose connections something is said before TLS: to a proxy, or to a server that begins in plain text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pqtls.probe.dialogue import BeforeTlsError, Dialogue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pqtls.probe.model import TcpFacts
    from pqtls.probe.network import Connection, Network

# Mail servers make clients wait for their greeting, most of them 5 or 6 s; proxies wait for their name server.
PATIENCE_S = 15.0


class PreparedNetwork:
    """Connections that are ready for TLS.

    Args:
        network: Where they come from.
        preambles: What is said on each, in order; each raises `BeforeTlsError` if it gets no further.
        is_relayed: The first peer is a proxy, which sends on what it gets in segments of its own.
        first_peer: Who that is, in words, for what is told if there is no connection; "" for the target itself.
    """

    # What says something before TLS, or goes through a proxy, has other hops than the hello.
    can_limit_hops = False

    def __init__(
        self,
        network: Network,
        preambles: Sequence[Callable[[Dialogue], None]],
        *,
        is_relayed: bool = False,
        first_peer: str = "",
    ) -> None:
        self._network = network
        self._preambles = preambles
        self._is_relayed = is_relayed
        self._first_peer = first_peer

    def connect(self, max_segment_bytes: int | None, timeout_s: float) -> Connection:
        """See `Network`; raises `BeforeTlsError` too.

        Args:
            max_segment_bytes: As there.
            timeout_s: As there; what is said after may take longer.
        """
        connection = self._connect(max_segment_bytes, timeout_s)
        began_s = self._network.now()
        dialogue = Dialogue(connection, self._network.now, max(timeout_s, PATIENCE_S))
        try:
            for preamble in self._preambles:
                preamble(dialogue)
        except BaseException:
            connection.abort()
            raise
        return _PreparedConnection(connection, dialogue, self._network.now() - began_s, is_relayed=self._is_relayed)

    def now(self) -> float:
        """See `Network`."""
        return self._network.now()

    def sleep(self, seconds: float) -> None:
        """See `Network`.

        Args:
            seconds: As there.
        """
        self._network.sleep(seconds)

    def _connect(self, max_segment_bytes: int | None, timeout_s: float) -> Connection:
        try:
            return self._network.connect(max_segment_bytes, timeout_s)
        except OSError as error:
            if not self._first_peer:
                raise
            why = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else error.strerror or error
            raise BeforeTlsError(
                f"There is no connection to {self._first_peer} ({why}): is its address right, and is it up?"
            ) from error


class _PreparedConnection:
    """A connection on which TLS may begin; what was said before is taken out of what is told of it."""

    def __init__(self, connection: Connection, dialogue: Dialogue, preamble_s: float, *, is_relayed: bool) -> None:
        self.address = connection.address
        self.local_port = connection.local_port
        self.is_relayed = is_relayed
        self.preamble_s = preamble_s
        self._connection = connection
        self._unread = dialogue.unread
        self._sent_bytes = dialogue.sent_bytes
        self._read_bytes = dialogue.read_bytes
        self._before = connection.tcp_facts()

    def send(self, data: bytes, timeout_s: float) -> None:
        """See `Connection`."""
        self._connection.send(data, timeout_s)

    def receive(self, timeout_s: float) -> bytes | None:
        """See `Connection`."""
        if self._unread:
            unread, self._unread = self._unread, b""
            return unread
        return self._connection.receive(timeout_s)

    def tcp_facts(self) -> TcpFacts | None:
        """See `Connection`."""
        facts = self._connection.tcp_facts()
        before = self._before
        if facts is None or before is None:
            return facts
        return replace(
            facts,
            bytes_acked=_less(facts.bytes_acked, self._sent_bytes),
            bytes_received=_less(facts.bytes_received, self._read_bytes),
            total_retrans=_less(facts.total_retrans, before.total_retrans),
            rcv_ooopack=_less(facts.rcv_ooopack, before.rcv_ooopack),
        )

    def limit_hops(self, hops: int | None) -> None:
        """See `Connection`."""
        self._connection.limit_hops(hops)

    def close(self, linger_s: float) -> None:
        """See `Connection`."""
        self._connection.close(linger_s)

    def abort(self) -> None:
        """See `Connection`."""
        self._connection.abort()


def _less(value: int | None, by: int | None) -> int | None:
    return None if value is None else max(0, value - (by or 0))
