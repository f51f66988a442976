"""What is known of OpenSSL's releases: how long each is supported, and what some tarballs must hash to.

Sources: the dates are those of OpenSSL's release strategy page (openssl-library.org/policies/releasestrat), each as
read there; a release whose date was not read there (3.4, 3.6, 4.0) is not listed, and shown as unknown. The sha256
are those of Debian's index of source packages (trixie), which is signed; Debian takes upstream's tarballs as they
are, beside upstream's signature. That of 3.5.7 was also checked against this signature (OpenSSL's release key
BA5473A2B0587B07FB27CF2D216094DFD0CB81EF).
"""

from __future__ import annotations

SUPPORT_ENDS = {
    (3, 0): "2026-09-07",
    (3, 1): "2025-03-14",
    (3, 2): "2025-11-23",
    (3, 3): "2026-04-09",
    (3, 5): "2030-04-08",
}
"""Release to the day its support ends."""

LTS = frozenset({(3, 0), (3, 5)})
"""Releases with long-term support."""

KNOWN_TARBALLS = {
    "603f5602e2eef00d77fbd429d34dcd5822bb301757a1bc9cdb24c670f1eb859a": "3.5.9",
    "a8c0d28a529ca480f9f36cf5792e2cd21984552a3c8e4aa11a24aa31aeac98e8": "3.5.7",
}
"""sha256 of a release's tarball to its version, newest first."""

NEWEST_KNOWN = next(iter(KNOWN_TARBALLS.values()))


def release_url(version: str) -> str:
    """Return where OpenSSL publishes a release's tarball.

    Args:
        version: Such as "3.5.9".
    """
    return f"https://github.com/openssl/openssl/releases/download/openssl-{version}/openssl-{version}.tar.gz"
