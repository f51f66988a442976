"""A TLS client that only shakes hands: sans-IO, from our hello to our Finished, and what happened on the way.

It checks that the server has the keys (its Finished verifies), not who the server is: certificates are read and NOT
verified. It is made to measure paths; no application data is ever sent through it.

Source: RFC 9846 sections 2, 4 and 5; appendix D.4 (middlebox compatibility); RFC 5246 section 7.4.2 (Certificate).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pqtls.probe.plan import CHANGE_CIPHER_SPEC
from pqtls.probe.protection import NotOpenedError, Protection
from pqtls.wire import codepoints as cp
from pqtls.wire.alert import Alert
from pqtls.wire.buffer import Reader, push_int, push_vector
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.errors import MalformedError
from pqtls.wire.extensions import find_extension
from pqtls.wire.handshake import split_message
from pqtls.wire.limits import MAX_COOKIE_BYTES
from pqtls.wire.records import RecordReader
from pqtls.wire.rules import find_retry_violation, find_server_hello_violation
from pqtls.wire.server_hello import ServerHello
from pqtls.wire.tls13_keys import SUITES, finished_mac, handshake_keys, message_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.probe.keys import KeyPair
    from pqtls.probe.plan import Ready
    from pqtls.wire.records import Record
    from pqtls.wire.tls13_keys import TrafficKeys

CERTIFICATE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 11, 13, 14
# A chain of ML-DSA-87 certificates has about 25 KB; ten times that is no longer a handshake.
MAX_FLIGHT_BYTES = 262_144
_CLOSE_NOTIFY = bytes((1, 0))
# How what is no TLS begins, where it is known; what is told of it.
_PLAIN = {b"HTTP/1.": "plain HTTP", b"SSH-": "SSH"}
_SENTINELS = (b"DOWNGRD\x01", b"DOWNGRD\x00")


@dataclass
class Progress:
    """What has happened so far.

    Attributes:
        ending: None while more is to come; else as in `Attempt`.
        detail: In words.
        server_hello: The ServerHello.
        retry: The HelloRetryRequest.
        alert: Code of the server's alert.
        chain: DER certificates as sent.
        is_secret_swapped: The records opened with the wrong order of secrets only.
        second: The second hello, after a retry.
        output: Bytes to send now.
        plain_protocol: What was spoken in place of TLS, where it is known; "" where not.
    """

    ending: str | None = None
    detail: str = ""
    server_hello: ServerHello | None = None
    retry: ServerHello | None = None
    alert: int | None = None
    chain: list[bytes] = field(default_factory=list)
    is_secret_swapped: bool = False
    second: Ready | None = None
    output: bytes = b""
    plain_protocol: str = ""


class Handshaker:
    """Shakes hands over bytes that others carry.

    Args:
        first: The hello that was (or is being) sent.
        retry_with: Makes the second hello for the group and the cookie of a retry; the group is None if it asked
            for none. Raises KeyError where it has no keys for that group.
    """

    def __init__(self, first: Ready, retry_with: Callable[[int | None, bytes | None], Ready]) -> None:
        self.progress = Progress()
        self._ready = first
        self._retry_with = retry_with
        self._records = RecordReader()
        self._transcript = first.hello.message
        self._messages = bytearray()
        self._received = 0
        self._server: Protection | None = None
        self._keys: tuple[TrafficKeys, TrafficKeys] | None = None
        self._wants_certificate: bytes | None = None
        self._suite = 0
        self._agreed_transcript = b""
        self._other_secrets: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Take what the server sent; `progress` then tells, and has what to send.

        Args:
            data: Any number of bytes.
        """
        self._received += len(data)
        if self._received > MAX_FLIGHT_BYTES:
            self._end("malformed", f"The server's flight is over {MAX_FLIGHT_BYTES} bytes.")
            return
        try:
            for record in self._records.receive_data(data):
                if self.progress.ending is None:
                    self._take(record)
        except MalformedError as error:
            is_first = self.progress.server_hello is None and self.progress.retry is None
            is_foreign = is_first and error.path in ("record.type", "record.version")
            if is_foreign:
                self.progress.plain_protocol = next(
                    (name for head, name in _PLAIN.items() if data.startswith(head)), ""
                )
            plain = self.progress.plain_protocol
            detail = f"It answers in {plain}." if plain else str(error)
            self._end("not-tls" if is_foreign else "malformed", detail)
        except NotOpenedError:
            self._end("bad-finish", "The server's protected records do not open with the keys agreed on.")

    def _end(self, ending: str, detail: str = "") -> None:
        self.progress.ending = ending
        self.progress.detail = detail

    def _take(self, record: Record) -> None:
        if record.content_type == cp.CHANGE_CIPHER_SPEC:
            return
        kind, content = record.content_type, record.payload
        if kind == cp.APPLICATION_DATA:
            if self._server is None:
                raise MalformedError("protected records before a ServerHello", 0, "record")
            kind, content = self._open(record)
        if kind == cp.ALERT:
            self._take_alert(content)
        elif kind == cp.HANDSHAKE:
            self._messages += content
            self._take_messages()

    def _open(self, record: Record) -> tuple[int, bytes]:
        assert self._server is not None  # noqa: S101 - the caller looked
        try:
            return self._server.open(record)
        except NotOpenedError:
            if not self._other_secrets:
                raise
        # Once, at the first record: the server may have put the hybrid's secrets together the other way round.
        self._start_protection(self._other_secrets.pop())
        self._other_secrets = []
        opened = self._server.open(record)
        self.progress.is_secret_swapped = True
        return opened

    def _take_alert(self, content: bytes) -> None:
        alert = Alert.parse(content)
        if alert.level == 1 and alert.code not in (0, 90):
            return  # a warning, such as unrecognized_name of TLS 1.2
        self.progress.alert = alert.code
        self._end("alert", cp.alert_name(alert.code))

    def _take_messages(self) -> None:
        while len(self._messages) >= 4 and self.progress.ending is None:
            size_bytes = 4 + int.from_bytes(self._messages[1:4], "big")
            if size_bytes > MAX_FLIGHT_BYTES:
                raise MalformedError(f"a message of {size_bytes} bytes", 1, "handshake.length")
            if len(self._messages) < size_bytes:
                return
            message = bytes(self._messages[:size_bytes])
            del self._messages[:size_bytes]
            self._take_message(message)

    def _take_message(self, message: bytes) -> None:
        kind = message[0]
        hello = self.progress.server_hello
        if hello is None:
            if kind != cp.SERVER_HELLO:
                raise MalformedError(f"message {kind} before a ServerHello", 0, "handshake")
            self._take_hello(message)
        elif hello.version != cp.TLS13:
            self._take_tls12(kind, message)
        elif self._server is not None:
            self._take_protected(kind, message)

    def _take_hello(self, message: bytes) -> None:
        server = ServerHello.parse(split_message(message)[1])
        hello = ClientHello.parse(self._ready.hello.message[4:])
        if server.is_hello_retry_request:
            violation = find_retry_violation(server, hello, is_second=self.progress.retry is not None)
            if violation is None and server.cipher_suite not in SUITES:
                violation = "The HelloRetryRequest chose a cipher suite that was not offered."
            self.progress.retry = server
            if violation is not None:
                self._end("malformed", violation)
                return
            self._answer_retry(server, message)
            return
        self.progress.server_hello = server
        violation = find_server_hello_violation(server, hello, self.progress.retry)
        if violation is not None:
            self._end("malformed", violation)
        elif server.version == cp.TLS13:
            self._transcript += message
            self._agree(server)

    def _answer_retry(self, retry: ServerHello, message: bytes) -> None:
        extension = find_extension(retry.extensions, cp.COOKIE)
        cookie = None if extension is None else extension.reader("cookie").pull_vector(2)
        if cookie is not None and len(cookie) > MAX_COOKIE_BYTES:
            self._end("malformed", f"The HelloRetryRequest wants a cookie of {len(cookie)} bytes back.")
            return
        try:
            self._ready = self._retry_with(retry.retry_group, cookie)
        except KeyError:
            self._end("retry-only", "The server asks for a group that there are no keys for here.")
            return
        self._transcript = message_hash(retry.cipher_suite, self._transcript) + message + self._ready.hello.message
        self.progress.second = self._ready
        self.progress.output += b"".join(self._ready.writes)

    def _agree(self, server: ServerHello) -> None:
        if server.key_share is None or server.cipher_suite not in SUITES:
            self._end("malformed", "The ServerHello resumes a session that was never offered.")
            return
        pair: KeyPair = self._ready.keys[server.key_share.group]
        try:
            rightful, *others = pair.agree(server.key_share.key_exchange)
        except ValueError as error:  # MalformedError is one, and so is what cryptography says of a bad point
            self._end("bad-finish", f"The server's key share is no share of its group: {error}")
            return
        self._suite = server.cipher_suite
        self._agreed_transcript = self._transcript
        self._other_secrets = others
        self._start_protection(rightful)

    def _start_protection(self, secret: bytes) -> None:
        self._keys = handshake_keys(self._suite, secret, self._agreed_transcript)
        self._server = Protection(self._suite, self._keys[1])

    def _take_protected(self, kind: int, message: bytes) -> None:
        assert self._keys is not None  # noqa: S101 - protection has started
        self._other_secrets = []
        if kind == cp.FINISHED:
            expected = finished_mac(self._suite, self._keys[1], self._transcript)
            self._transcript += message
            if hmac.compare_digest(message[4:], expected):
                self._finish()
            else:
                self._end("bad-finish", "The server's Finished does not verify: it saw another handshake than we sent.")
            return
        self._transcript += message
        if kind == CERTIFICATE_REQUEST:
            self._wants_certificate = Reader(message[4:]).pull_vector(1)
        elif kind == CERTIFICATE:
            self.progress.chain = _pull_chain(Reader(message[4:], 4, "Certificate"), is_tls13=True)

    def _finish(self) -> None:
        assert self._keys is not None  # noqa: S101 - protection has started
        client = Protection(self._suite, self._keys[0])
        out = b"" if self.progress.retry is not None else CHANGE_CIPHER_SPEC
        if self._wants_certificate is not None:
            body = push_vector(self._wants_certificate, 1) + push_vector(b"", 3)
            empty = push_int(CERTIFICATE, 1) + push_vector(body, 3)
            self._transcript += empty
            out += client.seal(cp.HANDSHAKE, empty)
        mac = finished_mac(self._suite, self._keys[0], self._transcript)
        out += client.seal(cp.HANDSHAKE, push_int(cp.FINISHED, 1) + push_vector(mac, 3))
        self.progress.output += out
        self._end("answered", "handshake finished")

    def _take_tls12(self, kind: int, message: bytes) -> None:
        if kind == CERTIFICATE:
            self.progress.chain = _pull_chain(Reader(message[4:], 4, "Certificate"), is_tls13=False)
        elif kind == SERVER_HELLO_DONE:
            self._end("answered", "the server's flight of TLS 1.2 is complete")


def has_downgrade_sentinel(server: ServerHello) -> bool:
    """Tell whether a ServerHello says that its server can do more than it chose (RFC 9846 section 4.1.3).

    Args:
        server: The ServerHello.
    """
    return server.version != cp.TLS13 and server.random[24:] in _SENTINELS


def _pull_chain(reader: Reader, *, is_tls13: bool) -> list[bytes]:
    """Read a Certificate message; return its DER certificates."""
    if is_tls13:
        reader.pull_vector(1)
    chain = []
    with reader.scope(3, "certificate_list") as inner:
        while not inner.is_empty:
            chain.append(inner.pull_vector(3))
            if is_tls13:
                inner.pull_vector(2)
    reader.expect_end()
    return chain
