"""Reading and writing of TLS's presentation language: integers, and vectors as scopes.

A vector must be consumed exactly, at every level: `Reader.scope` sees to that, so no parser can forget it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pqtls.wire.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reader:
    """Reads a block of bytes from start to end.

    Args:
        data: The block.
        offset: Offset of its first byte in the message that it belongs to, for errors.
        path: Name of the field, for errors.
    """

    def __init__(self, data: bytes, offset: int = 0, path: str = "") -> None:
        self._data = data
        self._position = 0
        self._offset = offset
        self.path = path

    @property
    def offset(self) -> int:
        """Offset of the next byte in the whole message."""
        return self._offset + self._position

    @property
    def is_empty(self) -> bool:
        """Everything has been read."""
        return self._position >= len(self._data)

    def fail(self, message: str) -> MalformedError:
        """Return the error to raise at this place.

        Args:
            message: What is wrong.
        """
        return MalformedError(message, self.offset, self.path)

    def pull_bytes(self, count: int) -> bytes:
        """Read so many bytes.

        Args:
            count: How many.

        Raises:
            MalformedError: There are fewer left in this scope.
        """
        left = len(self._data) - self._position
        if count > left:
            raise self.fail(f"{count} bytes are wanted and {left} are left")
        start = self._position
        self._position += count
        return self._data[start : self._position]

    def pull_int(self, size: int) -> int:
        """Read an unsigned big-endian integer.

        Args:
            size: Its size in bytes.
        """
        return int.from_bytes(self.pull_bytes(size), "big")

    def pull_vector(self, length_size: int, *, least: int = 0) -> bytes:
        """Read a vector: its length, then so many bytes.

        Args:
            length_size: Size of the length field in bytes.
            least: Smallest length that the rules allow.
        """
        length = self.pull_int(length_size)
        if length < least:
            raise self.fail(f"a vector of {length} bytes, where {least} is the least")
        return self.pull_bytes(length)

    @contextmanager
    def scope(self, length_size: int, name: str, *, least: int = 0) -> Iterator[Reader]:
        """Read a vector as a block of its own, which must be consumed exactly.

        Args:
            length_size: Size of the length field in bytes.
            name: Name of the field, added to the path of errors.
            least: Smallest length that the rules allow.

        Yields:
            A reader of the vector's content.
        """
        data = self.pull_vector(length_size, least=least)
        inner = Reader(data, self.offset - len(data), f"{self.path}.{name}")
        yield inner
        inner.expect_end()

    def expect_end(self) -> None:
        """Require that everything was read.

        Raises:
            MalformedError: Bytes are left over.
        """
        if not self.is_empty:
            raise self.fail(f"{len(self._data) - self._position} bytes too many")

    def pull_int_list(self, length_size: int, name: str, *, item_size: int = 2) -> tuple[int, ...]:
        """Read a vector of integers that must not be empty.

        Args:
            length_size: Size of the length field in bytes.
            name: Name of the field.
            item_size: Size of each integer in bytes.
        """
        items = []
        with self.scope(length_size, name, least=item_size) as inner:
            while not inner.is_empty:
                items.append(inner.pull_int(item_size))
        return tuple(items)


def push_int(value: int, size: int) -> bytes:
    """Write an unsigned big-endian integer.

    Args:
        value: The integer.
        size: Its size in bytes.
    """
    return value.to_bytes(size, "big")


def push_vector(data: bytes, length_size: int) -> bytes:
    """Write a vector: its length, then its content.

    Args:
        data: The content.
        length_size: Size of the length field in bytes.

    Raises:
        OverflowError: The content is too long for the length field.
    """
    return push_int(len(data), length_size) + data
