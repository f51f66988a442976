"""What a box does with the first bytes of a connection, and for how long it holds a grudge. No input or output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.lab.paths.hellos import find_hello, is_disliked
from pqtls.wire.errors import MalformedError
from pqtls.wire.packets import SYN

if TYPE_CHECKING:
    from pqtls.lab.paths.scenario import Box
    from pqtls.wire.packets import TcpSegment

_MAX_CONNECTIONS = 4096
_RECORD_TYPES = range(20, 24)
_NAME_EXTENSION = b"\x00\x00"


class _Connection:
    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        self.state = "looking"  # "passed", "killed"
        self.parts: dict[int, bytes] = {}


class FirstFlightPolicy:
    """Judges the client's first bytes of every connection; after a kill everything of it is dropped.

    Args:
        box: What it wants, and how it kills.
    """

    def __init__(self, box: Box) -> None:
        self.box = box
        self._connections: dict[object, _Connection] = {}

    def judge(self, segment: TcpSegment) -> str:
        """Return "pass", "drop", or how to kill: "kill-drop", "reset", "close", "alert:N".

        Args:
            segment: From the client.
        """
        key = (segment.src, segment.dst)
        if segment.flags & SYN:
            if len(self._connections) >= _MAX_CONNECTIONS:
                self._connections.clear()
            self._connections[key] = _Connection((segment.seq + 1) & 0xFFFFFFFF)
            return "pass"
        connection = self._connections.get(key)
        if connection is None or connection.state == "passed":
            return "pass"
        if connection.state == "killed":
            return "drop"
        if not segment.payload:
            return "pass"
        offset = (segment.seq - connection.first_seq) & 0xFFFFFFFF
        is_bad = self._is_bad(connection, offset, segment.payload)
        if is_bad is None:
            return "pass"
        if is_bad and self.box.wants == "record-start" and self.box.kill == "drop":
            return "drop"  # it has no memory: the next packet is judged by itself
        connection.state = "killed" if is_bad else "passed"
        if not is_bad:
            return "pass"
        return "kill-drop" if self.box.kill == "drop" else self.box.kill

    def _is_bad(self, connection: _Connection, offset: int, payload: bytes) -> bool | None:
        """Tell whether the first bytes are bad; None if that cannot be told yet."""
        if self.box.wants == "content":
            return self._is_disliked(connection, offset, payload)
        if self.box.wants == "record-start":
            return None if payload[0] in _RECORD_TYPES else True
        if self.box.wants == "small":
            return None if len(payload) <= self.box.limit_bytes else True
        if offset:
            return True  # the first packet was overtaken: a box that looks at packets sees a part
        if self.box.wants == "whole-record":
            return len(payload) < 5 or 5 + int.from_bytes(payload[3:5], "big") > len(payload)
        return not holds_name(payload)

    def _is_disliked(self, connection: _Connection, offset: int, payload: bytes) -> bool | None:
        connection.parts[offset] = payload
        stream = b""
        for start in sorted(connection.parts):
            if start > len(stream):
                break
            stream = stream[:start] + connection.parts[start]
        try:
            found = find_hello(stream)
        except MalformedError:
            return False
        if found is None:
            return None
        return self.box.dislikes is not None and is_disliked(found.hello, self.box.dislikes)


def holds_name(payload: bytes) -> bool:
    """Tell whether the start of a ClientHello holds its whole server_name, walking it as a filter does.

    Args:
        payload: What came first.
    """
    position = 5 + 4 + 2 + 32
    try:
        position += 1 + payload[position]
        position += 2 + int.from_bytes(payload[position : position + 2], "big")
        position += 1 + payload[position] + 2
    except IndexError:
        return False
    while position + 4 <= len(payload):
        size = int.from_bytes(payload[position + 2 : position + 4], "big")
        if payload[position : position + 2] == _NAME_EXTENSION:
            return position + 4 + size <= len(payload)
        position += 4 + size
    return False


class Penalty:
    """A block of everything from the client, for some seconds."""

    def __init__(self) -> None:
        self._until_s = -1.0
        self.kind = "drop"

    def start(self, now_s: float, box: Box) -> None:
        """Begin, or begin anew.

        Args:
            now_s: The time.
            box: Says how, and for how long.
        """
        self._until_s = now_s + box.block_s
        self.kind = box.block_kind

    def is_on(self, now_s: float) -> bool:
        """Tell whether the block is on.

        Args:
            now_s: The time.
        """
        return now_s < self._until_s
