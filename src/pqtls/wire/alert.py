"""Alerts (RFC 9846 section 6)."""

from __future__ import annotations

from dataclasses import dataclass

from pqtls.wire.errors import MalformedError


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert.

    Attributes:
        level: 1 warning, 2 fatal; meaningless in TLS 1.3.
        code: AlertDescription.
    """

    level: int
    code: int

    @classmethod
    def parse(cls, data: bytes) -> Alert:
        """Read an alert.

        Args:
            data: Its two bytes.

        Raises:
            MalformedError: It is no alert.
        """
        if len(data) != 2 or data[0] not in (1, 2):
            raise MalformedError(f"{len(data)} bytes that are no alert", 0, "alert")
        return cls(data[0], data[1])

    def build(self) -> bytes:
        """Return its two bytes."""
        return bytes((self.level, self.code))
