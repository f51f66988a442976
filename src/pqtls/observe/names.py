"""Host names, written one way, so that what was allowed and what was seen can be compared."""

from __future__ import annotations


def normalize_host(host: str) -> str:
    """Return a host name in lower case and without the dot of the root.

    Args:
        host: As a client or a person wrote it.
    """
    return host.lower().removesuffix(".")
