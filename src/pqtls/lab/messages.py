"""What the lab's parent process and its server process say to each other: JSON, one object a line.

Parent to child: the plan, then `stats` as often as it likes; the end of the stream means "end".
Child to parent: the ports (or what is missing), then one answer to each `stats`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pqtls.lab.names import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
ListenerName = Literal["good", "wrong-name", "wrong-ca"]

STATS_REQUEST = b"stats\n"


@dataclass(frozen=True, slots=True)
class ListenerPlan:
    """One TLS listener to open.

    Attributes:
        name: What it is called.
        chain: Path of its PEM certificate chain.
        key: Path of its PEM private key.
        address: IP address to listen at.
        port: TCP port, 0 for any free one.
        minimum_version: Oldest TLS version, None to leave OpenSSL's configuration alone.
        maximum_version: Newest TLS version, None to leave OpenSSL's configuration alone.
    """

    name: ListenerName
    chain: str
    key: str
    address: str = LOOPBACK
    port: int = 0
    minimum_version: TlsVersion | None = None
    maximum_version: TlsVersion | None = None


@dataclass(frozen=True, slots=True)
class ServePlan:
    """What the server process is to do.

    Attributes:
        parent: Process ID of the parent, with which the child ends.
        listeners: What to open.
    """

    parent: int
    listeners: tuple[ListenerPlan, ...]

    def encode(self) -> bytes:
        """Return the plan as one line."""
        return encode_line(asdict(self))

    @classmethod
    def decode(cls, line: bytes) -> ServePlan:
        """Return the plan in a line.

        Args:
            line: What `encode` returned.
        """
        value = json.loads(line)
        return cls(value["parent"], tuple(ListenerPlan(**each) for each in value["listeners"]))


@dataclass(frozen=True, slots=True)
class ListenerStats:
    """What one listener has seen since it was opened.

    Attributes:
        accepted: TCP connections.
        handshakes: TLS handshakes that completed: a client that refuses the certificate completes none.
        requests: Requests, or whatever else came first through a completed handshake.
    """

    accepted: int
    handshakes: int
    requests: int


def encode_line(value: Mapping[str, Any]) -> bytes:
    """Return an object as one line of JSON.

    Args:
        value: The object.
    """
    return json.dumps(value).encode() + b"\n"
