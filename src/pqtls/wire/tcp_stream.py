"""One direction of a TCP connection, put together from segments as a capture saw them. Sans-IO.

Segments may come out of order, twice, cut differently, with their sequence numbers wrapping around, and
without the SYN that would say where the stream begins. The first copy of a byte stands, as in a receiver
that has got it (RFC 9293 section 3.10.7.4); another copy that differs is a conflict, which is told: with two
versions of the same bytes a capture proves nothing.

Without a SYN the beginning is taken from what the peer acknowledges and from the lowest sequence number seen,
and nothing is delivered before one of the two can be known.

The limits are per direction, and hold before the handshake is complete only; nothing is kept after it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

# Bytes held out of order. A ClientHello has at most 131 KB and a server's first flight with ML-DSA
# certificates about 20 KB, so whole first flights may come in any order; more would be an attacker's gift.
MAX_HELD_BYTES = 262_144
# Pieces held out of order: a whole hybrid ClientHello in segments of one byte, several times over.
MAX_HELD_PIECES = 8_192
# Delivered bytes that retransmissions are compared with: a first flight of either side, with room.
MAX_HISTORY_BYTES = 65_536
# How far ahead of the delivered bytes a segment may lie. Windows are seldom over 1 MiB before the handshake
# is complete; beyond lie segments of an older connection or forged ones.
MAX_AHEAD_BYTES = 1 << 20
# What Python needs for one held piece beside its bytes, for the sum of memory.
PIECE_OVERHEAD_BYTES = 200

_WRAP = 1 << 32


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the stream that one segment was the first to carry.

    Attributes:
        offset: Where they belong, in bytes from the beginning of the stream.
        data: The bytes; none for a piece that only tells when.
        time_ns: When the segment was captured, None if that is not known.
        serial: Which segment it was; a segment that fills two holes leaves two pieces of one serial.
        acknowledged: Offset in the other direction up to which the sender had received when it sent this;
            None where the segment acknowledged nothing, or the other direction is not known yet.
    """

    offset: int
    data: bytes
    time_ns: int | None
    serial: int
    acknowledged: int | None

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return self.offset + len(self.data)


class TcpStream:
    """Reassembles one direction.

    Attributes:
        has_syn: The beginning is known from a SYN.
        has_conflict: Two copies of the same bytes differed.
        has_overflowed: A limit was reached and bytes were dropped.
        fin_offset: Where the sender ended the stream, None if it did not.
        delivered: Bytes that `take` has returned so far.
    """

    def __init__(self) -> None:
        self.has_syn = False
        self.has_conflict = False
        self.has_overflowed = False
        self.fin_offset: int | None = None
        self.delivered = 0
        self._base: int | None = None
        self._held: list[Piece] = []  # by offset, without overlaps; offsets from _origin until _base is known
        self._held_bytes = 0
        self._origin: int | None = None
        self._history = bytearray()
        self._reach = 0  # the stream is known to go on up to here

    # Where the stream begins

    @property
    def is_anchored(self) -> bool:
        """It is known where the stream begins."""
        return self._base is not None

    @property
    def first_sequence_number(self) -> int | None:
        """Number of the first byte, as far as it is known; None before any packet."""
        return self._origin

    @property
    def memory_bytes(self) -> int:
        """Memory held, estimated."""
        return self._held_bytes + len(self._history) + PIECE_OVERHEAD_BYTES * len(self._held)

    @property
    def has_gap(self) -> bool:
        """Bytes were sent, by what both ends said of the stream, which were not seen."""
        end = self._reach if self.fin_offset is None else min(self._reach, self.fin_offset)
        return end > self.delivered

    @property
    def is_finished(self) -> bool:
        """The sender has ended the stream and every byte of it was delivered."""
        return self.fin_offset is not None and self.delivered >= self.fin_offset

    def has_delivered(self, offset: int | None) -> bool:
        """Tell whether everything before an acknowledged offset was delivered.

        Args:
            offset: The offset, which counts a FIN as one; None counts as the beginning.
        """
        wanted = offset or 0
        return self.delivered >= (wanted if self.fin_offset is None else min(wanted, self.fin_offset))

    def begins_at(self, seq: int) -> bool:
        """Tell whether a SYN that makes `seq` the first byte's number belongs to this very stream.

        Args:
            seq: Sequence number of the SYN plus one.
        """
        if self._base is not None:
            return seq == self._base or (not self.has_syn and not self.delivered and self._is_near_below(seq))
        return self._origin is None or not self._held or self._is_near_below(seq)

    def _is_near_below(self, seq: int) -> bool:
        first = self._held[0].offset if self._held else 0
        return 0 <= self._offset(seq) * -1 + first <= MAX_HELD_BYTES

    def anchor(self, seq: int, *, is_syn: bool = False) -> None:
        """Fix where the stream begins; a SYN is believed, anything else only until an earlier byte comes.

        Args:
            seq: Sequence number of the first byte.
            is_syn: A SYN said so.
        """
        if self.has_syn or (self.delivered and not is_syn):
            return
        if self._origin is None:
            self._origin = seq % _WRAP
        if is_syn:
            shift = self._offset(seq)
        else:
            first = self._held[0].offset if self._held else self._offset(seq)
            known = 0 if self._base is not None else first
            shift = min(self._offset(seq), first, known)
        self.has_syn = is_syn
        self._origin = self._base = (self._origin + shift) % _WRAP
        if shift:
            self._move(shift)

    def _move(self, shift: int) -> None:
        """Count offsets from another beginning."""
        moved = [Piece(p.offset - shift, p.data, p.time_ns, p.serial, p.acknowledged) for p in self._held]
        self._held = [piece for piece in moved if piece.offset >= 0]
        self._held_bytes = sum(len(piece.data) for piece in self._held)
        self._reach = max(self._reach - shift, 0)
        if self.fin_offset is not None:
            self.fin_offset -= shift

    def anchor_at_first(self) -> None:
        """Take the lowest sequence number seen for the beginning; for when nothing better can come."""
        if self._base is None and self._origin is not None:
            self.anchor((self._origin + (self._held[0].offset if self._held else 0)) % _WRAP)

    def offset_of(self, seq: int) -> int | None:
        """Return the stream offset of a sequence number near the delivered bytes; None if not anchored.

        Args:
            seq: Sequence number, or the peer's acknowledgement number.
        """
        return None if self._base is None else self._offset(seq)

    def _offset(self, seq: int) -> int:
        """Undo the wrap: of all offsets that a number can mean, the one nearest to the delivered bytes."""
        assert self._origin is not None  # noqa: S101 - every caller has set it
        distance = (seq - self._origin - self.delivered) % _WRAP
        return self.delivered + (distance - _WRAP if distance >= _WRAP // 2 else distance)

    # What comes in

    def receive(self, seq: int, data: bytes, time_ns: int | None, serial: int, acknowledged: int | None) -> bool:
        """Take the payload of one segment.

        Args:
            seq: Sequence number of its first byte.
            data: The payload.
            time_ns: When it was captured.
            serial: A number for this segment.
            acknowledged: See `Piece`.

        Returns:
            False for a segment outside the window, which was ignored.
        """
        if self._origin is None:
            self._origin = seq % _WRAP
        offset = self._offset(seq)
        if self._base is not None and offset == self.delivered - 1 and len(data) <= 1:
            return True  # a keep-alive: its byte, if there is one, may be any (RFC 9293 section 3.8.4)
        if not self.delivered and not self.has_syn and self._base is not None and offset < 0:
            if -offset > MAX_HELD_BYTES:
                return False
            self.anchor(seq)
            offset = self._offset(seq)
        if offset - self.delivered > MAX_AHEAD_BYTES or (self._base is None and offset < -MAX_HELD_BYTES):
            return False
        if data:
            self._compare_with_history(offset, data)
            start = offset if self._base is None else max(offset, self.delivered)
            self._reach = max(self._reach, offset + len(data))
            self._hold(Piece(start, data[start - offset :], time_ns, serial, acknowledged))
        return True

    def note_reach(self, seq: int) -> None:
        """Take a sign of how far the stream goes: an acknowledgement, or the place of a FIN or RST.

        Args:
            seq: Sequence number after the last byte that was sent.
        """
        if self._base is not None and self._offset(seq) - self.delivered <= MAX_AHEAD_BYTES:
            self._reach = max(self._reach, self._offset(seq))

    def receive_fin(self, seq: int) -> None:
        """Take a FIN.

        Args:
            seq: Sequence number of the FIN itself.
        """
        if self.fin_offset is None:
            if self._origin is None:
                self._origin = seq % _WRAP
            self.fin_offset = self._offset(seq)
            self._reach = max(self._reach, self.fin_offset)

    def accepts_reset(self, seq: int) -> bool:
        """Tell whether a RST lies in the window (RFC 5961 section 3: others are forged or of another time).

        Args:
            seq: Sequence number of the RST.
        """
        return self._base is None or -1 <= self._offset(seq) - self.delivered <= MAX_AHEAD_BYTES

    def _compare_with_history(self, offset: int, data: bytes) -> None:
        start, end = max(offset, 0), min(offset + len(data), len(self._history))
        if self._base is not None and start < end:
            self.has_conflict |= self._history[start:end] != data[start - offset : end - offset]

    def _hold(self, new: Piece) -> None:
        """Put a piece among the held ones; where they overlap, what was there first stays."""
        at = bisect_right(self._held, new.offset, key=lambda piece: piece.offset)
        if at and self._held[at - 1].end > new.offset:
            at -= 1
        parts: list[Piece] = []
        position, last = new.offset, at
        while last < len(self._held) and self._held[last].offset < new.end:
            old = self._held[last]
            low, high = max(old.offset, new.offset), min(old.end, new.end)
            theirs = new.data[low - new.offset : high - new.offset]
            self.has_conflict |= old.data[low - old.offset : high - old.offset] != theirs
            if position < old.offset:
                parts.append(_part(new, position, old.offset))
            parts.append(old)
            position = max(position, old.end)
            last += 1
        if position < new.end:
            parts.append(_part(new, position, new.end))
        added = sum(len(part.data) for part in parts) - sum(len(old.data) for old in self._held[at:last])
        pieces = len(self._held) - (last - at) + len(parts)
        if self._held_bytes + added > MAX_HELD_BYTES or pieces > MAX_HELD_PIECES:
            self.has_overflowed = True
            return
        self._held_bytes += added
        self._held[at:last] = parts

    # What goes out

    def peek(self) -> Piece | None:
        """Return the piece that comes next in order, None if it was not seen yet."""
        if self._base is None or not self._held or self._held[0].offset > self.delivered:
            return None
        return self._held[0]

    def take(self) -> Piece:
        """Deliver the piece that `peek` returned."""
        piece = self._held.pop(0)
        self._held_bytes -= len(piece.data)
        self.delivered = piece.end
        if len(self._history) < MAX_HISTORY_BYTES:
            self._history += piece.data[: MAX_HISTORY_BYTES - len(self._history)]
        return piece


def _part(piece: Piece, start: int, end: int) -> Piece:
    data = piece.data[start - piece.offset : end - piece.offset]
    return Piece(start, data, piece.time_ns, piece.serial, piece.acknowledged)
