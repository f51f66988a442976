"""What a faulty path is made of, as data: the link, the box on it, how the far end reads, what its TLS gets wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from pqtls.probe.model import HYBRID, P256, P384, X25519

HelloField = Literal[
    "groups", "shares", "ciphers", "extensions", "versions", "signatures", "certificate-signatures", "hybrid-shares"
]
Reading = Literal["complete", "once", "peek", "window", "first-record"]


@dataclass(frozen=True, slots=True)
class Link:
    """What the path does to any traffic.

    Attributes:
        rtt_s: Round trip that the box adds, in seconds.
        jitter_s: Added to each packet at random, up to this; the order stays.
        loss: Part of the packets that are lost, each way.
        reorder: Part of the client's packets that are held for some milliseconds, so that later ones overtake them.
        clamp_bytes: MSS clamp, both ways, as payload of a segment with timestamps; None for none.
        window_bytes: First window that the client is told; None for the server's own.
        honest_mtu: MTU between the routers, told by ICMP; None for 1500.
        is_honest_both_ways: That MTU is the way back's too.
        forward_hole_bytes: Segments to the server with more payload vanish; None for none.
        reverse_hole_bytes: The same from the server.
    """

    rtt_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    clamp_bytes: int | None = None
    window_bytes: int | None = None
    honest_mtu: int | None = None
    is_honest_both_ways: bool = False
    forward_hole_bytes: int | None = None
    reverse_hole_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Dislike:
    """What in a ClientHello is not borne.

    Attributes:
        fields: Where to look.
        codes: Values that are not borne.
        known: Every value but these is not borne; None to go by `codes`.
        has_grease: GREASE is not borne.
        count: More entries than this are not borne; None for any number.
    """

    fields: tuple[HelloField, ...]
    codes: tuple[int, ...] = ()
    known: tuple[int, ...] | None = None
    has_grease: bool = False
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A box on the path that looks at a connection's first bytes.

    Attributes:
        wants: The first segment must hold the whole first record, or the name; every packet must begin with a record,
            or be small; or a whole hello is judged.
        kill: "reset", "drop", "close" or "alert:N".
        dislikes: What a judge of whole hellos does not bear.
        block_s: Seconds for which the client is blocked after a kill, 0 for not at all.
        block_kind: How.
        limit_bytes: Payload that is still small.
    """

    wants: Literal["whole-record", "name", "record-start", "small", "content"]
    kill: str
    dislikes: Dislike | None = None
    block_s: float = 0.0
    block_kind: Literal["reset", "drop"] = "drop"
    limit_bytes: int = 1300


@dataclass(frozen=True, slots=True)
class Front:
    """How the far end reads a ClientHello.

    Attributes:
        reading: "complete" as it should; "once"; "peek" into a fixed buffer; "window": peek with a receive buffer
            that is too small; "first-record": the first record must be all.
        reaction: To a hello that is not whole: "close", "reset", "mute", "alert:N" or "default" (another server).
        peek_bytes: Size of the fixed buffer.
        wake_s: Seconds between the connection's first bytes and the one read.
        is_router: A router by server name in front of the server, in place of the server itself.
    """

    reading: Reading = "complete"
    reaction: str = "close"
    peek_bytes: int = 1024
    wake_s: float = 0.0
    is_router: bool = False


@dataclass(frozen=True, slots=True)
class Tls:
    """What the server is able to, and what it gets wrong.

    Attributes:
        groups: In the order in which it likes them.
        retries_for_first: It asks for its first choice wherever the client names it, share or not.
        is_tls12: It knows nothing newer than TLS 1.2.
        flight_bytes: Size of its first flight without its share.
        think_s: Seconds that it takes to answer.
        dislikes: What it refuses.
        refusal: How: "reset", "close", "mute" or "alert:N".
        retry_fault: "close", "reset", "alert:N" after the second hello, "no-echo" of the session id in the retry,
            or "no-retry"; "" for none.
        hybrid_fault: "swapped-share", "swapped-secret" or "garbage"; "" for none.
    """

    groups: tuple[int, ...] = (HYBRID, X25519, P256, P384)
    retries_for_first: bool = False
    is_tls12: bool = False
    flight_bytes: int = 2500
    think_s: float = 0.0
    dislikes: Dislike | None = None
    refusal: str = "alert:40"
    retry_fault: str = ""
    hybrid_fault: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One drawn path, and what must be found on it.

    Attributes:
        fault: Id of the class it stands for.
        link: The link.
        box: The box on it, None for none.
        front: How the far end reads.
        tls: The server.
        is_inspected: A box terminates TLS before the server, and makes certificates to order.
        expected: Ids of the faults that must be named, all of them and no other.
        also: Ids that must be among those that fit as well.
        triggered_by: The same of what sets a penalty off.
        is_full: The fault shows only in the whole set of experiments.
        pool: So many servers take turns behind the address, of which one has the fault.
        repeats: How often it has to be repeated to be seen (`pqtls path --repeat`).
        state: Server state that must come out, "" for any.
        costs: Costs that must come out.
    """

    fault: str
    link: Link = Link()
    box: Box | None = None
    front: Front = Front()
    tls: Tls = Tls()
    is_inspected: bool = False
    expected: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    triggered_by: frozenset[str] = frozenset()
    is_full: bool = False
    pool: int = 1
    repeats: int = 0
    state: str = ""
    costs: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_socket_level(self) -> bool:
        """It needs no packets of its own: a server on loopback shows it too."""
        holes = (self.link.forward_hole_bytes, self.link.reverse_hole_bytes)
        has_hole = any(hole is not None for hole in holes) or bool(self.link.loss or self.link.reorder)
        is_about_packets = bool(self.costs & {"F16", "F17", "F18", "F45"}) or self.front.reading == "window"
        return self.box is None and not has_hole and not is_about_packets

    def without_fault(self) -> Scenario:
        """Return the same path, its fault taken out: the negative control."""
        link = replace(self.link, forward_hole_bytes=None, reverse_hole_bytes=None)
        tls = replace(self.tls, dislikes=None, retry_fault="", hybrid_fault="")
        return Scenario(self.fault, link, None, Front(), tls, is_full=self.is_full, repeats=self.repeats)
