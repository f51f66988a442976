"""Carries frames between the two interfaces of the box: later, never, changed, or with others of its own making."""

from __future__ import annotations

import contextlib
import heapq
import random
import select
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pqtls.lab.paths.policies import FirstFlightPolicy, Penalty
from pqtls.lab.paths.scenario import Link
from pqtls.lab.paths.topology import FAR_ROUTER_ADDRESS, NEAR_ROUTER_ADDRESS
from pqtls.wire.checksums import internet_checksum
from pqtls.wire.errors import MalformedError
from pqtls.wire.link import ETHERNET
from pqtls.wire.packet_builder import build_ipv4
from pqtls.wire.packets import ACK, FIN, PSH, RST, SYN, TcpSegment, parse_packet

if TYPE_CHECKING:
    from pqtls.lab.paths.scenario import Scenario

_ETHERNET_BYTES = 14
_IPV4 = b"\x08\x00"
_ICMP, _TCP = 1, 6
_QUOTED_BYTES = 548  # of the packet that was too big
_MAX_FRAME_BYTES = 65_536
_TIMESTAMPS_BYTES = 12
_MSS_OPTION, _END_OPTION, _NOTHING_OPTION = 2, 0, 1
_MAX_WAIT_S = 0.2
_HOLD_S = 0.004
_ALERT_HEAD = bytes.fromhex("150303000202")


class Carrier:
    """The box's packet loop, in a thread of its own.

    Args:
        near: Packet socket on the client's side.
        far: On the server's side.
    """

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._sockets = {True: near, False: far}  # by: does the frame come from the client
        self._lock = threading.Lock()
        self._queue: list[tuple[float, int, bool, bytes]] = []
        self._count = 0
        self._latest = {True: 0.0, False: 0.0}
        self._link = Link(rtt_s=0.0)
        self._random = random.Random(0)  # noqa: S311 - a network's chances, seeded
        self._policy: FirstFlightPolicy | None = None
        self._penalty = Penalty()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="carrier", daemon=True)
        self._thread.start()

    def apply(self, scenario: Scenario, seed: int) -> None:
        """Behave as a scenario says from now on; what is under way still arrives.

        Args:
            scenario: The scenario.
            seed: Of its chances.
        """
        with self._lock:
            self._link = scenario.link
            self._random = random.Random(seed)  # noqa: S311 - a network's chances, seeded
            self._policy = None if scenario.box is None else FirstFlightPolicy(scenario.box)
            self._penalty = Penalty()

    def _run(self) -> None:
        near, far = self._sockets[True], self._sockets[False]
        while not self._is_over:
            wait_s = min(_MAX_WAIT_S, max(0.0, self._queue[0][0] - time.monotonic())) if self._queue else _MAX_WAIT_S
            readable, _, _ = select.select([near, far], [], [], wait_s)
            for each in readable:
                self._read(each, is_up=each is near)
            now = time.monotonic()
            while self._queue and self._queue[0][0] <= now:
                _, _, is_up, frame = heapq.heappop(self._queue)
                with contextlib.suppress(OSError):  # a full queue is a lost packet
                    self._sockets[not is_up].send(frame)

    def _read(self, packets: socket.socket, *, is_up: bool) -> None:
        for _ in range(64):
            try:
                frame = packets.recv(_MAX_FRAME_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            with self._lock:
                self._take(frame, is_up)

    def _take(self, frame: bytes, is_up: bool) -> None:
        if frame[12:14] != _IPV4:
            self._send(frame, is_up, 0.0)  # ARP
            return
        try:
            segment = parse_packet(frame, ETHERNET)
        except MalformedError:
            return
        if not isinstance(segment, TcpSegment):
            self._send(frame, is_up, self._delay_s())
            return
        link = self._link
        if link.honest_mtu is not None and (is_up or link.is_honest_both_ways):
            packet = frame[_ETHERNET_BYTES:]
            if len(packet) > link.honest_mtu:
                self._tell_too_big(frame, is_up, link.honest_mtu)
                return
        hole_bytes = link.forward_hole_bytes if is_up else link.reverse_hole_bytes
        if hole_bytes is not None and len(segment.payload) > hole_bytes:
            return
        if link.loss and self._random.random() < link.loss:
            return
        if is_up and not self._is_let_through(frame, segment):
            return
        changed = self._change(segment, is_up)
        if changed is not segment:
            frame = _rebuild(frame, changed)
        hold_s = _HOLD_S if is_up and link.reorder and segment.payload and self._random.random() < link.reorder else 0.0
        self._send(frame, is_up, self._delay_s(), hold_s)

    def _delay_s(self) -> float:
        return self._link.rtt_s / 2 + self._random.random() * self._link.jitter_s

    def _send(self, frame: bytes, is_up: bool, delay_s: float, hold_s: float = 0.0) -> None:
        # In order, but for what is held.
        due_s = max(time.monotonic() + delay_s, self._latest[is_up])
        self._latest[is_up] = due_s
        self._count += 1
        heapq.heappush(self._queue, (due_s + hold_s, self._count, is_up, frame))

    def _is_let_through(self, frame: bytes, segment: TcpSegment) -> bool:
        """Ask the penalty and the policy; act on what they say."""
        now = time.monotonic()
        if self._penalty.is_on(now):
            if self._penalty.kind == "reset" and not segment.flags & RST:
                self._answer(frame, segment, RST | ACK)
            return False
        policy = self._policy
        verdict = "pass" if policy is None else policy.judge(segment)
        if verdict in ("pass", "drop") or policy is None:
            return verdict == "pass"
        if policy.box.block_s:
            self._penalty.start(now, policy.box)
        kind, _, code = verdict.partition(":")
        if kind == "kill-drop":
            return False
        if kind == "reset":
            self._answer(frame, segment, RST | ACK)
        else:
            alert = _ALERT_HEAD + bytes((int(code),)) if kind == "alert" else b""
            self._answer(frame, segment, FIN | PSH | ACK, alert)
        # Towards the server it is the client that gives up.
        end = replace(segment, flags=RST | ACK, payload=b"", options=b"", checksum=None)
        self._send(_rebuild(frame, end), is_up=True, delay_s=self._delay_s())
        return False

    def _answer(self, frame: bytes, segment: TcpSegment, flags: int, payload: bytes = b"") -> None:
        """Send a segment to the client in the server's name."""
        taken = len(segment.payload) + bool(segment.flags & (SYN | FIN))
        seq = segment.ack if segment.flags & ACK else 0
        forged = TcpSegment(segment.dst, segment.src, seq, (segment.seq + taken) & 0xFFFFFFFF, flags, payload)
        packet = build_ipv4(segment.dst.ip, segment.src.ip, _TCP, forged.build())
        self._send(frame[6:12] + frame[0:6] + _IPV4 + packet, is_up=False, delay_s=self._delay_s())

    def _tell_too_big(self, frame: bytes, is_up: bool, mtu: int) -> None:
        """Send a router's "fragmentation needed" back to the sender (RFC 1191 section 4)."""
        packet = frame[_ETHERNET_BYTES:]
        body = b"\x03\x04\x00\x00" + mtu.to_bytes(4, "big") + packet[:_QUOTED_BYTES]
        body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
        router = socket.inet_aton(FAR_ROUTER_ADDRESS if is_up else NEAR_ROUTER_ADDRESS)  # its own would be dropped
        answer = build_ipv4(router, packet[12:16], _ICMP, body)
        self._send(frame[6:12] + frame[0:6] + _IPV4 + answer, not is_up, self._delay_s())

    def _change(self, segment: TcpSegment, is_up: bool) -> TcpSegment:
        link = self._link
        if not segment.flags & SYN:
            return segment
        if link.clamp_bytes is not None:
            options = _clamp(segment.options, link.clamp_bytes + _TIMESTAMPS_BYTES)
            segment = replace(segment, options=options, checksum=None)
        if link.window_bytes is not None and not is_up:
            segment = replace(segment, window=min(segment.window, link.window_bytes), checksum=None)
        return segment


def _clamp(options: bytes, limit: int) -> bytes:
    """Return TCP options with a smaller MSS."""
    position = 0
    while position < len(options) and options[position] != _END_OPTION:
        if options[position] == _NOTHING_OPTION:
            position += 1
            continue
        size = options[position + 1] if position + 1 < len(options) else 0
        if size < 2:
            break
        if options[position] == _MSS_OPTION and size == 4:
            mss = min(limit, int.from_bytes(options[position + 2 : position + 4], "big"))
            return options[: position + 2] + mss.to_bytes(2, "big") + options[position + 4 :]
        position += size
    return options


def _rebuild(frame: bytes, segment: TcpSegment) -> bytes:
    """Return a frame around another segment between the same ends."""
    return frame[:_ETHERNET_BYTES] + build_ipv4(segment.src.ip, segment.dst.ip, _TCP, segment.build())
