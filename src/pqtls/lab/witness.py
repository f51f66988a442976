"""What the router tells a witness of each connection that it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pqtls.wire.facts import Side


class Witness(Protocol):
    """Sees one connection's bytes, both directions, before they are passed on; called from the router's thread."""

    def receive(self, side: Side, data: bytes, time_ns: int) -> None:
        """Take bytes.

        Args:
            side: Who sent them.
            data: The bytes, cut anywhere.
            time_ns: Wall clock in nanoseconds since 1970.
        """

    def finished(self, how: Literal["closed", "reset"] | None) -> None:
        """Take the end of the connection; called once.

        Args:
            how: "closed" if both sides ended their streams, "reset" if one broke off, None if the router did.
        """


class WitnessFactory(Protocol):
    """Makes a witness for one connection."""

    def __call__(self, client: str, server: str, host: str, /) -> Witness:
        """Return a witness.

        Args:
            client: Address of the client, `ip:port`.
            server: Address that was dialled for it, `ip:port`.
            host: Host name that the client asked for, "" on the dial port.
        """
        ...
