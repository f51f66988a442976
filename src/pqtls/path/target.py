"""What to examine: host, port, addresses; and the examination of a real one over sockets."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.errors import CannotProveError, UsageError
from pqtls.path.examine import examine
from pqtls.probe.network import SocketNetwork
from pqtls.probe.run import Prober

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.path.diagnosis import Diagnosis
    from pqtls.path.examine import Limits
    from pqtls.path.plan import PlanOptions
    from pqtls.probe.model import Attempt

_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_USUAL_PORT = 443
_MAX_PORT = 65_535
_MAX_ADDRESSES = 3


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


def parse_target(text: str) -> Target:
    """Read HOST, HOST:PORT, [ADDRESS]:PORT.

    Args:
        text: As a person wrote it.

    Raises:
        UsageError: It is none of these.
    """
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:\[\]]+)(?::(\d+))?", text.strip())
    host = match and (match[1] or match[3])
    port = int(match[2] or match[4] or _USUAL_PORT) if match else 0
    if match is None and _is_address(text.strip()):
        host, port = text.strip(), _USUAL_PORT
    if not host or not 0 < port <= _MAX_PORT or not (_is_address(host) or _HOST.fullmatch(host)):
        raise UsageError(f"{text!r} is not HOST[:PORT].", "Name a host as in example.com:443, without scheme or path.")
    return Target(host, port)


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
    hint = "pip install 'pqtls[path]'"
    try:
        from cryptography.hazmat.primitives.asymmetric import mlkem

        mlkem.MLKEM768PrivateKey.generate()
    except ImportError as error:
        raise UsageError("Real ML-KEM key shares need the cryptography library, 48 or newer.", hint) from error
    except Exception as error:  # cryptography's own UnsupportedAlgorithm, where its OpenSSL has none
        raise UsageError(f"The cryptography library here has no ML-KEM: {error}", hint) from error


def examine_target(
    target: Target,
    options: PlanOptions,
    limits: Limits | None = None,
    family: int = socket.AF_UNSPEC,
    report: Callable[[Attempt], None] | None = None,
) -> tuple[Diagnosis, str]:
    """Examine a real server, at the first of its addresses that takes a connection.

    Args:
        target: The server.
        options: What was asked for.
        limits: How much may be done; None for the usual.
        family: AF_INET or AF_INET6 to take addresses of that family only.
        report: Is told every attempt as it ends.

    Returns:
        The diagnosis and the address it is of.

    Raises:
        CannotProveError: The name does not resolve.
    """
    from pqtls.probe.certificates import load_system_roots

    try:
        found = socket.getaddrinfo(target.host, target.port, family, socket.SOCK_STREAM)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotProveError(f"{target.host} does not resolve: {reason}.", "Check the name.") from error
    store = load_system_roots()
    diagnosis, address = None, ""
    for kind, _, _, _, place in found[:_MAX_ADDRESSES]:
        network = SocketNetwork(kind, place)
        diagnosis = examine(Prober(network, target.server_name, store), network, options, limits, report)
        address = str(place[0])
        if any(attempt.is_connected for attempt in diagnosis.attempts):
            break
    if diagnosis is None:
        raise CannotProveError(f"{target.host} has no address.", "Check the name.")
    return diagnosis, address
