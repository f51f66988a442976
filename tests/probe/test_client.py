"""Our own handshake: keys, bad servers, and the same answer however the server's bytes are cut."""

from __future__ import annotations

import os
import random
import ssl

import pytest
import trustme

from pqtls.probe.client import Handshaker
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.probe.keys import make_key_pair, share_bytes
from pqtls.probe.model import (
    FFDHE4096,
    HYBRID,
    HYBRID_P256,
    HYBRID_P384,
    KYBER_DRAFT,
    P256,
    P384,
    UNKNOWN_GROUP,
    X448,
    X25519,
)
from pqtls.probe.plan import Ready, prepare, prepare_second
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.codepoints import HELLO_RETRY_RANDOM
from pqtls.wire.errors import MalformedError
from pqtls.wire.extensions import Extension
from pqtls.wire.handshake import HandshakeReader
from pqtls.wire.limits import MAX_COOKIE_BYTES
from pqtls.wire.records import Record, RecordReader
from pqtls.wire.server_hello import ServerHello

GROUPS = (X25519, X448, P256, P384, HYBRID, HYBRID_P256, HYBRID_P384, FFDHE4096, UNKNOWN_GROUP, 0x1A1A)


def make(experiment: str) -> tuple[Ready, Handshaker]:
    chosen = EXPERIMENTS[experiment]
    plan = chosen.hello
    assert plan is not None
    ready = prepare(chosen, "server.example", lambda group: make_key_pair(group, os.urandom), os.urandom, None)

    def retry(group: int | None, cookie: bytes | None) -> Ready:
        keys = {} if group is None else {group: make_key_pair(group, os.urandom)}
        return prepare_second(ready, plan, keys, cookie, None)

    return ready, Handshaker(ready, retry)


class Server:
    """Python's ssl in memory."""

    def __init__(self, *, curve: str = "", is_tls12: bool = False, asks_certificate: bool = False) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("server.example").configure_cert(context)
        if curve:
            context.set_ecdh_curve(curve)
        if is_tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if asks_certificate:
            authority.configure_trust(context)
            context.verify_mode = ssl.CERT_OPTIONAL
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)
        self.is_done = False

    def feed(self, data: bytes) -> bytes:
        self._in.write(data)
        if not self.is_done:
            try:
                self.tls.do_handshake()
                self.is_done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                pass
        return self._out.read()


def shake(experiment: str, server: Server, cut: int = 0) -> Handshaker:
    """Carry bytes to and fro until nobody has any more to say; `cut`: the server's bytes come in such pieces."""
    ready, handshaker = make(experiment)
    answer = server.feed(ready.hello.stream)
    while answer:
        for start in range(0, len(answer), cut or len(answer)):
            handshaker.receive(answer[start : start + (cut or len(answer))])
        output, handshaker.progress.output = handshaker.progress.output, b""
        answer = server.feed(output) if output else b""
        if handshaker.progress.ending is not None:
            break
    return handshaker


@pytest.mark.parametrize("group", GROUPS)
def test_shares_have_their_size(group: int) -> None:
    assert len(make_key_pair(group, os.urandom).share) == share_bytes(group)


def test_no_keys_for_a_group_we_do_not_know() -> None:
    with pytest.raises(KeyError):
        make_key_pair(0x11EE, os.urandom)


@pytest.mark.parametrize("cut", [0, 1, 7, 1000])
def test_a_handshake_finishes_on_both_sides(cut: int) -> None:
    server = Server()
    progress = shake("E1", server, cut).progress
    assert (progress.ending, server.is_done) == ("answered", True)
    assert len(progress.chain) == 1


def test_a_retry_finishes_on_both_sides() -> None:
    server = Server(curve="prime256v1")
    progress = shake("E1", server).progress
    assert (progress.ending, server.is_done) == ("answered", True)
    assert progress.retry is not None
    assert progress.retry.retry_group == P256


def test_a_request_for_a_certificate_is_answered_by_none() -> None:
    server = Server(asks_certificate=True)
    assert shake("E1", server).progress.ending == "answered"
    assert server.is_done


def test_tls12_ends_at_the_servers_flight() -> None:
    progress = shake("E1", Server(is_tls12=True)).progress
    assert progress.ending == "answered"
    assert progress.server_hello is not None
    assert progress.server_hello.version == 0x0303
    assert len(progress.chain) == 1


def test_a_server_without_the_version_refuses() -> None:
    progress = shake("E4", Server(is_tls12=True)).progress
    assert (progress.ending, progress.alert) == ("alert", 70)


def test_a_flipped_bit_is_noticed() -> None:
    """Anywhere in the protected flight: the records do not open, and nothing is called finished."""
    for seed in range(20):
        rng = random.Random(seed)  # noqa: S311 - which bit to flip
        ready, handshaker = make("E1")
        answer = bytearray(Server().feed(ready.hello.stream))
        answer[rng.randrange(150, len(answer))] ^= 1 << rng.randrange(8)
        handshaker.receive(bytes(answer))
        assert handshaker.progress.ending != "answered"


def test_what_is_not_tls_is_told_apart() -> None:
    for data in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x00" * 40):
        _, handshaker = make("E1")
        handshaker.receive(data)
        assert handshaker.progress.ending == "not-tls", data


def test_any_bytes_end_in_a_word_and_never_in_an_exception() -> None:
    ready, _ = make("E1")
    real = Server().feed(ready.hello.stream)
    rng = random.Random(5)  # noqa: S311 - mutations
    for _ in range(300):
        _, handshaker = make("E1")
        mutated = bytearray(real)
        for _ in range(rng.randint(1, 6)):
            mutated[rng.randrange(200)] = rng.randrange(256)
        handshaker.receive(bytes(mutated))
        assert handshaker.progress.ending != "answered"


def test_a_retry_for_the_draft_is_told_and_not_followed() -> None:
    ready, handshaker = make("E24")
    sent = ClientHello.parse(ready.hello.message[4:])
    extensions = (Extension(43, b"\x03\x04"), Extension(51, b"\x63\x99"))
    body = ServerHello(0x0303, HELLO_RETRY_RANDOM, sent.session_id, 0x1301, 0, extensions).build()
    handshaker.receive(Record(22, 0x0303, b"\x02" + len(body).to_bytes(3, "big") + body).build())
    assert (handshaker.progress.ending, handshaker.progress.output) == ("retry-only", b"")
    assert handshaker.progress.retry is not None
    assert handshaker.progress.retry.retry_group == KYBER_DRAFT


def test_a_flight_without_end_is_cut() -> None:
    _, handshaker = make("E1")
    for _ in range(40):
        handshaker.receive(b"\x16\x03\x03\x40\x00" + b"\x00" * 16_384)
    assert handshaker.progress.ending in ("malformed", "not-tls")


def test_a_group_that_does_not_exist_cannot_be_agreed_on() -> None:
    with pytest.raises(MalformedError):
        make_key_pair(UNKNOWN_GROUP, os.urandom).agree(bytes(1120))


@pytest.mark.parametrize("size", [100, MAX_COOKIE_BYTES, MAX_COOKIE_BYTES + 1, 65_000])
def test_a_cookie_of_any_size_ends_in_a_word(size: int) -> None:
    """It goes into the second hello's only record, which has no room for the biggest."""
    ready, handshaker = make("E1")
    sent = ClientHello.parse(ready.hello.message[4:])
    cookie = bytes(size)
    extensions = (Extension(43, b"\x03\x04"), Extension(44, size.to_bytes(2, "big") + cookie))
    body = ServerHello(0x0303, HELLO_RETRY_RANDOM, sent.session_id, 0x1301, 0, extensions).build()
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    for at in range(0, len(message), 16_384):
        handshaker.receive(Record(22, 0x0303, message[at : at + 16_384]).build())
    if size > MAX_COOKIE_BYTES:
        assert (handshaker.progress.ending, handshaker.progress.output) == ("malformed", b"")
        return
    assert handshaker.progress.ending is None
    (second,) = read_hellos(handshaker.progress.output)
    (back,) = (each for each in second.extensions or () if each.extension_type == 44)
    assert back.data == size.to_bytes(2, "big") + cookie


def read_hellos(data: bytes) -> list[ClientHello]:
    messages = HandshakeReader()
    payloads = [each.payload for each in RecordReader().receive_data(data) if each.content_type == 22]
    return [ClientHello.parse(each.body or b"") for payload in payloads for each in messages.receive_payload(payload)]
