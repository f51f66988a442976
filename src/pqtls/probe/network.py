"""The network as the probe needs it: connect, send, receive, and what the kernel knows.

Passed in, so that a model or a proxy can stand in for it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from pqtls.probe.tcp_info import read_tcp_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pqtls.probe.model import TcpFacts

_READ_BYTES = 65_536
# Linux's numbers; Python has names for some of them only.
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_USUAL_HOPS = -1


class HopsSpentError(OSError):
    """A router on the way threw a packet away because its hops were spent, and said so."""


class Connection(Protocol):
    """One connection. Its calls raise `ConnectionResetError` and `BrokenPipeError` as sockets do.

    Attributes:
        address: IP address of the peer.
        local_port: Our port.
        preamble_s: Seconds that were spoken in plain text before TLS may begin.
        is_relayed: The peer is a proxy, which sends on what it gets in segments of its own.
    """

    address: str
    local_port: int
    preamble_s: float
    is_relayed: bool

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send all, or raise TimeoutError.

        Args:
            data: The bytes, as one write.
            timeout_s: How long the kernel may not take them.
        """

    def receive(self, timeout_s: float) -> bytes | None:
        """Return what came, b"" at the end of the stream, None if nothing came in time.

        Args:
            timeout_s: How long to wait.
        """

    def tcp_facts(self) -> TcpFacts | None:
        """Return what the kernel knows now."""

    def limit_hops(self, hops: int | None) -> None:
        """Let what is sent from now on cross so many routers, less one; an error tells when one threw it away.

        Args:
            hops: IP TTL; None for the usual again.

        Raises:
            HopsSpentError: In `send` and `receive`, once a router has said so.
            OSError: This connection cannot.
        """

    def close(self, linger_s: float) -> None:
        """End the connection in order.

        Args:
            linger_s: How long the peer may take to end its side.
        """

    def abort(self) -> None:
        """End the connection at once, by a reset: the peer must not be left waiting for bytes that never come."""


class Network(Protocol):
    """Where connections come from, and what time it is there.

    Attributes:
        can_limit_hops: Packets of a connection can be given fewer hops, and routers that end them are heard.
    """

    can_limit_hops: bool

    def connect(self, max_segment_bytes: int | None, timeout_s: float) -> Connection:
        """Connect to the target.

        Args:
            max_segment_bytes: TCP_MAXSEG, None to leave it to the kernel.
            timeout_s: How long to wait.

        Raises:
            TimeoutError: No answer.
            ConnectionRefusedError: Nothing listens there.
            BeforeTlsError: There is a connection, on which TLS may not begin.
            OSError: It cannot be reached.
        """

    def now(self) -> float:
        """Return seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: How much.
        """


class SocketConnection:
    """A TCP socket.

    Args:
        connection: Connected, without TLS.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._is_limited = False
        self.address = str(connection.getpeername()[0])
        self.local_port = int(connection.getsockname()[1])
        self.preamble_s = 0.0
        self.is_relayed = False

    def send(self, data: bytes, timeout_s: float) -> None:
        """See `Connection`."""
        self._socket.settimeout(timeout_s)
        with self._reading_hops():
            self._socket.sendall(data)

    def receive(self, timeout_s: float) -> bytes | None:
        """See `Connection`."""
        # 0 would mean "do not block"; a deadline that has passed still takes what is there.
        self._socket.settimeout(max(timeout_s, 0.001))
        with self._reading_hops():
            try:
                return self._socket.recv(_READ_BYTES)
            except TimeoutError:
                return None

    @contextlib.contextmanager
    def _reading_hops(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # A router's "time exceeded", which Linux turns into this where IP_RECVERR is set (net/ipv4/tcp_ipv4.c).
            if self._is_limited and error.errno == errno.EHOSTUNREACH:
                raise HopsSpentError(*error.args) from error
            raise

    def tcp_facts(self) -> TcpFacts | None:
        """See `Connection`."""
        return read_tcp_facts(self._socket)

    def limit_hops(self, hops: int | None) -> None:
        """See `Connection`."""
        self._is_limited = hops is not None
        value = _USUAL_HOPS if hops is None else hops
        if self._socket.family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, self._is_limited)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, value)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, self._is_limited)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, value)

    def close(self, linger_s: float) -> None:
        """See `Connection`."""
        # Unread bytes at close would send a reset: what the server still says (tickets) is read first.
        with contextlib.suppress(OSError):
            if linger_s > 0:
                self._socket.shutdown(socket.SHUT_WR)
                deadline = time.monotonic() + linger_s
                while (left_s := deadline - time.monotonic()) > 0 and self.receive(left_s):
                    pass
        self._socket.close()

    def abort(self) -> None:
        """See `Connection`."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class SocketNetwork:
    """Real sockets to one address.

    Args:
        family: AF_INET or AF_INET6.
        address: As `socket.connect` takes it.

    Attributes:
        can_limit_hops: Packets of a connection can be given fewer hops, and routers that end them are heard.
    """

    can_limit_hops = sys.platform == "linux"

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self._family = family
        self._address = address

    def new_socket(self) -> socket.socket:
        """Return a TCP socket that is not yet connected; another network namespace's in a lab."""
        return socket.socket(self._family, socket.SOCK_STREAM)

    def connect(self, max_segment_bytes: int | None, timeout_s: float) -> SocketConnection:
        """See `Network`."""
        connection = self.new_socket()
        try:
            connection.settimeout(timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if max_segment_bytes is not None and hasattr(socket, "TCP_MAXSEG"):
                with contextlib.suppress(
                    OSError
                ):  # not settable everywhere: the attempt's own facts say what came of it
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, max_segment_bytes)
            connection.connect(self._address)
            return SocketConnection(connection)
        except OSError as error:
            connection.close()
            if error.errno == errno.ETIMEDOUT:
                raise TimeoutError(*error.args) from error
            raise

    def now(self) -> float:
        """See `Network`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See `Network`."""
        time.sleep(seconds)
