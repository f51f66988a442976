"""The addresses of the lab's own network: documentation addresses (RFC 5737), and only inside its namespaces."""

from __future__ import annotations

INTERFACE = "pqtls0"
"""Name of both ends of the veth pair."""

MTU = 1500

PREFIX = 24

CLIENT_ADDRESS = "192.0.2.254"

SERVER_ADDRESSES = tuple(f"192.0.2.{number}" for number in range(1, 17))
"""Every one has its own port 443, so several servers can be the same host name to several clients."""
