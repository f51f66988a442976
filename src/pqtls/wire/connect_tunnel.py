"""The plain text before TLS where a client goes through an HTTP proxy: CONNECT and its answers. Sans-IO.

A client sends `CONNECT host:port HTTP/1.1` and a head; once it has been answered with a 2xx, everything that
follows is the tunnel's (RFC 9110 section 9.3.6). A request that is refused, such as with 407, may be followed by
another one on the same connection, after the answer's body; and a proxy that leads to another proxy has two
requests and two answers before the tunnel's own bytes. Neither a CONNECT nor its 2xx has a body.

Whatever cannot be followed is said to be lost, never taken for something that is no TLS. Nothing that is read
here is kept beyond one head; heads hold credentials.

Sources: RFC 9110 sections 9.3.6, 15; RFC 9112 sections 2.2, 4, 6.3.
"""

from __future__ import annotations

import re

from pqtls.wire.facts import Side

PREFIX = b"CONNECT "
# Servers and proxies take 8 to 64 KiB of head; Kerberos tickets in a Proxy-Authorization can have 48 KiB.
MAX_HEAD_BYTES = 65_536
# Requests on one connection: NTLM needs three, a chain of proxies one each; more is somebody playing.
MAX_REQUESTS = 16
# The page with which a proxy refuses.
MAX_BODY_BYTES = 1 << 20

# RFC 9112 section 2.2: a lone line feed may be taken for a line's end.
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_REQUEST = re.compile(rb"CONNECT [^\s]{1,1024} HTTP/1\.[01]\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r\n]")
_LENGTH = re.compile(rb"\n(?i:content-length)[ \t]*:[ \t]*([0-9]{1,7})[ \t]*\r?\n")
_FIELD = re.compile(rb"\n(?i:content-length|transfer-encoding)[ \t]*:")


class _Head:
    """Collects one head."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    def take(self, data: bytes, position: int) -> tuple[int, bytes | None]:
        """Take what still belongs to the head; return where it ends in `data`, and the head once it is whole."""
        before = len(self._data)
        # One byte more than allowed tells that it is too long, however the bytes were cut.
        self._data += data[position : position + MAX_HEAD_BYTES + 1 - before]
        found = _END_OF_HEAD.search(self._data, max(0, before - 2))
        if found is None:
            return position + len(self._data) - before, None
        head = bytes(self._data[: found.end()])
        self._data.clear()
        return position + len(head) - before, head

    @property
    def is_too_long(self) -> bool:
        return len(self._data) > MAX_HEAD_BYTES


class ConnectTunnel:
    """Tells in each direction where the plain text ends and the tunnel's own bytes begin.

    The bytes of the two directions must come in the order in which the ends saw them.

    Attributes:
        is_lost: The plain text could not be followed, so it is not known where the tunnel's bytes begin.
    """

    def __init__(self) -> None:
        self.is_lost = False
        self._is_open = dict.fromkeys(Side, False)
        self._heads = {side: _Head() for side in Side}
        self._requests = self._answers = 0
        self._in_request = self._in_answer = False
        self._body_left = 0
        self._was_accepted = False
        self._body_is_unbounded = False

    @property
    def memory_bytes(self) -> int:
        """Memory held, in bytes."""
        return sum(head.size_bytes for head in self._heads.values())

    def strip(self, sender: Side, data: bytes) -> int:
        """Take the next bytes of one direction.

        Args:
            sender: Who sent them; the client is who sent the CONNECT.
            data: Any number of bytes, cut anywhere.

        Returns:
            How many of them, from the first, are plain text; the rest is the tunnel's.
        """
        position = 0
        while position < len(data) and not self._is_open[sender] and not self.is_lost:
            if sender is Side.CLIENT:
                position = self._take_request(data, position)
            else:
                position = self._take_answer(data, position)
        return len(data) if self.is_lost else position

    def _take_request(self, data: bytes, position: int) -> int:
        if not self._in_request:
            if self._body_is_unbounded:
                self.is_lost = True  # the client goes on after an answer whose end was not found
            elif self._requests and data[position] != PREFIX[0]:
                self._is_open[Side.CLIENT] = True
            else:
                self._in_request = True
            return position
        position, head = self._heads[Side.CLIENT].take(data, position)
        if head is not None:
            self._in_request = False
            self._requests += 1
            self.is_lost = _REQUEST.match(head) is None or self._requests > MAX_REQUESTS
        self.is_lost |= self._heads[Side.CLIENT].is_too_long
        return position

    def _take_answer(self, data: bytes, position: int) -> int:
        if self._body_is_unbounded:
            return len(data)
        if self._body_left:
            taken = min(self._body_left, len(data) - position)
            self._body_left -= taken
            return position + taken
        if not self._in_answer:
            if self._was_accepted and self._answers == self._requests:
                self._is_open[Side.SERVER] = True
                return position
            self._in_answer = True
        position, head = self._heads[Side.SERVER].take(data, position)
        if head is not None:
            self._in_answer = False
            self._judge_answer(head)
        self.is_lost |= self._heads[Side.SERVER].is_too_long
        return position

    def _judge_answer(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if status is None or self._answers == self._requests:
            self.is_lost = True
            return
        if status[1].startswith(b"1") and status[1] != b"101":
            return  # an interim answer: the final one follows
        self._answers += 1
        self._was_accepted = status[1].startswith(b"2")
        if self._was_accepted:
            return
        lengths, fields = _LENGTH.findall(head), _FIELD.findall(head)
        if len(lengths) == len(fields) == 1 and int(lengths[0]) <= MAX_BODY_BYTES:
            self._body_left = int(lengths[0])
        else:
            # Chunked, or up to the end of the connection: that harms nothing unless something follows it.
            self._body_is_unbounded = True
            self.is_lost = self._requests > self._answers or self._is_open[Side.CLIENT] or self._in_request
