"""What was seen of one TLS handshake, as plain values: the tracker's result and the evidence's input.

Wire values stay integers here; names are given to them where a person or a program reads them
(`pqtls.wire.groups`, `pqtls.wire.codepoints`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class Side(Enum):
    """Who sent a piece of data: the TLS client or the TLS server."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> Side:
        """The other side."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


EarlyData = Literal["none", "offered", "sent", "accepted", "rejected"]
Psk = Literal["psk_dhe_ke", "psk_ke"]
Ending = Literal["closed", "reset", "timeout", "capture-end"]


@dataclass(frozen=True, slots=True)
class KeyShare:
    """One KeyShareEntry: its named group and the size of its key_exchange field."""

    group: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ClientHelloFacts:
    """One ClientHello as sent.

    Attributes:
        size_bytes: Size of the handshake message, its 4-byte header included, record headers not.
        records: TLS records that carried it; None where records were not seen.
        segments: TCP segments that carried it; None unless real packets were seen.
        groups: supported_groups, in the order offered, GREASE included.
        key_shares: key_share entries, in the order sent, GREASE included.
        signature_algorithms: signature_algorithms, in the order offered.
        versions: supported_versions, in the order offered, GREASE included; empty without the extension.
    """

    size_bytes: int
    records: int | None
    segments: int | None
    groups: tuple[int, ...]
    key_shares: tuple[KeyShare, ...]
    signature_algorithms: tuple[int, ...]
    versions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HelloRetryFacts:
    """A HelloRetryRequest: the group it asks for (None: none named) and whether it carries a cookie."""

    group: int | None
    cookie: bool


@dataclass(frozen=True, slots=True)
class ServerHelloFacts:
    """A ServerHello that is not a HelloRetryRequest.

    Attributes:
        size_bytes: Size of the handshake message, its 4-byte header included.
        group: Group of its key_share; None without one (TLS 1.2 and older, or psk_ke).
        key_share_bytes: Size of the key_exchange field; None without one.
    """

    size_bytes: int
    group: int | None
    key_share_bytes: int | None


@dataclass(frozen=True, slots=True)
class LegacyKeyExchange:
    """The key exchange of a TLS 1.2 or older handshake.

    Attributes:
        kind: "rsa" is RSA key transport (no forward secrecy); "psk" and "other" carry no group.
        group: The named curve, or None where there is none (finite-field DH with its own prime, RSA).
        dh_bits: Size of the prime in bits for "dhe", else None.
    """

    kind: Literal["ecdhe", "dhe", "rsa", "psk", "other"]
    group: int | None = None
    dh_bits: int | None = None


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """The alert that ended the handshake, or the last warning before it completed."""

    sender: Side
    code: int


@dataclass(frozen=True, slots=True)
class Handshake:
    """Everything seen of one handshake. Nothing in it is inferred from a configuration or a version.

    Attributes:
        transport: "tcp" (TLS over a byte stream).
        version: Negotiated protocol version (0x0304 is TLS 1.3), None before a ServerHello.
        client_random: First ClientHello.random (32 bytes); it names the connection.
        sni: host_name of the first ClientHello's server_name, or None.
        alpn: Protocols offered by the client.
        ech: The ClientHello carried encrypted_client_hello (real or GREASE: not told apart on the wire).
        cipher: Cipher suite that the server chose, None before a ServerHello.
        client_hellos: One, or two after a HelloRetryRequest.
        hello_retry: The HelloRetryRequest, if any.
        server_hello: The ServerHello, if any.
        legacy_key_exchange: Key exchange of TLS 1.2 and older; None otherwise, or where it was not seen.
        psk: How a pre-shared key was used, None if none was selected.
        early_data: "offered": offered, and nothing more was seen of it; "sent": sent, or it cannot be excluded
            that it was; "accepted" and "rejected": the server's answer was seen, sent or not.
        alert: Last alert before completion, if it could be read.
        complete: The client's Finished was seen (in the recorder: both Finished messages).
        encrypted_alert_likely: The client sent one lone protected record of an alert's size instead of
            a Finished (only where records are encrypted).
        ended: How the connection ended before the handshake completed, None if that was not seen.
        malformed: What broke the protocol's rules, as a sentence; None if nothing did.
        plaintext: An upgrade to TLS (STARTTLS) was refused or stripped and plain text followed.
        handshake_ms: From the first byte of the first ClientHello to the client's Finished; None unless
            complete and timed.
    """

    transport: Literal["tcp"] = "tcp"
    version: int | None = None
    client_random: bytes = b""
    sni: str | None = None
    alpn: tuple[str, ...] = ()
    ech: bool = False
    cipher: int | None = None
    client_hellos: tuple[ClientHelloFacts, ...] = ()
    hello_retry: HelloRetryFacts | None = None
    server_hello: ServerHelloFacts | None = None
    legacy_key_exchange: LegacyKeyExchange | None = None
    psk: Psk | None = None
    early_data: EarlyData = "none"
    alert: AlertFacts | None = None
    complete: bool = False
    encrypted_alert_likely: bool = False
    ended: Ending | None = None
    malformed: str | None = None
    plaintext: bool = False
    handshake_ms: float | None = None
