"""One TCP connection of a capture: two streams, put into the order in which the ends saw them, into one tracker.

A capture may show an answer before its question: packets of the two directions take different ways through
a host. Which end knew what is in the packets themselves: a segment that acknowledges byte n of the other
direction was sent after its sender had received it. So a segment's bytes wait until the other direction has
been delivered that far; where the capture lost those bytes, the wait ends with the connection.

The TLS client is who sends the ClientHello. A connection whose first bytes are not TLS's is let go at once,
unless they ask a proxy for a tunnel (`connect_tunnel`): then what follows the plain text is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pqtls.wire import packets
from pqtls.wire.codepoints import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, CLIENT_HELLO, HANDSHAKE
from pqtls.wire.connect_tunnel import PREFIX, ConnectTunnel
from pqtls.wire.facts import Handshake, Side
from pqtls.wire.hello_segments import HelloSegmentCounter
from pqtls.wire.tcp_stream import Piece, TcpStream
from pqtls.wire.tracker import HandshakeTracker

if TYPE_CHECKING:
    from pqtls.wire.facts import Ending
    from pqtls.wire.packets import Endpoint, TcpSegment

Phase = Literal["waiting", "handshake", "over", "not-tls", "joined-late", "lost-tunnel"]
# Bytes of one connection that wait for its ClientHello: a server's first flight with ML-DSA certificates has
# about 20 KB. A capture that begins in the middle of a download must not be kept.
MAX_WAITING_BYTES = 65_536
_CONFLICT = "The capture shows two different versions of the same bytes of the stream."
# A TLS record header and the first byte of its payload: enough to know a ClientHello.
_TLS_HEAD_BYTES = 6
_HEAD_BYTES = max(_TLS_HEAD_BYTES, len(PREFIX))
_RECORD_TYPES = frozenset((CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA))


@dataclass(frozen=True, slots=True)
class CapturedHandshake:
    """One TLS handshake found in captured packets.

    Attributes:
        client: Who sent the ClientHello.
        server: The other end.
        handshake: The facts, `segments` of the ClientHellos among them.
        connection_id: The tracker's name for the connection.
        started_ns: When the first segment of the first ClientHello was captured, nanoseconds since 1970;
            None where the capture has no times.
        number: Number of the TCP connection, unique in its capture.
    """

    client: Endpoint
    server: Endpoint
    handshake: Handshake
    connection_id: str
    started_ns: int | None
    number: int


class TcpConnection:
    """Follows one connection from its first packet to the end of its handshake.

    Args:
        one: The end that sent the first packet seen.
        other: The other end.
        number: A number for the connection, unique in its capture.

    Attributes:
        number: The number.
        phase: "waiting" until it is known whether this is TLS; "over" when nothing can change the handshake;
            "lost-tunnel" when a proxy's plain text could not be followed to its end.
        ignored: Segments outside the window, ignored as a receiver would.
    """

    def __init__(self, one: Endpoint, other: Endpoint, number: int) -> None:
        self.number = number
        self.phase: Phase = "waiting"
        self.ignored = 0
        self._streams = {one: TcpStream(), other: TcpStream()}
        self._peers = {one: other, other: one}
        self._heads = {one: b"", other: b""}
        self._waiting: dict[Endpoint, list[Piece]] = {one: [], other: []}
        self._waiting_bytes = 0
        self._client: Endpoint | None = None
        self._tunnel: ConnectTunnel | None = None
        self._tunnel_client: Endpoint | None = None
        self._tls_offsets: dict[Endpoint, int] = {}
        self._tracker = HandshakeTracker()
        self._counter = HelloSegmentCounter()
        self._started_ns: int | None = None
        self._now_ns: int | None = None
        self._serial = 0

    @property
    def memory_bytes(self) -> int:
        """Memory held for packets, estimated."""
        tunnel = 0 if self._tunnel is None else self._tunnel.memory_bytes
        return self._waiting_bytes + tunnel + sum(stream.memory_bytes for stream in self._streams.values())

    @property
    def first_sequence_numbers(self) -> dict[Endpoint, int | None]:
        """Number of the first byte of each direction, None where nothing was seen of it."""
        return {end: stream.first_sequence_number for end, stream in self._streams.items()}

    @property
    def has_overflowed(self) -> bool:
        """Too much of it came out of order, and bytes were dropped."""
        return any(stream.has_overflowed for stream in self._streams.values())

    def is_same(self, segment: TcpSegment) -> bool:
        """Tell whether a segment with a SYN belongs to this connection or opens another on the same ports.

        Args:
            segment: The segment.
        """
        return self._streams[segment.src].begins_at((segment.seq + 1) % (1 << 32))

    @property
    def is_tunnel(self) -> bool:
        """It begins with plain text to a proxy."""
        return self._tunnel is not None

    def has_plain_text(self, segment: TcpSegment) -> bool:
        """Tell whether a segment carries, or may carry, bytes of the plain text before a tunnel's TLS.

        Args:
            segment: A segment that `receive` has taken.
        """
        if self._tunnel is None or not segment.payload:
            return False
        first = segment.seq + (1 if segment.flags & packets.SYN else 0)
        offset, tls_offset = self._streams[segment.src].offset_of(first), self._tls_offsets.get(segment.src)
        return offset is None or tls_offset is None or offset < tls_offset

    def receive(self, segment: TcpSegment, time_ns: int | None) -> None:
        """Take the next packet of this connection.

        Args:
            segment: The packet.
            time_ns: When it was captured.
        """
        own, peer = self._streams[segment.src], self._streams[segment.dst]
        seq = segment.seq
        if segment.flags & packets.SYN:
            seq = (seq + 1) % (1 << 32)
            own.anchor(seq, is_syn=True)
        if segment.flags & packets.RST:
            self._receive_reset(own, segment.seq)
            return
        if segment.flags & packets.ACK:
            peer.anchor(segment.ack)
            peer.note_reach(segment.ack)
        acknowledged = peer.offset_of(segment.ack) if segment.flags & packets.ACK else None
        self._serial += 1
        if not segment.payload and not segment.flags & (packets.SYN | packets.FIN):
            own.anchor(seq)
        if not own.receive(seq, segment.payload, time_ns, self._serial, acknowledged):
            self.ignored += 1
            return
        if segment.flags & packets.FIN:
            own.receive_fin((seq + len(segment.payload) + segment.missing_bytes) % (1 << 32))
        self._deliver()
        if self.has_overflowed:
            self.finish()
        elif all(stream.is_finished for stream in self._streams.values()):
            self._end("closed")

    def _receive_reset(self, own: TcpStream, seq: int) -> None:
        if not own.accepts_reset(seq):
            self.ignored += 1
            return
        own.note_reach(seq)
        self._release()
        gap = any(stream.has_gap for stream in self._streams.values())
        self._end("capture-end" if gap else "reset")

    def finish(self) -> None:
        """Take the end of what is seen of this connection; nothing that is still awaited will come."""
        if self.phase not in ("waiting", "handshake"):
            return
        self._release()
        complete = not any(stream.has_gap for stream in self._streams.values())
        closed = complete and any(stream.is_finished for stream in self._streams.values())
        self._end("closed" if closed else "capture-end")

    def _end(self, how: Ending) -> None:
        if self.phase in ("waiting", "handshake"):
            self._tracker.receive_end(how)
            self.phase = "over"

    def result(self) -> CapturedHandshake | None:
        """Return what was seen; None where not even a ClientHello's beginning was."""
        client = self._client
        if client is None:
            return None
        handshake = self._tracker.handshake or Handshake(ended="capture-end")
        counts = self._counter.counts
        hellos = tuple(
            replace(hello, segments=counts[number] if number < len(counts) else None)
            for number, hello in enumerate(handshake.client_hellos)
        )
        handshake = replace(handshake, client_hellos=hellos)
        if any(stream.has_conflict for stream in self._streams.values()):
            handshake = replace(handshake, malformed=handshake.malformed or _CONFLICT)
        name = self._tracker.connection_id
        return CapturedHandshake(client, self._peers[client], handshake, name, self._started_ns, self.number)

    # Delivery

    def _deliver(self) -> None:
        """Deliver every piece whose time has come, in either direction."""
        has_moved = True
        while has_moved:
            has_moved = False
            for end, stream in self._streams.items():
                other = self._streams[self._peers[end]]
                piece = stream.peek()
                while piece is not None and other.has_delivered(piece.acknowledged):
                    has_moved = True
                    self._take(end, stream.take())
                    if self.phase not in ("waiting", "handshake"):
                        return
                    piece = stream.peek()

    def _release(self) -> None:
        """Deliver what waits for bytes that will not come any more, as far as it still proves something."""
        for stream in self._streams.values():
            stream.anchor_at_first()
        while self.phase in ("waiting", "handshake"):
            self._deliver()
            ends = [end for end, stream in self._streams.items() if stream.peek() is not None and self._may_force(end)]
            if not ends or self.phase not in ("waiting", "handshake"):
                return
            end = self._client if self._client in ends else ends[0]
            self._take(end, self._streams[end].take())

    def _may_force(self, end: Endpoint) -> bool:
        """Tell whether an end's bytes mean anything although bytes that it had received before were lost.

        Out of their context an honest client's data would look like an offence, and so would an honest
        server's answer to a hello that was not seen.
        """
        handshake = self._tracker.handshake
        if self._client is None:
            return True
        if handshake is None:
            return end == self._client
        if end == self._client:
            return handshake.server_hello is not None
        return handshake.hello_retry is None or len(handshake.client_hellos) == 2

    def _take(self, end: Endpoint, piece: Piece) -> None:
        if self._tunnel is not None:
            piece = self._strip(self._tunnel, end, piece)
            if not piece.data:
                return
        if self._client is None:
            self._waiting[end].append(piece)
            self._waiting_bytes += len(piece.data)
            self._heads[end] = (self._heads[end] + piece.data[:_HEAD_BYTES])[:_HEAD_BYTES]
            self._look_for_client(end)
        else:
            self._feed(end, piece)

    def _strip(self, tunnel: ConnectTunnel, end: Endpoint, piece: Piece) -> Piece:
        """Take a proxy's plain text off a piece."""
        count = tunnel.strip(Side.CLIENT if end == self._tunnel_client else Side.SERVER, piece.data)
        if tunnel.is_lost and self._client is None:
            self._forget("lost-tunnel")
        if count < len(piece.data):
            self._tls_offsets.setdefault(end, piece.offset + count)
        return replace(piece, offset=piece.offset + count, data=piece.data[count:])

    def _look_for_client(self, end: Endpoint) -> None:
        head = self._heads[end]
        if self._tunnel is None and head[: len(PREFIX)] == PREFIX[: len(head)]:
            if len(head) >= len(PREFIX):
                self._enter_tunnel(end)
        elif head[0] not in _RECORD_TYPES or (len(head) > 1 and head[1] != 3):
            has_syn = any(stream.has_syn for stream in self._streams.values())
            # Where the peer spoke first and was not heard, nothing is known: the answer may be a proxy's.
            peer = self._streams[self._peers[end]]
            was_heard = peer.delivered or not peer.has_gap
            self._forget("not-tls" if has_syn and was_heard else "joined-late")
        elif head[0] == HANDSHAKE and len(head) < _TLS_HEAD_BYTES:
            return
        elif head[0] == HANDSHAKE and head[5] == CLIENT_HELLO:
            self._client = end
            self.phase = "handshake"
            self._started_ns = self._waiting[end][0].time_ns
            waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
            for who in (end, self._peers[end]):
                for piece in waiting[who]:
                    self._feed(who, piece)
        elif self._waiting_bytes > MAX_WAITING_BYTES or min(map(len, self._heads.values())) >= _TLS_HEAD_BYTES:
            self._forget("joined-late")

    def _enter_tunnel(self, client: Endpoint) -> None:
        """Begin anew, with the plain text taken off."""
        self._tunnel, self._tunnel_client = ConnectTunnel(), client
        waiting, self._waiting_bytes = self._waiting, 0
        self._waiting = {end: [] for end in waiting}
        self._heads = dict.fromkeys(waiting, b"")
        for end in (client, self._peers[client]):
            for piece in waiting[end]:
                if self.phase in ("waiting", "handshake"):
                    self._take(end, piece)

    def _forget(self, phase: Phase) -> None:
        self.phase = phase
        self._waiting, self._waiting_bytes = {}, 0

    def _feed(self, end: Endpoint, piece: Piece) -> None:
        if piece.time_ns is not None:
            self._now_ns = max(piece.time_ns, self._now_ns or piece.time_ns)
        if end == self._client:
            self._counter.receive(piece)
        self._tracker.receive_data(Side.CLIENT if end == self._client else Side.SERVER, piece.data, self._now_ns)
        if self._tracker.done:
            self.phase = "over"
