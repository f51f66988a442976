"""A TLS 1.3 server of the lab's own, sans-IO: it can get wrong what no library's server would.

From the ClientHello to one HTTP answer. Whole and right where nothing else was asked for: programs of every kind finish
their handshakes with it. It never asks for a client certificate, resumes nothing and chooses no ALPN protocol.

Source: RFC 9846 sections 2, 4 and 7.1; RFC 10024 (order of a hybrid's parts).
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.lab.paths.application_keys import application_keys
from pqtls.lab.paths.hellos import is_disliked
from pqtls.lab.paths.server_keys import agree
from pqtls.probe.model import HYBRID
from pqtls.probe.protection import NotOpenedError, Protection
from pqtls.wire import codepoints as cp
from pqtls.wire.buffer import push_int, push_vector
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.errors import MalformedError
from pqtls.wire.extensions import Extension, KeyShareEntry
from pqtls.wire.groups import group_name
from pqtls.wire.records import Record, RecordReader
from pqtls.wire.server_hello import ServerHello
from pqtls.wire.tls13_keys import SUITES, finished_mac, handshake_keys, message_hash

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from pqtls.lab.paths.scenario import Tls
    from pqtls.wire.tls13_keys import TrafficKeys

CHANGE_CIPHER_SPEC = bytes.fromhex("140303000101")
ILLEGAL_PARAMETER, HANDSHAKE_FAILURE, PROTOCOL_VERSION, DECRYPT_ERROR = 47, 40, 70, 51
_CERTIFICATE, _CERTIFICATE_VERIFY, _ENCRYPTED_EXTENSIONS = 11, 15, 8
_ECDSA_P256_SHA256 = 0x0403
_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\x00"
_CLOSE_NOTIFY = b"\x01\x00"
_MAX_PADDED_BYTES = 16_000
_MAX_REQUEST_BYTES = 65_536
_TAG_AND_HEADER_BYTES = 22


@dataclass(frozen=True, slots=True)
class Identity:
    """A server's certificate.

    Attributes:
        chain: DER certificates, the server's first.
        key: Its private key, on P-256.
    """

    chain: tuple[bytes, ...]
    key: EllipticCurvePrivateKey


class TlsServer:
    """One connection's server.

    Attributes:
        verdict: None while it goes on; "reset", "close" or "mute": what to do with the connection after what was
            returned has been sent.
        is_finished: The client's Finished has come, and was right.

    Args:
        plan: What it is able to.
        identity: Its certificate.
    """

    def __init__(self, plan: Tls, identity: Identity) -> None:
        self._plan = plan
        self._identity = identity
        self.verdict: str | None = None
        self._records = RecordReader()
        self._messages = b""
        self._transcript = b""
        self._has_retried = False
        self._client: Protection | None = None
        self._own: Protection | None = None
        self._keys: tuple[TrafficKeys, TrafficKeys] | None = None
        self._application: tuple[TrafficKeys, TrafficKeys] | None = None
        self._suite = 0
        self._group = 0
        self.is_finished = False
        self._request = b""

    def receive(self, data: bytes) -> bytes:
        """Take what the client sent; return what to send to it.

        Args:
            data: Any number of bytes.
        """
        output = b""
        try:
            for record in self._records.receive_data(data):
                if self.verdict is None:
                    output += self._take(record)
        except (MalformedError, NotOpenedError, ValueError):
            output += self._refuse(f"alert:{ILLEGAL_PARAMETER}")
        return output

    def _take(self, record: Record) -> bytes:
        kind, content = record.content_type, record.payload
        if kind == cp.CHANGE_CIPHER_SPEC:
            return b""
        if kind == cp.APPLICATION_DATA and self._client is not None:
            kind, content = self._client.open(record)
        if kind == cp.ALERT:
            self.verdict = "close"
            return b""
        if kind == cp.APPLICATION_DATA and self.is_finished:
            return self._take_request(content)
        if kind != cp.HANDSHAKE:
            raise MalformedError(f"a record of type {kind}", 0, "record")
        self._messages += content
        if len(self._messages) > _MAX_REQUEST_BYTES:
            raise MalformedError("too long", 0, "handshake")
        if len(self._messages) < 4 or len(self._messages) < 4 + int.from_bytes(self._messages[1:4], "big"):
            return b""
        message, self._messages = self._messages, b""
        return self._take_finished(message) if self._keys is not None else self._take_hello(message)

    def _refuse(self, how: str) -> bytes:
        """End the connection; return what is sent for it."""
        kind, _, code = how.partition(":")
        self.verdict = "close" if kind == "alert" else kind
        if kind != "alert":
            return b""
        alert = bytes((2, int(code)))
        if self._own is not None:
            return self._own.seal(cp.ALERT, alert)
        return Record(cp.ALERT, cp.TLS12, alert).build()

    def _take_hello(self, message: bytes) -> bytes:
        if message[0] != cp.CLIENT_HELLO:
            raise MalformedError("no ClientHello", 0, "handshake")
        hello = ClientHello.parse(message[4:])
        plan = self._plan
        if self._has_retried and plan.retry_fault:
            return self._refuse(plan.retry_fault)
        if plan.dislikes is not None and is_disliked(hello, plan.dislikes):
            return self._refuse(plan.refusal)
        if cp.TLS13 not in hello.supported_versions:
            return self._refuse(f"alert:{PROTOCOL_VERSION}")
        self._suite = next((suite for suite in hello.cipher_suites if suite in SUITES), 0)
        named = [group for group in plan.groups if group in hello.supported_groups]
        if not named or not self._suite:
            return self._refuse(f"alert:{HANDSHAKE_FAILURE}")
        shares = {share.group: share.key_exchange for share in hello.key_shares or ()}
        fitting = [group for group in named if group in shares]
        wanted = named[0] if plan.retries_for_first and named[0] not in shares else None
        if fitting and (wanted is None or self._has_retried):
            self._transcript += message
            return self._answer(hello, fitting[0], shares[fitting[0]])
        if self._has_retried:
            return self._refuse(f"alert:{ILLEGAL_PARAMETER}")
        return self._retry(hello, message, wanted or named[0])

    def _retry(self, hello: ClientHello, message: bytes, group: int) -> bytes:
        fault = self._plan.retry_fault
        if fault == "no-retry":
            return self._refuse(f"alert:{HANDSHAKE_FAILURE}")
        self._has_retried = True
        session_id = b"" if fault == "no-echo" else hello.session_id
        extensions = (_version_extension(), Extension(cp.KEY_SHARE, push_int(group, 2)))
        retry = _handshake(
            cp.SERVER_HELLO,
            ServerHello(cp.TLS12, cp.HELLO_RETRY_RANDOM, session_id, self._suite, 0, extensions).build(),
        )
        self._transcript = message_hash(self._suite, message) + retry
        return Record(cp.HANDSHAKE, cp.TLS12, retry).build() + CHANGE_CIPHER_SPEC

    def _answer(self, hello: ClientHello, group: int, share: bytes) -> bytes:
        fault = self._plan.hybrid_fault if group == HYBRID else ""
        try:
            own_share, secret = agree(group, share, fault)
        except ValueError:
            return self._refuse(f"alert:{ILLEGAL_PARAMETER}")
        self._group = group
        entry = KeyShareEntry(group, own_share)
        extensions = (_version_extension(), Extension(cp.KEY_SHARE, entry.build()))
        body = ServerHello(cp.TLS12, os.urandom(32), hello.session_id, self._suite, 0, extensions).build()
        answer = _handshake(cp.SERVER_HELLO, body)
        self._transcript += answer
        self._keys = handshake_keys(self._suite, secret, self._transcript)
        self._client, self._own = Protection(self._suite, self._keys[0]), Protection(self._suite, self._keys[1])
        head = Record(cp.HANDSHAKE, cp.TLS12, answer).build() + (b"" if self._has_retried else CHANGE_CIPHER_SPEC)
        flight = self._flight(self._keys[1])
        self._application = application_keys(self._suite, secret, self._transcript)
        wanted = self._plan.flight_bytes + len(own_share) - len(head)
        return head + self._seal(flight, wanted)

    def _flight(self, keys: TrafficKeys) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        entries = b"".join(push_vector(each, 3) + push_vector(b"", 2) for each in self._identity.chain)
        flight = _handshake(_ENCRYPTED_EXTENSIONS, push_vector(b"", 2))
        flight += _handshake(_CERTIFICATE, push_vector(b"", 1) + push_vector(entries, 3))
        digest = _digest(self._suite, self._transcript + flight)
        signature = self._identity.key.sign(_CONTEXT + digest, ec.ECDSA(hashes.SHA256()))
        flight += _handshake(_CERTIFICATE_VERIFY, push_int(_ECDSA_P256_SHA256, 2) + push_vector(signature, 2))
        flight += _handshake(cp.FINISHED, finished_mac(self._suite, keys, self._transcript + flight))
        self._transcript += flight
        return flight

    def _seal(self, flight: bytes, wanted_bytes: int) -> bytes:
        """Protect the flight, padded to a size as records may be (RFC 9846 section 5.4)."""
        assert self._own is not None  # noqa: S101 - keys are there
        count = max(1, -(-wanted_bytes // _MAX_PADDED_BYTES))
        padding = max(0, wanted_bytes - len(flight) - count * _TAG_AND_HEADER_BYTES)
        step = -(-len(flight) // count)
        output = b""
        for number in range(count):
            part = flight[number * step : (number + 1) * step]
            share = padding // count + (padding % count if number == 0 else 0)
            # The content type stands before the padding: what `seal` adds at the end is the padding's last zero.
            inner = part + bytes((cp.HANDSHAKE,)) + bytes(share - 1) if share else part
            output += self._own.seal(0 if share else cp.HANDSHAKE, inner)
        return output

    def _take_finished(self, message: bytes) -> bytes:
        assert self._keys is not None  # noqa: S101 - the caller looked
        assert self._application is not None  # noqa: S101 - made with the keys
        expected = finished_mac(self._suite, self._keys[0], self._transcript)
        if message[0] != cp.FINISHED or not hmac.compare_digest(message[4:], expected):
            return self._refuse(f"alert:{DECRYPT_ERROR}")
        self.is_finished = True
        self._client = Protection(self._suite, self._application[0])
        self._own = Protection(self._suite, self._application[1])
        return b""

    def _take_request(self, content: bytes) -> bytes:
        assert self._own is not None  # noqa: S101 - the handshake is finished
        self._request += content
        if len(self._request) > _MAX_REQUEST_BYTES:
            return self._refuse("reset")
        if b"\r\n\r\n" not in self._request:
            return b""
        self.verdict = "close"
        return self._own.seal(cp.APPLICATION_DATA, http_answer(group_name(self._group))) + self._own.seal(
            cp.ALERT, _CLOSE_NOTIFY
        )


def http_answer(group: str) -> bytes:
    """Return what the lab's servers answer to any request.

    Args:
        group: The connection's group, for the body.
    """
    body = f"pqtls lab: {group}\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def load_identity(chain_pem: bytes, key_pem: bytes) -> Identity:
    """Read a certificate chain and its key.

    Args:
        chain_pem: PEM certificates, the server's first.
        key_pem: PEM private key, on P-256.

    Raises:
        ValueError: It is another kind of key.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    key = load_pem_private_key(key_pem, None)
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError("the lab's server signs with P-256")
    chain = load_pem_x509_certificates(chain_pem)
    return Identity(tuple(each.public_bytes(Encoding.DER) for each in chain), key)


def _handshake(kind: int, body: bytes) -> bytes:
    return push_int(kind, 1) + push_vector(body, 3)


def _version_extension() -> Extension:
    return Extension(cp.SUPPORTED_VERSIONS, push_int(cp.TLS13, 2))


def _digest(suite: int, transcript: bytes) -> bytes:
    import hashlib

    return hashlib.new(SUITES[suite][0], transcript).digest()
