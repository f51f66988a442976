"""Servers and boxes for the model: each acts on bytes as it sees them, none knows what is being tested."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pqtls.wire.client_hello import ClientHello
from pqtls.wire.groups import GROUPS
from tests.path.wire_model import App, Box

if TYPE_CHECKING:
    from collections.abc import Callable

X25519, P256, P384, X448, FFDHE4096 = 0x1D, 0x17, 0x18, 0x1E, 0x102
HYBRID, HYBRID_P256, HYBRID_P384, KYBER = 0x11EC, 0x11EB, 0x11ED, 0x6399
TLS13, TLS12 = 0x0304, 0x0303
ALL_HYBRIDS = (HYBRID, HYBRID_P256, HYBRID_P384)


def read_hello(stream: bytes) -> tuple[ClientHello, int, int] | None:
    """Return a whole hello, the size of its first record and its whole size; None while it is not all there."""
    message = b""
    position = first = 0
    while position + 5 <= len(stream):
        size = int.from_bytes(stream[position + 3 : position + 5], "big")
        if position + 5 + size > len(stream):
            return None
        message += stream[position + 5 : position + 5 + size]
        position += 5 + size
        first = first or position
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            return ClientHello.parse(message[4:]), first, position
    return None


def is_enough(stream: bytes, needs: str) -> bool:
    """Tell whether a receiver has seen what it needs: the whole hello, its first record, or the name."""
    if needs == "hello":
        return read_hello(stream) is not None
    if needs == "record":
        return len(stream) >= 5 and len(stream) >= 5 + int.from_bytes(stream[3:5], "big")
    return b".example" in stream or b".invalid" in stream


def is_grease(code: int) -> bool:
    return code & 0x0F0F == 0x0A0A


@dataclass
class Tls:
    """What a TLS server is able to, and what it gets wrong."""

    groups: tuple[int, ...] = (HYBRID, X25519, P256, P384)
    prefers_listed: bool = True  # its own order decides among the shares; it never retries where a share fits
    retries_for_first: bool = False  # asks for its first choice if the client names it, share or not
    max_version: int = TLS13
    certificate: str = "leaf"
    issuer: str = "CN=Private"
    is_trusted: bool = False
    mints: bool = False
    flight_bytes: int = 2500
    think_s: float = 0.001
    refuses: Callable[[ClientHello], bool] | None = None
    refusal: str = "alert:40"  # or "reset", "close", "mute"
    retry_fault: str = ""  # "close", "alert:N", "no-echo", "no-retry", "needless", "big-second"
    hybrid_fault: str = ""  # "swapped-share", "swapped-secret", "garbage"


@dataclass
class TlsApp(App):
    """Reads until a hello is complete, then answers it."""

    tls: Tls
    rng: random.Random
    default_tls: Tls | None = None
    markers: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    buffer_bytes: int | None = None
    reading: str = "complete"  # "once", "peek", "peek-once", "first-record"
    needs: str = "hello"  # what it must have seen: also "record", "name"
    reaction: str = "close"
    peek_bytes: int = 1024
    wake_s: float = 0.0005
    _first_end: int | None = None
    peeks_again: bool = False
    _is_woken: bool = False
    _is_content: bool = False  # it has seen what it needs; the rest comes as it comes
    _has_answered: bool = False
    _has_retried: bool = False

    def on_readable(self) -> None:
        if self._has_retried and not self.peeks_again:
            self.wire.consumed = self.wire.server_bytes
        if self.reading in ("once", "peek-once") and not self._has_retried and not self._is_content:
            if not self._is_woken:
                self._is_woken = True
                self.wire.at(self.wake_s, self._read_once)
            return
        if self.reading == "peek" and not self._has_retried and not self._is_content:
            self._peek()
            return
        if self.reading == "first-record" and not self._has_retried and self._take_first_record():
            return
        if self.buffer_bytes is not None and self.needs == "record" and is_enough(self._stream(), "record"):
            self._take_all()
        self._try()

    def _take_all(self) -> None:
        """It has peeked enough: what came is taken, and there is room again."""
        if self.wire.consumed < self.wire.server_bytes:
            self.wire.consumed = self.wire.server_bytes
            self.wire.acknowledge_up(self.buffer_bytes or 0)

    def _stream(self) -> bytes:
        start = self._first_end or 0
        data = bytes(self.wire.client_bytes[start : self.wire.server_bytes])
        return data[6:] if data.startswith(b"\x14\x03\x03\x00\x01\x01") else data

    def _read_once(self) -> None:
        data = self._stream()
        self._decide(data[: self.peek_bytes] if self.reading == "peek-once" else data, is_last=True)

    def _peek(self) -> None:
        data = self._stream()[: self.peek_bytes]
        self._decide(data, is_last=len(data) >= self.peek_bytes)

    def _decide(self, data: bytes, *, is_last: bool) -> None:
        if is_enough(data, self.needs):
            self._is_content = True
            self._try()
        elif is_last:
            self._react()

    def _take_first_record(self) -> bool:
        data = self._stream()
        if len(data) < 9 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
            return False
        if 4 + int.from_bytes(data[6:9], "big") <= int.from_bytes(data[3:5], "big"):
            return False
        if not self._has_answered:
            self._has_answered = True
            self._react()
        return True

    def _react(self) -> None:
        if self.default_tls is not None:
            self.tls = self.default_tls
            self.reading = "complete"
            self._try()
        elif self.reaction != "mute":
            self.wire.server_end(self.reaction)

    def _try(self) -> None:
        if self._has_answered:
            return
        found = read_hello(self._stream())
        if found is None:
            return
        self._has_answered = True
        self.wire.consumed = self.wire.server_bytes
        self.wire.at(self.tls.think_s, self._answer, found[0])

    def _mark(self, size_bytes: int, kind: str, **facts: Any) -> None:
        self.markers.append((self.wire.server_write(size_bytes), kind, facts))

    def _refuse(self) -> None:
        if self.tls.refusal != "mute":
            self.wire.server_end(self.tls.refusal)

    def _answer(self, hello: ClientHello) -> None:
        tls = self.tls
        has_big_second = tls.retry_fault == "big-second" and self._has_retried
        is_too_big = has_big_second and any(share.group == HYBRID for share in hello.key_shares or ())
        if is_too_big or (tls.refuses is not None and tls.refuses(hello)):
            self._refuse()
            return
        name = hello.server_name
        certificate = {
            "leaf": f"made for {name}" if tls.mints else tls.certificate,
            "covers": None if name is None else tls.mints or (name == "server.example") == (tls.certificate == "leaf"),
            "issuer": tls.issuer,
            "trusted": tls.is_trusted,
        }
        if TLS13 not in hello.supported_versions or tls.max_version < TLS13:
            if TLS12 not in (hello.supported_versions or (TLS12,)):
                self.wire.server_end("alert:70")
                return
            self._mark(tls.flight_bytes, "flight", version=TLS12, group=None, certificate=certificate)
            return
        self._choose(hello, certificate)

    def _choose(self, hello: ClientHello, certificate: dict[str, Any]) -> None:
        tls = self.tls
        named = [group for group in tls.groups if group in hello.supported_groups]
        shared = [share.group for share in hello.key_shares or ()]
        if not named:
            self.wire.server_end("alert:40")
            return
        order = tls.groups if tls.prefers_listed else shared
        fitting = [group for group in order if group in shared and group in named]
        wants = named[0] if tls.retries_for_first and named[0] not in shared else None
        is_needless = tls.retry_fault == "needless" and HYBRID in shared
        if fitting and is_needless and not self._has_retried:
            self._retry(fitting[0], is_needless=True)
        elif fitting and wants is None:
            self._finish(hello, fitting[0], certificate)
        elif self._has_retried:
            self.wire.server_end("alert:47")
        else:
            self._retry(wants or named[0])

    def _retry(self, group: int, *, is_needless: bool = False) -> None:
        fault = self.tls.retry_fault
        if fault == "no-retry":
            self.wire.server_end("alert:40")
            return
        self._has_retried = True
        self._has_answered = fault not in ("", "needless", "big-second")
        self._first_end = self.wire.server_bytes
        # A retry for what the hello before it had a share of is told by the client, as one without its session id is.
        self._mark(99, "retry", group=group, is_broken=fault == "no-echo" or is_needless)
        if self._has_answered and fault != "no-echo":
            self.wire.at(self.wire.link.rtt_s * 1.2 + 0.001, self.wire.server_end, fault)

    def _finish(self, hello: ClientHello, group: int, certificate: dict[str, Any]) -> None:
        size = self.tls.flight_bytes + (GROUPS[group].server_share_bytes or 0)
        facts: dict[str, Any] = {"version": TLS13, "group": group, "certificate": certificate}
        if group == HYBRID and self.tls.hybrid_fault:
            share = next(each.key_exchange for each in hello.key_shares or () if each.group == HYBRID)
            # The model's keys say of themselves in which order they are.
            if self.tls.hybrid_fault == "swapped-share":
                if share[:1] != b"S":
                    self._refuse()
                    return
            else:
                facts["bad"] = self.tls.hybrid_fault
        self._mark(size, "flight", **facts)


class FirstFlightBox(Box, ABC):
    """Looks at the client's first bytes and may kill the connection; then everything of it is dropped."""

    def __init__(self, kill: str) -> None:
        self.kill = kill
        self.is_killed = False
        self.is_passed = False
        self.on_kill: Callable[[], None] = lambda: None

    def on_segment(self, offset: int, payload: bytes) -> str:
        if self.is_killed:
            return "drop"
        if self.is_passed:
            return "pass"
        if not self.dislikes(offset, payload):
            return "pass"
        self.is_killed = True
        self.on_kill()
        return self.kill

    @abstractmethod
    def dislikes(self, offset: int, payload: bytes) -> bool:
        """Tell whether this segment is one to kill for."""


class WholeRecordBox(FirstFlightBox):
    """The first packet of data must hold the whole first record."""

    def dislikes(self, offset: int, payload: bytes) -> bool:
        if offset:
            return False
        self.is_passed = len(payload) >= 5 and 5 + int.from_bytes(payload[3:5], "big") <= len(payload)
        return not self.is_passed


class NameBox(FirstFlightBox):
    """The first packet of data must hold the server name."""

    def dislikes(self, offset: int, payload: bytes) -> bool:
        if offset:
            return False
        self.is_passed = b".example" in payload or b".invalid" in payload
        return not self.is_passed


class ContinuationBox(FirstFlightBox):
    """Every packet of data must begin with a record; each is judged by itself."""

    def on_segment(self, offset: int, payload: bytes) -> str:
        return self.kill if self.dislikes(offset, payload) else "pass"

    def dislikes(self, offset: int, payload: bytes) -> bool:
        return payload[0] not in (20, 21, 22, 23)


class BigPacketBox(FirstFlightBox):
    """No packet of data may be bigger than this."""

    def __init__(self, kill: str, limit_bytes: int) -> None:
        super().__init__(kill)
        self._limit_bytes = limit_bytes

    def dislikes(self, offset: int, payload: bytes) -> bool:
        return len(payload) > self._limit_bytes


class ContentBox(FirstFlightBox):
    """Puts the hello together, then judges what is in it."""

    def __init__(self, kill: str, dislikes: Callable[[ClientHello], bool]) -> None:
        super().__init__(kill)
        self._dislikes = dislikes
        self._parts: dict[int, bytes] = {}

    def dislikes(self, offset: int, payload: bytes) -> bool:
        self._parts[offset] = payload
        stream = b""
        for start in sorted(self._parts):
            if start > len(stream):
                break
            stream = stream[:start] + self._parts[start]
        found = read_hello(stream)
        if found is None:
            return False
        self.is_passed = not self._dislikes(found[0])
        return not self.is_passed
