"""The lab's own network: documentation addresses (RFC 5737), only inside its namespaces, and what is captured of it."""

from __future__ import annotations

INTERFACE = "pqtls0"
"""Name of both ends of the veth pair."""

LOOPBACK = "lo"

CAPTURED_INTERFACES = (INTERFACE, LOOPBACK)
"""All interfaces of the clients' side."""

MTU = 1500

PREFIX = 24

CLIENT_ADDRESS = "192.0.2.254"

SERVER_ADDRESSES = tuple(f"192.0.2.{number}" for number in range(1, 17))
"""Every one has its own port 443, so several servers can be the same host name to several clients."""


def capture_request(interface: str) -> bytes:
    """Return the line by which the holder is asked for a packet socket.

    Args:
        interface: One of CAPTURED_INTERFACES.
    """
    return f"capture {interface}\n".encode("ascii")
