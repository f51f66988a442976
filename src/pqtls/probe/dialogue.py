"""What is said on a connection before TLS begins: lines and fields, bounded in size and in time.

A peer may send them byte by byte, several in one read, or never; none of that may matter, or hang us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.probe.network import Connection

# A mail server's greeting and capabilities have 1 KB; a proxy's answer with its error page may have some.
MAX_BYTES = 65_536
MAX_LINE_BYTES = 4096


class BeforeTlsError(Exception):
    """The conversation ended before TLS began: no finding about TLS.

    Args:
        message: Why, and what to do about it, for people; nothing that the peer wrote.
        is_final: The peer said no, and would again.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.is_final = is_final


class Dialogue:
    """A conversation on a connection.

    Args:
        connection: Connected, nothing received yet.
        now: The clock, in seconds.
        timeout_s: Seconds for all of it.
    """

    def __init__(self, connection: Connection, now: Callable[[], float], timeout_s: float) -> None:
        self.speaker = "The server"
        self.sent_bytes = 0
        self._connection = connection
        self._now = now
        self._timeout_s = timeout_s
        self._deadline = now() + timeout_s
        self._buffer = bytearray()
        self._received_bytes = 0

    @property
    def unread(self) -> bytes:
        """What has come and was not read."""
        return bytes(self._buffer)

    @property
    def read_bytes(self) -> int:
        """How much was read."""
        return self._received_bytes - len(self._buffer)

    def say(self, data: bytes) -> None:
        """Send.

        Args:
            data: All of it, as one write.

        Raises:
            BeforeTlsError: It cannot be sent.
        """
        try:
            self._connection.send(data, max(0.001, self._deadline - self._now()))
        except TimeoutError as error:
            raise self._silent() from error
        except OSError as error:
            raise self._broken(error) from error
        self.sent_bytes += len(data)

    def read_line(self) -> bytes:
        """Return the next line without its end (a line feed, or a carriage return and one).

        Raises:
            BeforeTlsError: It does not come, or is too long.
        """
        looked_at = 0
        while (end := self._buffer.find(b"\n", looked_at, MAX_LINE_BYTES)) < 0:
            if len(self._buffer) >= MAX_LINE_BYTES:
                raise BeforeTlsError(
                    f"{self.speaker} sent a line of over {MAX_LINE_BYTES} bytes, as nobody does who speaks this "
                    "protocol: is the port right?",
                    is_final=True,
                )
            looked_at = len(self._buffer)
            self._receive()
        return self._take(end + 1).rstrip(b"\r\n")

    def read_exactly(self, size_bytes: int) -> bytes:
        """Return so many bytes.

        Args:
            size_bytes: How many; the caller has seen to it that it is not too many.

        Raises:
            BeforeTlsError: They do not come.
        """
        while len(self._buffer) < size_bytes:
            self._receive()
        return self._take(size_bytes)

    def expect_nothing_more(self) -> None:
        """Check that nothing came after the last answer: what did would be taken for the beginning of TLS.

        Raises:
            BeforeTlsError: Something came.
        """
        if self._buffer:
            raise BeforeTlsError(
                f"{self.speaker} sent {len(self._buffer)} bytes more after it had agreed to TLS and before TLS began: "
                "it is another kind of server (is the port right?), or breaks its protocol, or something on the way "
                "added them.",
            )

    def _take(self, size_bytes: int) -> bytes:
        taken = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        return taken

    def _receive(self) -> None:
        left_s = self._deadline - self._now()
        if left_s <= 0:
            raise self._silent()
        if self._received_bytes > MAX_BYTES:
            raise BeforeTlsError(
                f"{self.speaker} sent over {MAX_BYTES} bytes before TLS: is the port right?", is_final=True
            )
        try:
            data = self._connection.receive(left_s)
        except OSError as error:
            raise self._broken(error) from error
        if data is None:
            raise self._silent()
        if not data:
            raise BeforeTlsError(f"{self.speaker} closed the connection before TLS began.")
        self._received_bytes += len(data)
        self._buffer += data

    def _silent(self) -> BeforeTlsError:
        what = "sent nothing" if not self._received_bytes else "did not finish its answer"
        return BeforeTlsError(
            f"{self.speaker} {what} within {self._timeout_s:g} s, before TLS began: is the port right, and is it up?"
        )

    def _broken(self, error: OSError) -> BeforeTlsError:
        is_reset = isinstance(error, ConnectionResetError | BrokenPipeError)
        how = "reset the connection" if is_reset else f"was lost ({error.strerror or error})"
        return BeforeTlsError(f"{self.speaker} {how} before TLS began.")
