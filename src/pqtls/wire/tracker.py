"""The tracker: two directions of a connection in, one `Handshake` out, whoever watched.

A capture or a relay gives it bytes (`receive_data`); the recorder gives it whole messages, which OpenSSL has
already decrypted (`receive_message`, `receive_message_type`). Both meet in the same state. It never raises on
what a peer sent: what breaks the rules ends up in `Handshake.malformed`, and nothing is read after that.

When is a handshake complete? With messages: when both Finished were seen. With bytes, where TLS 1.3 encrypts
them: when, after the ServerHello, the client sent a protected record that can hold a Finished (RFC 9846
sections 4.4.4, 5.2: a 4-byte header, the hash, one type byte and a 16-byte tag). A client that refuses sends
one record that holds an alert, 19 bytes with most suites: it is told apart by its size, and ends it. The server's
own protected flight must have come first, with room for its Finished. A record bigger than a lone Finished's holds a
client certificate, or padding, be it of an alert: it takes one more, since after an alert nothing comes.

Bytes are taken in the order in which they passed the witness; a server's that come before the ClientHello are
kept until it is there.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pqtls.wire import codepoints as cp
from pqtls.wire.alert import Alert
from pqtls.wire.buffer import Reader
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.errors import MalformedError
from pqtls.wire.extensions import pull_extensions
from pqtls.wire.facts import (
    AlertFacts,
    ClientHelloFacts,
    Handshake,
    HelloRetryFacts,
    KeyShare,
    LegacyKeyExchange,
    ServerHelloFacts,
    Side,
)
from pqtls.wire.handshake import HEADER_BYTES, HandshakeMessage, HandshakeReader, split_message
from pqtls.wire.key_exchange import ServerKeyExchange
from pqtls.wire.limits import MAX_EARLY_BYTES
from pqtls.wire.records import Record, RecordReader
from pqtls.wire.rules import find_client_hello_violation, find_retry_violation, find_server_hello_violation
from pqtls.wire.server_hello import ServerHello

if TYPE_CHECKING:
    from pqtls.wire.facts import EarlyData, Ending, Psk

ALERT_BYTES = 2
FATAL, CLOSE_NOTIFY, USER_CANCELED = 2, 0, 90
_SHA384_SUITES = frozenset((0x1302,))
_SHORT_TAG_SUITES = frozenset((0x1305,))  # TLS_AES_128_CCM_8_SHA256, RFC 6655


class _Direction:
    """What is kept of one direction of a byte stream."""

    __slots__ = ("has_changed_cipher", "messages", "records")

    def __init__(self) -> None:
        self.records = RecordReader()
        self.messages = HandshakeReader()
        self.has_changed_cipher = False


class HandshakeTracker:
    """Follows one connection's handshake."""

    def __init__(self) -> None:
        self._directions = {Side.CLIENT: _Direction(), Side.SERVER: _Direction()}
        self._early = b""
        self._hellos: list[ClientHello] = []
        self._hello_facts: list[ClientHelloFacts] = []
        self._retry: ServerHello | None = None
        self._server_hello: ServerHello | None = None
        self._server_hello_bytes = 0
        self._server_protected_bytes = 0
        self._legacy: LegacyKeyExchange | None = None
        self._early_data: EarlyData = "none"
        self._alert: AlertFacts | None = None
        self._alert_was_last = False
        self._finished: set[Side] = set()
        self._sees_messages = False
        self._is_complete = False
        self._has_alert_record = False
        self._has_big_record = False
        self._ended: Ending | None = None
        self._malformed: str | None = None
        self._started_ns: int | None = None
        self._client_finished_ns: int | None = None
        self._now_ns: int | None = None

    # What was seen

    @property
    def done(self) -> bool:
        """Nothing that comes now can change the handshake; it is dropped unread."""
        refused = self._alert_was_last or self._has_alert_record
        return refused or self._malformed is not None or self._ended is not None or self._is_complete

    @property
    def connection_id(self) -> str:
        """sha256 of the first ClientHello.random, first 16 hex digits; empty before a ClientHello."""
        return hashlib.sha256(self._hellos[0].random).hexdigest()[:16] if self._hellos else ""

    @property
    def handshake(self) -> Handshake | None:
        """What was seen so far; None as long as there is no ClientHello and something may still come."""
        first = self._hellos[0] if self._hellos else None
        if first is None:
            # Whatever ended, broke or was refused before its first hello was whole is a connection all the same.
            seen = Handshake(malformed=self._malformed, ended=self._ended, alert=self._alert)
            return seen if self.done else None
        server = self._server_hello
        return Handshake(
            version=None if server is None else server.version,
            client_random=first.random,
            sni=first.server_name,
            alpn=first.alpn,
            ech=first.has_extension(cp.ENCRYPTED_CLIENT_HELLO),
            cipher=None if server is None else server.cipher_suite,
            client_hellos=tuple(self._hello_facts),
            hello_retry=self._retry_facts(),
            server_hello=self._server_facts(),
            legacy_key_exchange=self._legacy,
            psk=self._psk(),
            early_data=self._early_data,
            alert=self._alert,
            complete=self._is_complete,
            encrypted_alert_likely=self._has_alert_record,
            ended=self._ended,
            malformed=self._malformed,
            handshake_ms=self._handshake_ms(),
        )

    def _retry_facts(self) -> HelloRetryFacts | None:
        if self._retry is None:
            return None
        return HelloRetryFacts(self._retry.retry_group, self._retry.has_cookie)

    def _server_facts(self) -> ServerHelloFacts | None:
        server = self._server_hello
        if server is None:
            return None
        share = server.key_share if server.version == cp.TLS13 else None
        group, size = (None, None) if share is None else (share.group, len(share.key_exchange))
        return ServerHelloFacts(self._server_hello_bytes, group, size)

    def _psk(self) -> Psk | None:
        server = self._server_hello
        if server is None or server.version != cp.TLS13 or server.selected_psk is None:
            return None
        return "psk_ke" if server.key_share is None else "psk_dhe_ke"

    def _handshake_ms(self) -> float | None:
        if not self._is_complete or self._started_ns is None or self._client_finished_ns is None:
            return None
        return (self._client_finished_ns - self._started_ns) / 1e6

    # What comes in

    def receive_data(self, sender: Side, data: bytes, time_ns: int | None = None) -> None:
        """Take bytes of the stream, as a capture or a relay sees them.

        Args:
            sender: Who sent them.
            data: Any number of bytes, cut anywhere.
            time_ns: When, on any clock that does not jump; None if that is not known.
        """
        if self.done or not data:
            return
        self._note_time(sender, time_ns)
        try:
            if sender is Side.SERVER and not self._hellos:
                self._keep_early(data)
            else:
                self._receive_records(sender, data)
        except MalformedError as error:
            self._break(f"The {sender.value}'s bytes break the protocol: {error}.")

    def receive_message(
        self,
        sender: Side,
        content_type: int,
        message: bytes,
        *,
        records: int | None = None,
        time_ns: int | None = None,
    ) -> None:
        """Take one whole decrypted message, as OpenSSL's message callback gives it.

        Args:
            sender: Who sent it.
            content_type: 22 for a handshake message with its 4-byte header, 21 for an alert's two bytes.
            message: The bytes.
            records: How many records carried it, None if that is not known.
            time_ns: When, on any clock that does not jump.
        """
        if self.done:
            return
        self._sees_messages = True
        self._note_time(sender, time_ns)
        try:
            if content_type == cp.ALERT:
                self._take_alert(sender, message)
            elif content_type == cp.HANDSHAKE:
                message_type, body = split_message(message)
                self._take_message(sender, HandshakeMessage(message_type, body, len(body), records or 0))
        except MalformedError as error:
            self._break(f"The {sender.value}'s message breaks the protocol: {error}.")

    def receive_message_type(self, sender: Side, message_type: int, time_ns: int | None = None) -> None:
        """Take a handshake message of which only the type is told.

        Args:
            sender: Who sent it.
            message_type: HandshakeType; Finished and EndOfEarlyData matter.
            time_ns: When, on any clock that does not jump.
        """
        if self.done:
            return
        self._sees_messages = True
        self._note_time(sender, time_ns)
        self._take_message(sender, HandshakeMessage(message_type, None, 0, 0))

    def receive_end(self, how: Ending) -> None:
        """Take the end of the connection, or of what is seen of it.

        Args:
            how: How it ended.
        """
        if self.done:
            return
        self._ended = how
        if self._early and not self._hellos:
            self._malformed = "The server sent bytes, but no ClientHello was seen."

    def _note_time(self, sender: Side, time_ns: int | None) -> None:
        self._now_ns = time_ns
        if self._started_ns is None and sender is Side.CLIENT:
            self._started_ns = time_ns

    def _break(self, sentence: str) -> None:
        if self._malformed is None:
            self._malformed = sentence

    def _keep_early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > MAX_EARLY_BYTES:
            self._early = b""
            self._break("The server sent more than a first flight before any ClientHello was seen.")

    # Records, where bytes are seen

    def _receive_records(self, sender: Side, data: bytes) -> None:
        for record in self._directions[sender].records.receive_data(data):
            self._take_record(sender, record)
            if self._early and self._hellos and not self.done:
                # At once, not after the rest of these bytes: nothing may depend on how a stream was cut.
                early, self._early = self._early, b""
                self.receive_data(Side.SERVER, early, self._now_ns)
            if self.done:
                return  # before the next bytes are looked at: they are not of the handshake

    def _take_record(self, sender: Side, record: Record) -> None:
        direction = self._directions[sender]
        if record.content_type != cp.HANDSHAKE and not direction.messages.is_between_messages:
            raise MalformedError(f"content type {record.content_type} inside a handshake message", 0, "record.type")
        if record.content_type == cp.CHANGE_CIPHER_SPEC:
            direction.has_changed_cipher = self._is_legacy
        elif record.content_type == cp.ALERT:
            if not direction.has_changed_cipher:
                self._take_alert(sender, record.payload)
            elif sender is Side.CLIENT:
                self._has_alert_record = True
        elif record.content_type == cp.APPLICATION_DATA:
            self._take_protected(sender, record)
        elif direction.has_changed_cipher:
            self._take_finished(sender)
        elif self._server_hello is not None and not self._is_legacy:
            self._break(f"The {sender.value} sent a handshake message in the clear after the ServerHello.")
        else:
            self._take_clear_messages(sender, direction, record)

    def _take_clear_messages(self, sender: Side, direction: _Direction, record: Record) -> None:
        for message in direction.messages.receive_payload(record.payload):
            if self._server_hello is not None and not self._is_legacy:
                # RFC 9846 section 5.1: keys change at a record's boundary.
                self._break("The server sent more in the clear after its TLS 1.3 ServerHello.")
                return
            self._take_message(sender, message)
            if self.done:
                return

    @property
    def _is_legacy(self) -> bool:
        return self._server_hello is not None and self._server_hello.version < cp.TLS13

    def _take_protected(self, sender: Side, record: Record) -> None:
        """Judge a protected record of TLS 1.3 by who sent it, when, and its size."""
        if self._is_legacy:
            return
        if sender is Side.SERVER:
            if self._server_hello is None:
                self._break("The server sent protected data before its ServerHello.")
            self._server_protected_bytes += len(record.payload)
            return
        if self._early_data != "none" and len(self._hellos) == 1:
            # Early data, or what cannot be told from it: better one proof too few than one too many.
            self._early_data = "sent" if self._retry is None else "rejected"
            if self._server_hello is None:
                return
        if self._server_hello is None:
            self._break("The client sent protected data before the ServerHello, without offering early data.")
            return
        suite = self._server_hello.cipher_suite
        # RFC 9846 section 5.2: one type byte and the tag follow what is protected.
        overhead = 1 + (8 if suite in _SHORT_TAG_SUITES else 16)
        finished_bytes = HEADER_BYTES + (48 if suite in _SHA384_SUITES else 32)
        has_server_finished = self._server_protected_bytes >= finished_bytes + overhead
        if len(record.payload) >= finished_bytes + overhead and has_server_finished:
            # A bigger one may hold a certificate before the Finished, but also a padded alert, which ends it.
            self._is_complete = self._has_big_record or len(record.payload) == finished_bytes + overhead
            self._has_big_record = True
            self._client_finished_ns = self._now_ns
        elif len(record.payload) == ALERT_BYTES + overhead:
            self._has_alert_record = True

    def _take_finished(self, sender: Side) -> None:
        """Take the encrypted Finished of TLS 1.2: the handshake record after the ChangeCipherSpec."""
        if sender is Side.CLIENT:
            self._client_finished_ns = self._now_ns
            self._is_complete = True

    # Messages, from either entry

    def _take_alert(self, sender: Side, data: bytes) -> None:
        alert = Alert.parse(data)
        # A warning, such as unrecognized_name, gives way to the alert that really ends the handshake.
        self._alert = AlertFacts(sender, alert.code)
        # RFC 9846 section 6: in TLS 1.3 the level says nothing, and all but user_canceled end the connection.
        is_tls13 = self._server_hello is not None and not self._is_legacy
        ends = alert.level == FATAL or alert.code == CLOSE_NOTIFY
        self._alert_was_last = ends or (is_tls13 and alert.code != USER_CANCELED)

    def _take_message(self, sender: Side, message: HandshakeMessage) -> None:
        kind, body = message.message_type, message.body
        if kind == cp.FINISHED:
            self._take_finished_message(sender)
        elif kind == cp.END_OF_EARLY_DATA and sender is Side.CLIENT and self._early_data == "offered":
            self._early_data = "sent"
        elif body is None:
            return
        elif kind == cp.CLIENT_HELLO:
            self._take_client_hello(sender, message, body)
        elif kind == cp.SERVER_HELLO:
            self._take_server_hello(sender, message, body)
        elif kind == cp.SERVER_KEY_EXCHANGE and sender is Side.SERVER:
            self._take_key_exchange(body)
        elif kind == cp.ENCRYPTED_EXTENSIONS and sender is Side.SERVER:
            self._take_encrypted_extensions(body)

    def _take_finished_message(self, sender: Side) -> None:
        if self._server_hello is None:
            self._break(f"The {sender.value} sent a Finished before the ServerHello.")
            return
        self._finished.add(sender)
        if sender is Side.CLIENT:
            self._client_finished_ns = self._now_ns
        self._is_complete = len(self._finished) == 2
        if self._is_complete and self._early_data == "offered":
            # Messages do not show early data, and no answer to the offer was seen: it cannot be excluded.
            self._early_data = "sent"

    def _take_client_hello(self, sender: Side, message: HandshakeMessage, body: bytes) -> None:
        if sender is not Side.CLIENT or self._server_hello is not None or len(self._hellos) == 2:
            self._break(f"The {sender.value} sent a ClientHello where none may come.")
            return
        hello = ClientHello.parse(body)
        first = self._hellos[0] if self._hellos else None
        violation = find_client_hello_violation(hello, first, self._retry)
        self._hellos.append(hello)
        self._hello_facts.append(
            ClientHelloFacts(
                size_bytes=HEADER_BYTES + message.body_bytes,
                records=message.records or None,
                segments=None,
                groups=hello.supported_groups,
                key_shares=tuple(KeyShare(each.group, len(each.key_exchange)) for each in hello.key_shares or ()),
                signature_algorithms=hello.signature_algorithms,
                versions=hello.supported_versions,
            )
        )
        if violation is not None:
            self._break(violation)
        if first is None and hello.has_extension(cp.EARLY_DATA):
            self._early_data = "offered"

    def _take_server_hello(self, sender: Side, message: HandshakeMessage, body: bytes) -> None:
        if sender is not Side.SERVER or not self._hellos or self._server_hello is not None:
            self._break(f"The {sender.value} sent a ServerHello where none may come.")
            return
        server, hello = ServerHello.parse(body), self._hellos[-1]
        if server.is_hello_retry_request:
            violation = find_retry_violation(server, hello, is_second=self._retry is not None)
            self._retry = self._retry or server
            if self._early_data == "sent" or (self._early_data == "offered" and self._sees_messages):
                self._early_data = "rejected"
        else:
            if self._retry is not None and len(self._hellos) == 1:
                self._break("The server sent a ServerHello before the client had answered its HelloRetryRequest.")
            violation = find_server_hello_violation(server, hello, self._retry)
            self._server_hello = server
            self._server_hello_bytes = HEADER_BYTES + message.body_bytes
            kind = cp.legacy_kind(server.cipher_suite)
            if self._is_legacy and kind not in ("ecdhe", "dhe"):
                self._legacy = LegacyKeyExchange(kind)
        if violation is not None:
            self._break(violation)

    def _take_key_exchange(self, body: bytes) -> None:
        server = self._server_hello
        if server is None or not self._is_legacy:
            self._break("The server sent a ServerKeyExchange where none may come.")
            return
        kind = cp.legacy_kind(server.cipher_suite)
        if kind == "ecdhe" or kind == "dhe":  # noqa: PLR1714 - spelled out, it narrows the type
            has_hint = cp.has_psk_hint(server.cipher_suite)
            self._legacy = ServerKeyExchange.parse(body, kind, has_hint=has_hint).facts()

    def _take_encrypted_extensions(self, body: bytes) -> None:
        """Learn, where the message is visible, what became of offered early data."""
        reader = Reader(body, 0, "EncryptedExtensions")
        extensions = pull_extensions(reader)
        reader.expect_end()
        is_accepted = any(each.extension_type == cp.EARLY_DATA for each in extensions or ())
        if is_accepted and self._early_data == "none":
            self._break("The server accepted early data that the client did not offer.")
        elif is_accepted:
            self._early_data = "accepted"
        elif self._early_data != "none":
            self._early_data = "rejected"  # a retry, or no answer: sent or not, messages do not show it
