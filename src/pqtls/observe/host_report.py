"""What a capture on the host's own network showed of one client, and what it cannot have shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pqtls.observe.observation import Observation


@dataclass(frozen=True, slots=True)
class HostCaptureReport:
    """What was seen of one client.

    Attributes:
        observations: The client's TLS connections, in order of their start.
        unattributed: TLS connections whose process could not be told: the client's, or another program's.
        plain_servers: Where the client's connections went that do not begin as TLS, `ip:port`.
        others: How many TLS connections were another program's, and passed over.
        losses: What else this capture could not see, as sentences.
    """

    observations: tuple[Observation, ...] = ()
    unattributed: tuple[Observation, ...] = ()
    plain_servers: tuple[str, ...] = ()
    others: int = 0
    losses: tuple[str, ...] = ()

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What this capture could not see or tell, as sentences; empty if it saw everything of the client."""
        servers = Counter(each.server or each.host or "an unknown server" for each in self.unattributed)
        spots = [
            f"not visible here: whose {number} TLS connection{'s' if number > 1 else ''} to {server} "
            f"{'were' if number > 1 else 'was'}: the process was gone, or hidden, before it was found"
            for server, number in servers.items()
        ]
        return (*spots, *self.losses)
