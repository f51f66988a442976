"""What an experiment is, what was sent, and what came back: values only, nothing is judged here.

An `Attempt` is not a finding: a timeout is a timeout, not a refusal, and says how many bytes were acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pqtls.wire import codepoints as cp
from pqtls.wire.groups import group_code

X25519, P256, P384, X448 = (group_code(name) for name in ("x25519", "secp256r1", "secp384r1", "x448"))
FFDHE4096 = group_code("ffdhe4096")
HYBRID = group_code("X25519MLKEM768")
HYBRID_P256 = group_code("SecP256r1MLKEM768")
HYBRID_P384 = group_code("SecP384r1MLKEM1024")
KYBER_DRAFT = group_code("X25519Kyber768Draft00")
UNKNOWN_GROUP = 0xFEFE
"""A group of the private range that no implementation is known to use: unknown, and none of GREASE's."""

Cut = int | Literal["before-name", "inside-name", "after-name", "half", "record", "last-byte"]
Name = Literal["target", "other", "none"]
GreaseField = Literal["ciphers", "groups", "extensions", "versions", "signatures"]
ALL_GREASE: frozenset[GreaseField] = frozenset(("ciphers", "groups", "extensions", "versions", "signatures"))


@dataclass(frozen=True, slots=True)
class HelloPlan:
    """What a ClientHello offers.

    Attributes:
        groups: supported_groups in order (GREASE is put in front where `grease` says so).
        shares: Groups to send a key share for, in order.
        versions: Protocol versions in order.
        name: The target's name, another one made up for the occasion, or none.
        grease: Fields that GREASE is put into.
        ml_dsa: Extensions that announce ML-DSA signatures.
        is_compact: Nothing that a TLS 1.3 hello can do without, so that a hybrid fits one segment.
        is_name_last: The name comes after the key shares.
        is_swapped: The parts of hybrid shares stand in the wrong order (classical first for X25519MLKEM768).
        padded_to: Bytes of the record that padding fills up to; "segment": exactly one segment; "segment+1": one
            byte more; None: no padding.
        second_padded_to: The same of a second hello, after a retry.
    """

    groups: tuple[int, ...] = (X25519, P256, P384)
    shares: tuple[int, ...] = (X25519,)
    versions: tuple[int, ...] = (cp.TLS13, cp.TLS12)
    name: Name = "target"
    grease: frozenset[GreaseField] = frozenset()
    ml_dsa: Literal["none", "signatures", "signatures-and-certificates"] = "none"
    is_compact: bool = False
    is_name_last: bool = False
    is_swapped: bool = False
    padded_to: int | Literal["segment", "segment+1"] | None = None
    second_padded_to: int | None = None


@dataclass(frozen=True, slots=True)
class SendPlan:
    """How a hello is cut: into records, and into writes with pauses between them.

    Attributes:
        cut: Where the second write starts; None for one write. "record" cuts at the first record's end.
        pause_s: Seconds between the writes; an answer that comes meanwhile ends the sending.
        record_cut: Where the second record starts, in bytes of the message; "half"; None for one record.
        max_segment_bytes: TCP_MAXSEG, set before the connection; None to leave it to the kernel.
        hops: Routers that what is sent after connecting may cross, less one (IP TTL); None for the kernel's own.
    """

    cut: Cut | None = None
    pause_s: float = 0.0
    record_cut: int | Literal["half"] | None = None
    max_segment_bytes: int | None = None
    hops: int | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One connection to be made.

    Attributes:
        id: Such as "E5" or "E8(1000)"; the E-codes of docs/path.md.
        title: What is sent, in a few words.
        purpose: What its outcome tells.
        hello: The hello; None for a connection that sends nothing (E0).
        send: How it is sent.
        is_declinable: A server without the group or version may rightly refuse it.
        is_aside: It was not meant to arrive: its outcome speaks for no class.
    """

    id: str
    title: str
    purpose: str
    hello: HelloPlan | None
    send: SendPlan = SendPlan()
    is_declinable: bool = False
    is_aside: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment of a hello: its range in the stream, and whether a pause comes before it."""

    start: int
    end: int
    pause_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Payload in bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Sent:
    """What one hello was, as sent.

    Attributes:
        size_bytes: Bytes of the stream, record headers included.
        write_ends: Where each write ended in the stream.
        pause_s: Seconds between the writes.
        record_ends: Where each record ended.
        name_start: Where the host name started, None without one.
        name_end: Where it ended.
        groups: supported_groups, GREASE included.
        shares: Groups of the key shares, GREASE included.
        schemes: signature_algorithms.
        certificate_schemes: signature_algorithms_cert, None without the extension.
        grease: Fields with GREASE in them.
        sha256: Hash of the stream in hex, to compare with what arrives at the far end.
        mss_bytes: Largest payload of a segment when the connection was made, None where the kernel does not say.
        window_bytes: Window that the server announced then, None if not known.
        is_swapped: Hybrid shares were in the wrong order.
        is_relayed: It went to a proxy, which sends it on in segments of its own: beyond it, sizes are not known.
        usual_mss_bytes: What is assumed where `mss_bytes` is not known: Ethernet's, with timestamps, or what the
            kernel was asked for. A clamp on the way makes it less.
    """

    size_bytes: int
    write_ends: tuple[int, ...]
    pause_s: float
    record_ends: tuple[int, ...]
    name_start: int | None
    name_end: int | None
    groups: tuple[int, ...]
    shares: tuple[int, ...]
    schemes: tuple[int, ...] = ()
    certificate_schemes: tuple[int, ...] | None = None
    grease: frozenset[GreaseField] = frozenset()
    sha256: str = ""
    mss_bytes: int | None = None
    window_bytes: int | None = None
    is_swapped: bool = False
    is_relayed: bool = False
    usual_mss_bytes: int = 1448

    def segments(self) -> tuple[Segment, ...]:
        """Return the segments that a kernel makes of the writes, by the MSS and the first window."""
        mss_bytes = self.mss_bytes or self.usual_mss_bytes
        found: list[Segment] = []
        start = 0
        for number, write_end in enumerate(self.write_ends):
            pause_s = self.pause_s if number else 0.0
            while start < write_end:
                size_bytes = min(mss_bytes, write_end - start)
                if start == 0 and self.window_bytes:
                    size_bytes = min(size_bytes, self.window_bytes)
                found.append(Segment(start, start + size_bytes, pause_s))
                start += size_bytes
                pause_s = 0.0
        return tuple(found)


@dataclass(frozen=True, slots=True)
class TcpFacts:
    """What the kernel knows of a connection (TCP_INFO); a field is None where the kernel does not say.

    Attributes:
        snd_mss: Largest payload that is sent in one segment, in bytes.
        advmss: Largest payload that we told the peer we take.
        pmtu: Path MTU as known so far, in bytes.
        bytes_acked: Payload bytes that the peer has acknowledged.
        bytes_received: Payload bytes received in order.
        total_retrans: Segments sent again.
        rcv_ooopack: Segments received out of order.
        snd_wnd: Window that the peer announces, in bytes.
        rwnd_limited_s: Seconds spent waiting for the peer's window.
        rtt_s: Smoothed round trip in seconds.
        min_rtt_s: Shortest round trip.
    """

    snd_mss: int | None = None
    advmss: int | None = None
    pmtu: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    total_retrans: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: int | None = None
    rwnd_limited_s: float | None = None
    rtt_s: float | None = None
    min_rtt_s: float | None = None


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The server's certificate, read but NOT verified: an issuer here is a claim, and a fact about what was sent.

    Attributes:
        leaf_sha256: Hash of the leaf certificate in hex.
        subject: Its subject.
        issuer: Its issuer.
        names: Its DNS names and addresses, at most 20.
        covers_name: One of them matches the name that was asked for; None if none was.
        is_trusted: Verified against the roots that were given; None if none were.
        count: Certificates sent.
    """

    leaf_sha256: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    covers_name: bool | None
    is_trusted: bool | None = None
    count: int = 1


Ending = Literal[
    "answered",  # a ServerHello of TLS 1.3 with its whole flight and our Finished, or one of TLS 1.2
    "alert",
    "reset",
    "closed",  # the peer ended the stream in order
    "timeout",
    "not-tls",
    "malformed",  # TLS that breaks the rules, such as a retry for a group that was already shared
    "bad-finish",  # a ServerHello, then protected records that do not open, or a Finished that does not verify
    "retry-only",  # a retry for a group that pqtls has no keys for, such as the Kyber draft; nothing more was sent
    "expired",  # E21: a router said that it threw a packet away whose hops were spent, as it was meant to
    "silent",  # E0: the server waits for us to speak, as it should
    "refused",
    "connect-timeout",
    "unreachable",
    "turned-away",  # a proxy, or the server before STARTTLS, said no, and would again
    "before-tls",  # it did not get as far as TLS
]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection, as it went.

    Attributes:
        experiment: Id of the experiment.
        number: Which connection of the examination this was, from 0.
        started_s: When, in seconds since the examination began.
        ending: How it ended.
        detail: The ending as words, for people.
        sent: The first hello, None if none was sent.
        sent_again: The second, after a retry.
        version: Version that the server chose.
        group: Group of the ServerHello.
        retry_group: Group that a HelloRetryRequest asked for.
        was_retried: There was a HelloRetryRequest.
        alert: Alert code, of an "alert" ending.
        plain_protocol: What was spoken in place of TLS, of a "not-tls" ending; "" where that is not known.
        has_downgrade_sentinel: A TLS 1.2 ServerHello whose random says that its server can do TLS 1.3.
        is_secret_swapped: The protected records opened only with the hybrid secret's parts in the wrong order.
        was_early: The answer came, or the connection ended, before all of the hello was sent.
        certificate: The certificate, where it was seen.
        address: IP address of the peer.
        local_port: Our port.
        connect_s: Seconds that the connection took.
        preamble_s: Seconds that a proxy and STARTTLS took then.
        answer_s: Seconds from the last write of the hello to the first byte back.
        handshake_s: Seconds from the first write to our Finished.
        flight_bytes: Bytes of the server's first flight, record headers included.
        flight_s: Seconds from its first byte to its last.
        tcp: Facts at the end.
        tcp_at_connect: Facts when the connection was made.
    """

    experiment: str
    number: int
    started_s: float
    ending: Ending
    detail: str = ""
    sent: Sent | None = None
    sent_again: Sent | None = None
    version: int | None = None
    group: int | None = None
    retry_group: int | None = None
    was_retried: bool = False
    alert: int | None = None
    plain_protocol: str = ""
    has_downgrade_sentinel: bool = False
    is_secret_swapped: bool = False
    was_early: bool = False
    certificate: CertificateFacts | None = None
    address: str = ""
    local_port: int = 0
    connect_s: float | None = None
    preamble_s: float = 0.0
    answer_s: float | None = None
    handshake_s: float | None = None
    flight_bytes: int = 0
    flight_s: float | None = None
    tcp: TcpFacts | None = None
    tcp_at_connect: TcpFacts | None = None

    @property
    def is_connected(self) -> bool:
        """A connection was made on which TLS could begin."""
        return self.ending not in ("refused", "connect-timeout", "unreachable") and not self.ended_before_tls

    @property
    def ended_before_tls(self) -> bool:
        """A proxy, or the server before STARTTLS, let it go no further; `detail` is a sentence that says why."""
        return self.ending in ("turned-away", "before-tls")


def known_fields(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields that are not None, for JSON.

    Args:
        value: A slotted dataclass of plain values.
    """
    pairs = ((name, getattr(value, name)) for name in value.__slots__)
    return {name: each for name, each in pairs if each is not None}
