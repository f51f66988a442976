"""The one error of this room."""

from __future__ import annotations


class MalformedError(ValueError):
    """Bytes that break the protocol's own rules. Never raised for bytes that have merely not come yet.

    Args:
        message: What is wrong.
        offset: Where, in bytes from the start of the message or stream that was being read.
        path: Which field, such as `ClientHello.extensions.key_share`.
    """

    def __init__(self, message: str, offset: int = 0, path: str = "") -> None:
        super().__init__(message, offset, path)
        self.message = message
        self.offset = offset
        self.path = path

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message} (at byte {self.offset})"
