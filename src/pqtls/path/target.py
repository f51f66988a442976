"""What to examine: host and port, as a person writes them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pqtls.errors import UsageError

_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
USUAL_PORT = 443
_MAX_PORT = 65_535
# The far end is asked on the port where it takes TLS; who writes https means that.
_PEER_SCHEMES = ("pqtls", "https", "tcp")


@dataclass(frozen=True, slots=True)
class Target:
    """One server to examine.

    Attributes:
        host: Name, or IP address without brackets.
        port: TCP port.
    """

    host: str
    port: int

    @property
    def server_name(self) -> str | None:
        """Name to ask for in the hello; None for an address (RFC 6066 section 3)."""
        return None if _is_address(self.host) else self.host.rstrip(".")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(text: str, usual_port: int = USUAL_PORT) -> Target:
    """Read HOST, HOST:PORT, [ADDRESS]:PORT.

    Args:
        text: As a person wrote it.
        usual_port: The port if none is written.

    Raises:
        UsageError: It is none of these.
    """
    match = re.fullmatch(r"\[([^\]]+)\](?::([0-9]{1,5}))?|([^:\[\]]+)(?::([0-9]{1,5}))?", text.strip())
    host = match and (match[1] or match[3])
    port = int(match[2] or match[4] or usual_port) if match else 0
    if match is None and _is_address(text.strip()):
        host, port = text.strip(), usual_port
    if not host or not 0 < port <= _MAX_PORT or not (_is_address(host) or _HOST.fullmatch(host)):
        raise UsageError(f"{text!r} is not HOST[:PORT].", "Name a host as in example.com:443, without scheme or path.")
    return Target(str(ipaddress.ip_address(host)) if _is_address(host) else host.lower(), port)


def parse_peer(text: str, usual_port: int) -> Target:
    """Read where a far end is: HOST[:PORT], or a URL such as pqtls://HOST:PORT.

    Args:
        text: As a person wrote it.
        usual_port: The port if none is written.

    Raises:
        UsageError: It is neither.
    """
    if "://" not in text:
        return parse_target(text, usual_port)
    try:
        parts = urlsplit(text)
        is_plain = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        is_plain = False
    if not is_plain or parts.scheme.lower() not in _PEER_SCHEMES:
        raise UsageError(
            "--peer takes HOST[:PORT] or pqtls://HOST[:PORT].", "The far end's token goes into PQTLS_TOKEN, not here."
        )
    return parse_target(parts.netloc, usual_port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_able() -> None:
    """Check that real key shares can be made here.

    Raises:
        UsageError: The library for them is missing or too old.
    """
    hint = "Run: pip install 'pqtls[path]'."
    try:
        from cryptography.hazmat.primitives.asymmetric import mlkem

        mlkem.MLKEM768PrivateKey.generate()
    except ImportError as error:
        raise UsageError("Real ML-KEM key shares need the cryptography library, 48 or newer.", hint) from error
    except Exception as error:  # cryptography's own UnsupportedAlgorithm, where its OpenSSL has none
        raise UsageError(f"The cryptography library here has no ML-KEM: {error}", hint) from error
