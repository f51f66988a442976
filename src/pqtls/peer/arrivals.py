"""What arrived at the far end, connection by connection; the book of it is bounded."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

MAX_ARRIVALS = 1000
MAX_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class Arrival:
    """One connection, as the far end saw it.

    Attributes:
        number: Counts up by one from 1.
        started_s: When it came, in seconds of the far end's wall clock.
        client: Its address and port, as seen there.
        mss_bytes: Largest payload that the far end may send in one segment; None where the system does not say.
        chunks: Size in bytes, and seconds after the start, of what came at each wake-up until the hello was whole:
            segments, where they did not come too close together.
        hello_bytes: Bytes of the hello that came; of all that came if it was never whole.
        received_bytes: All bytes that came.
        is_whole: The hello was whole.
        sha256: Hash of it in hex, "" if it was never whole.
        answered_bytes: Bytes that the far end sent.
        acked_bytes: Those of them that were acknowledged when the connection ended; None where not known.
        ending: "finished" (the client's Finished came), "closed", "reset" or "silent", by the client.
    """

    number: int
    started_s: float
    client: str
    mss_bytes: int | None
    chunks: tuple[tuple[int, float], ...]
    hello_bytes: int
    received_bytes: int
    is_whole: bool
    sha256: str
    answered_bytes: int
    acked_bytes: int | None
    ending: str

    def to_json(self) -> dict[str, Any]:
        """Return it as an object."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Arrival:
        """Return what `to_json` described.

        Args:
            value: The object.

        Raises:
            KeyError: A field is missing.
        """
        fields = {name: value[name] for name in cls.__slots__}
        fields["chunks"] = tuple((int(size), float(at_s)) for size, at_s in fields["chunks"])
        return cls(**fields)


class Book:
    """The latest arrivals; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._arrivals: deque[Arrival] = deque(maxlen=MAX_ARRIVALS)
        self._lock = threading.Lock()
        self._number = 0

    def new_number(self) -> int:
        """Return the next connection's number."""
        with self._lock:
            self._number += 1
            return self._number

    def add(self, arrival: Arrival) -> None:
        """Take an arrival.

        Args:
            arrival: It.
        """
        with self._lock:
            self._arrivals.append(arrival)

    def since(self, number: int) -> tuple[int, list[Arrival]]:
        """Return the latest connection's number, and all arrivals that are newer than a number.

        Args:
            number: The number.
        """
        with self._lock:
            return self._number, [each for each in self._arrivals if each.number > number]
