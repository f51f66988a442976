"""Attempts made over the model: the real hellos of the real experiments, a scripted client, a virtual clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pqtls.probe.keys import share_bytes
from pqtls.probe.model import Attempt, CertificateFacts, TcpFacts
from pqtls.probe.plan import prepare, prepare_second
from tests.path.wire_model import Box, Link, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.probe.model import Ending, Experiment
    from pqtls.probe.plan import Ready
    from tests.path.servers_model import TlsApp

ADVMSS, ADVMSS_IPV6 = 1448, 1428
TIMESTAMPS_BYTES = 12
# When a kernel asks again for a connection: doubling (RFC 6298), or four times each second first (Linux from 6.5).
SYN_RETRIES_S = ((0.0, 1.0, 3.0, 7.0), (0.0, 1.0, 2.0, 3.0, 4.0, 6.0))


@dataclass
class FakeKeys:
    """A share of the right size that leads nowhere."""

    share: bytes

    def agree(self, server_share: bytes) -> tuple[bytes, ...]:
        raise AssertionError("the model finishes no handshake of its own")


@dataclass
class Simulator:
    """A network with a server on it: `Attempter` and `Clock` in one."""

    rng: random.Random
    link: Link
    make_app: Callable[[], TlsApp]
    make_boxes: Callable[[], list[Box]] = list
    has_tcp_facts: bool = True
    is_ipv6: bool = False
    is_kernel_new: bool = True
    on_connect: Callable[[], None] = lambda: None
    clock_s: float = 0.0
    blocked_until_s: float = -1.0
    block_kind: str = "drop"
    made: list[str] = field(default_factory=list)

    def now(self) -> float:
        return self.clock_s

    def sleep(self, seconds: float) -> None:
        self.clock_s += seconds

    def attempt(self, experiment: Experiment, number: int, started_s: float, timeout_s: float) -> Attempt:
        self.made.append(experiment.id)
        address = "2001:db8::1" if self.is_ipv6 else "192.0.2.1"
        attempt = Attempt(experiment.id, number, started_s, "timeout", address=address, local_port=40000 + number)
        connect_s = self._connect(timeout_s)
        if isinstance(connect_s, str):
            return replace(attempt, ending=connect_s)
        self.clock_s += connect_s
        self.on_connect()
        advmss = ADVMSS_IPV6 if self.is_ipv6 else ADVMSS
        asked = experiment.send.max_segment_bytes
        mss = advmss if asked is None else min(advmss, asked - TIMESTAMPS_BYTES)
        wire = Wire(self.link, self.rng, self.make_boxes(), self.make_app(), mss, hops=experiment.send.hops)
        talk = Talk(self, experiment, wire, timeout_s)
        talk.is_blocked = lambda: self.clock_s < self.blocked_until_s
        changes = talk.run()
        self.clock_s += talk.wire.now
        return replace(attempt, connect_s=connect_s, **changes)

    def _connect(self, timeout_s: float) -> float | Ending:
        for delay_s in SYN_RETRIES_S[self.is_kernel_new]:
            if delay_s + self.link.rtt_s >= timeout_s:
                break
            # Each request meets the block, or no longer does: so a kernel outlives one of some seconds.
            is_blocked = self.clock_s + delay_s < self.blocked_until_s
            if is_blocked and self.block_kind == "reset":
                self.clock_s += delay_s + self.link.rtt_s
                return "refused"
            if not is_blocked and self.rng.random() >= 2 * self.link.loss:
                return delay_s + self.link.rtt_s
        return self._give_up(timeout_s)

    def _give_up(self, timeout_s: float) -> Ending:
        self.clock_s += timeout_s
        return "connect-timeout"


class Talk:
    """The scripted client: writes, pauses, reads, answers a retry."""

    is_blocked: Callable[[], bool]

    def __init__(self, simulator: Simulator, experiment: Experiment, wire: Wire, timeout_s: float) -> None:
        self._simulator = simulator
        self._experiment = experiment
        self.wire = wire
        self._timeout_s = timeout_s
        self._ending: str | None = None
        self._facts: dict[str, Any] = {}
        self._markers_seen = 0
        self._last_write_s = 0.0
        self._is_all_sent = False
        self._first_byte_s: float | None = None
        self._last_byte_s = 0.0
        self._second: Ready | None = None
        self.tcp_at_connect = self._tcp()

    def run(self) -> dict[str, Any]:
        if self._experiment.hello is None:
            self.wire.now = 3.0
            return {"ending": "silent", "tcp": self._tcp()}
        self.wire.on_answer = self._on_answer
        self.wire.on_end = self._on_end
        swapped = self._experiment.hello.is_swapped
        self._ready = prepare(
            self._experiment,
            "server.example",
            lambda group: FakeKeys((b"S" if swapped else b"R").ljust(share_bytes(group), b"\x00")),
            self._simulator.rng.randbytes,
            self.tcp_at_connect,
        )
        for number, write in enumerate(self._ready.writes):
            self.wire.at(number * self._ready.sent.pause_s, self._write, write, number + 1 == len(self._ready.writes))
        # Never over before the last write: the deadline counts from there.
        self.wire.run(lambda: self._ending is not None, self._deadline)
        return self._describe()

    def _deadline(self) -> float:
        pending = 0.0 if self._is_all_sent else self._ready.sent.pause_s
        return self._last_write_s + pending + self._timeout_s

    def _write(self, data: bytes, is_last: bool) -> None:
        self._last_write_s = self.wire.now
        self._is_all_sent = is_last
        self.wire.client_write(data)

    def _on_end(self, how: str) -> None:
        if self._ending is not None:
            return
        kind, _, number = how.partition(":")
        self._ending = {"close": "closed"}.get(kind, kind)
        if number:
            self._facts["alert"] = int(number)

    def _on_answer(self) -> None:
        self._first_byte_s = self._first_byte_s or self.wire.now
        self._last_byte_s = self.wire.now
        markers = self.wire.app.markers
        while self._markers_seen < len(markers) and markers[self._markers_seen][0] <= self.wire.answer_in_order:
            _, kind, facts = markers[self._markers_seen]
            self._markers_seen += 1
            self._on_retry(facts) if kind == "retry" else self._on_flight(facts)

    def _on_retry(self, facts: dict[str, Any]) -> None:
        self._facts |= {"was_retried": True, "retry_group": facts["group"]}
        if facts["is_broken"]:
            self._ending = "malformed"
            return
        plan = self._experiment.hello
        assert plan is not None
        keys = {facts["group"]: FakeKeys(b"R".ljust(share_bytes(facts["group"]), b"\x00"))}
        self._second = prepare_second(self._ready, plan, dict(keys), None, self.tcp_at_connect)
        self._last_write_s = self.wire.now
        self.wire.client_write(b"".join(self._second.writes))

    def _on_flight(self, facts: dict[str, Any]) -> None:
        certificate = facts["certificate"]
        self._facts |= {
            "version": facts["version"],
            "group": facts["group"],
            "certificate": CertificateFacts(
                certificate["leaf"], "CN=x", certificate["issuer"], (), certificate["covers"], certificate["trusted"]
            ),
        }
        bad = facts.get("bad")
        self._ending = "bad-finish" if bad == "garbage" else "answered"
        self._facts["is_secret_swapped"] = bad == "swapped-secret"

    def _describe(self) -> dict[str, Any]:
        first = self._first_byte_s
        return {
            "ending": self._ending or "timeout",
            "sent": self._ready.sent,
            "sent_again": None if self._second is None else self._second.sent,
            "was_early": not self._is_all_sent,
            "answer_s": None if first is None else max(0.0, first - self._last_write_s),
            "flight_bytes": self.wire.answer_in_order,
            "flight_s": None if first is None else self._last_byte_s - first,
            "tcp": self._tcp(),
            "tcp_at_connect": self.tcp_at_connect,
            **self._facts,
        }

    def _tcp(self) -> TcpFacts | None:
        if not self._simulator.has_tcp_facts:
            return None
        wire = self.wire
        return TcpFacts(
            snd_mss=wire.up.mss_bytes,
            advmss=wire.client_mss,
            pmtu=wire.pmtu,
            bytes_acked=wire.up.acked,
            bytes_received=wire.answer_in_order,
            total_retrans=wire.up.retransmits,
            rcv_ooopack=wire.out_of_order,
            snd_wnd=wire.window_at_client,
            rtt_s=wire.link.rtt_s,
            min_rtt_s=wire.link.rtt_s,
        )
