"""A model of one TCP connection: segments, acknowledgements, timers and windows, on a virtual clock.

It knows nothing of experiments, symptoms or faults: bytes go in, boxes and servers act on segments and bytes, and what
comes out is what a kernel would know. Written apart from pqtls.path, which is tested against it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

MIN_RTO_S = 0.2
INITIAL_SEGMENTS = 10
ACK_LOSS_PART = 0.5


@dataclass
class Link:
    """What a path does to any traffic."""

    rtt_s: float = 0.02
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    clamp_bytes: int | None = None  # MSS clamp, both ways, payload bytes
    window_bytes: int = 64_240
    honest_bytes: int | None = None  # largest payload, told by ICMP
    forward_hole_bytes: int | None = None  # largest payload, told by nobody
    reverse_hole_bytes: int | None = None
    hops: int = 1  # of the server; below it there are routers
    box_after: int = 0  # routers before the boxes and the holes
    deaf: tuple[int, ...] = ()  # routers that tell nobody of spent hops


class Box:
    """Sees every segment from the client, in the order in which they come. One for each connection."""

    def on_segment(self, offset: int, payload: bytes) -> str:
        """Return "pass", "drop", "reset", "close" or "alert:N"."""
        return "pass"


class App:
    """What reads at the far end. `wire` is set when the connection is made.

    `markers` says what its answer holds: behind how many bytes, what, and facts of it.
    """

    wire: Wire
    buffer_bytes: int | None = None  # receive buffer; None for plenty
    markers: list[tuple[int, str, dict[str, Any]]]

    def on_readable(self) -> None:
        """More bytes are in order than before: `wire.server_bytes`."""


@dataclass
class Sender:
    """One direction of a TCP connection, as its sender keeps it."""

    mss_bytes: int
    window_bytes: int
    size_bytes: int = 0
    next: int = 0
    acked: int = 0
    retransmits: int = 0
    rto_s: float = MIN_RTO_S
    congestion: int = INITIAL_SEGMENTS
    timer: int = 0


@dataclass
class Wire:
    """A connection between a scripted client and an app, over a link with boxes."""

    link: Link
    rng: random.Random
    boxes: list[Box]
    app: App
    client_mss: int  # payload that the client announces and sends at most
    hops: int | None = None  # that the client's packets have
    now: float = 0.0
    client_bytes: bytearray = field(default_factory=bytearray)
    server_bytes: int = 0  # client bytes in order at the server
    consumed: int = 0
    is_dead: bool = False
    pmtu: int = 1500
    answer_in_order: int = 0
    out_of_order: int = 0
    window_at_client: int = 0
    on_answer: Callable[[], None] = lambda: None
    on_end: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        mss = min(self.client_mss, self.link.clamp_bytes or self.client_mss)
        window = min(self.link.window_bytes, self.app.buffer_bytes or self.link.window_bytes)
        self.up = Sender(mss, window)
        self.down = Sender(mss, 65_535)
        for sender in (self.up, self.down):
            sender.rto_s = max(MIN_RTO_S, self.link.rtt_s * 1.5 + 0.1)
        self.window_at_client = window
        self._server_parts: dict[int, int] = {}
        self._client_parts: dict[int, int] = {}
        self.app.wire = self

    # The clock.

    def at(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay_s, self._count, call, args))

    def run(self, is_over: Callable[[], bool], deadline_s: Callable[[], float]) -> None:
        while self._events and not is_over():
            if self._events[0][0] > deadline_s():
                self.now = deadline_s()
                return
            self.now, _, call, args = heapq.heappop(self._events)
            call(*args)
        if not is_over():
            self.now = deadline_s()

    def _delay(self) -> float:
        delay = self.link.rtt_s / 2 + self.rng.random() * self.link.jitter_s
        if self.link.reorder and self.rng.random() < self.link.reorder:
            delay += 0.001 + self.rng.random() * self.link.rtt_s
        return delay

    # From client to server.

    def client_write(self, data: bytes) -> None:
        self.client_bytes += data
        self.up.size_bytes = len(self.client_bytes)
        self._push(self.up, self._send_up)

    def _push(self, sender: Sender, send: Callable[[int, int], None]) -> None:
        had_in_flight = sender.next > sender.acked
        while sender.next < sender.size_bytes:
            in_flight = sender.next - sender.acked
            room = min(sender.window_bytes, sender.congestion * sender.mss_bytes) - in_flight
            size = min(sender.mss_bytes, sender.size_bytes - sender.next, room)
            if size <= 0:
                break
            send(sender.next, size)
            sender.next += size
        if not had_in_flight and sender.next > sender.acked:
            self._arm(sender, send)

    def _arm(self, sender: Sender, send: Callable[[int, int], None]) -> None:
        sender.timer += 1
        self.at(sender.rto_s, self._on_timer, sender, send, sender.timer)

    def _on_timer(self, sender: Sender, send: Callable[[int, int], None], number: int) -> None:
        if number != sender.timer or sender.acked >= sender.next or self.is_dead:
            return
        sender.retransmits += 1
        sender.rto_s *= 2
        send(sender.acked, min(sender.mss_bytes, sender.next - sender.acked))
        self._arm(sender, send)

    def _send_up(self, start: int, size: int) -> None:
        if self.is_dead:
            return
        if self.link.honest_bytes is not None and size > self.link.honest_bytes:
            self.at(self.link.rtt_s / 2, self._on_too_big)
            return
        if self.rng.random() < self.link.loss:
            return
        self.at(self._delay(), self._at_boxes, start, bytes(self.client_bytes[start : start + size]))

    def _on_too_big(self) -> None:
        limit = self.link.honest_bytes
        assert limit is not None
        if self.up.mss_bytes > limit:
            self.up.mss_bytes = limit
            self.pmtu = limit + 52
            position, end = self.up.acked, self.up.next
            while position < end:
                size = min(limit, end - position)
                self.up.retransmits += 1
                self._send_up(position, size)
                position += size

    def _at_boxes(self, start: int, payload: bytes) -> None:
        if self.is_dead:
            return
        link = self.link
        if self.hops is not None and self.hops <= link.box_after:
            self._expire(self.hops)
            return
        hole = self.link.forward_hole_bytes
        if hole is not None and len(payload) > hole:
            return
        for box in self.boxes:
            verdict = box.on_segment(start, payload)
            if verdict == "drop":
                return
            if verdict != "pass":
                self._kill(verdict)
                return
        if self.hops is not None and self.hops < link.hops:
            self._expire(self.hops)
        else:
            self._at_server(start, payload)

    def _expire(self, at: int) -> None:
        """A router throws a packet away and says so, if it is not deaf."""
        if at not in self.link.deaf:
            self.at(self.link.rtt_s * at / self.link.hops / 2, lambda: self.on_end("expired"))

    def _kill(self, verdict: str) -> None:
        """A box or a server ends the connection: an alert or a FIN and a RST towards the client, nothing after it."""
        self.is_dead = True
        self.at(self.link.rtt_s / 2, lambda: self.on_end(verdict))

    def _at_server(self, start: int, payload: bytes) -> None:
        held = self.server_bytes - self.consumed
        if self.app.buffer_bytes is not None and start + len(payload) - self.consumed > self.app.buffer_bytes:
            self.acknowledge_up(self.app.buffer_bytes - held)
            return
        self._server_parts[start] = max(self._server_parts.get(start, 0), start + len(payload))
        before = self.server_bytes
        self.server_bytes = _advance(self._server_parts, self.server_bytes)
        limit = self.app.buffer_bytes
        window = self.link.window_bytes if self.server_bytes == 0 else 64_240
        self.acknowledge_up(window if limit is None else limit - (self.server_bytes - self.consumed))
        if self.server_bytes > before:
            self.app.on_readable()

    def acknowledge_up(self, window_bytes: int) -> None:
        if self.rng.random() >= self.link.loss * ACK_LOSS_PART:
            self.at(self.link.rtt_s / 2, self._on_ack, self.up, self._send_up, self.server_bytes, window_bytes)

    def _on_ack(self, sender: Sender, send: Callable[[int, int], None], upto: int, window_bytes: int) -> None:
        if sender is self.up:
            self.window_at_client = window_bytes
        sender.window_bytes = window_bytes
        if upto > sender.acked:
            sender.congestion += -(-(upto - sender.acked) // sender.mss_bytes)
            sender.acked = upto
            sender.rto_s = max(MIN_RTO_S, self.link.rtt_s * 1.5 + 0.1)
            sender.timer += 1
            if sender.next > sender.acked:
                self._arm(sender, send)
        self._push(sender, send)

    # From server to client.

    def server_write(self, size_bytes: int) -> int:
        """Send so many bytes; return where they end."""
        self.down.size_bytes += size_bytes
        self._push(self.down, self._send_down)
        return self.down.size_bytes

    def server_end(self, how: str) -> None:
        """End it: "reset", "close" or "alert:N"."""
        if not self.is_dead:
            self._kill(how)

    def _send_down(self, start: int, size: int) -> None:
        hole = self.link.reverse_hole_bytes
        if self.is_dead or (hole is not None and size > hole) or self.rng.random() < self.link.loss:
            return
        self.at(self._delay(), self._at_client, start, size)

    def _at_client(self, start: int, size: int) -> None:
        if start > self.answer_in_order:
            self.out_of_order += 1
        self._client_parts[start] = max(self._client_parts.get(start, 0), start + size)
        self.answer_in_order = _advance(self._client_parts, self.answer_in_order)
        self.at(self.link.rtt_s / 2, self._on_ack, self.down, self._send_down, self.answer_in_order, 65_535)
        self.on_answer()


def _advance(parts: dict[int, int], position: int) -> int:
    """Return how far the stream is in order, given segments by start and end."""
    moved = True
    while moved:
        moved = False
        for start, end in list(parts.items()):
            if start <= position:
                del parts[start]
                if end > position:
                    position = end
                    moved = True
    return position
