"""What a capture showed, and what it cannot have shown: nothing that was lost goes unsaid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pqtls.wire.packet_tracker import PacketCounts

if TYPE_CHECKING:
    from pqtls.observe.observation import Observation


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """What a capture showed, and what it cannot have shown.

    Attributes:
        observations: One for each TLS handshake, in order of their end.
        counts: What became of the packets.
        kernel_drops: Packets that the kernel dropped because they were not fetched in time.
        not_kept: Packets of handshakes that did not fit into the memory for the capture file.
        failure: Why the capture ended before it was told to, as a sentence; "" if it did not.
    """

    observations: tuple[Observation, ...] = ()
    counts: PacketCounts = field(default_factory=PacketCounts)
    kernel_drops: int = 0
    not_kept: int = 0
    failure: str = ""

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What this capture could not see, as sentences; empty if it saw everything."""
        spots = list(describe_losses(self.counts))
        if self.kernel_drops:
            spots.append(f"not visible here: the kernel dropped {self.kernel_drops} packets of the capture")
        if self.not_kept:
            spots.append(f"the capture file lacks {self.not_kept} packets: too many handshakes to keep")
        if self.failure:
            spots.append(f"not visible here: {self.failure}")
        return tuple(spots)


def describe_losses(counts: PacketCounts) -> tuple[str, ...]:
    """Return a sentence for everything that a capture held and that could not be used.

    Args:
        counts: What became of its packets.
    """
    reasons = (
        (counts.malformed, "packets that break the rules of IP or TCP"),
        (counts.cut, "packets whose headers were not captured whole"),
        (counts.unknown_link, "packets of a link type that pqtls does not know"),
        (counts.fragments, "fragments of IP packets, which are not put together"),
        (counts.wrong_checksums, "segments with a wrong TCP checksum, which were passed over"),
        (counts.joined_late, "connections whose beginning was not captured"),
        (counts.evicted, "connections given up because too many were open at once"),
        (counts.overflowed, "connections given up because too much came out of order"),
        (counts.lost_tunnels, "connections through a proxy whose answers could not be followed to the TLS after them"),
    )
    return tuple(f"not visible here: {number} {what}" for number, what in reasons if number)
