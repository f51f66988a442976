"""What `pqtls test` was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from pqtls.suite.network import NetworkChoice


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Attributes:
        openssl: The way for the clients: auto, native, graft or system.
        openssl_source: Folder to graft from, or None.
        groups: Groups to hold the clients to; "" for OpenSSL's own list.
        server_groups: Groups to hold the lab's servers to; "" for OpenSSL's own list.
        server_tls: "1.2" to hold the lab's servers to TLS 1.2, None to let them choose.
        cases: Names of the cases to run; none means all.
        allowed: Host to reason, for hosts that may be classical.
        timeout_s: Seconds a client may take.
        port: Port of the first client's proxy on loopback; 0 for any free one.
        network: How clients reach the lab.
        pcap_path: Where to write the captured handshakes, None for nowhere.
        regions: AWS regions whose real endpoints are tested; with none and no endpoints, the lab is.
        endpoints: Real servers to test, as `--endpoint` takes them.
    """

    openssl: str = "auto"
    openssl_source: Path | None = None
    groups: str = ""
    server_groups: str = ""
    server_tls: Literal["1.2"] | None = None
    cases: tuple[str, ...] = ()
    allowed: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    port: int = 0
    network: NetworkChoice = "auto"
    pcap_path: Path | None = None
    regions: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all options."""
        return tuple(each.name for each in fields(cls))

    @property
    def extra_sources(self) -> tuple[Path, ...]:
        """The folders to graft from that the user named."""
        return (self.openssl_source,) if self.openssl_source else ()
