"""Each broken rule is told as such, and the same handshake without the breach is believed (the control)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pqtls.evidence import judge
from pqtls.wire import codepoints as cp
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.extensions import Extension, KeyShareEntry, find_extension
from pqtls.wire.facts import Handshake, Side
from pqtls.wire.handshake import HandshakeMessage
from pqtls.wire.server_hello import ServerHello
from pqtls.wire.tracker import HandshakeTracker
from tests.wire.vectors import load

if TYPE_CHECKING:
    from collections.abc import Callable

HYBRID, X25519, P256, MLKEM1024 = 0x11EC, 0x001D, 0x0017, 0x0202


def hellos(name: str) -> list[ClientHello | ServerHello]:
    found: list[ClientHello | ServerHello] = []
    for _, content, kind, data in load(name).messages[Side.CLIENT]:
        if content == 22 and kind in (1, 2) and data is not None:
            found.append(ClientHello.parse(data[4:]) if kind == 1 else ServerHello.parse(data[4:]))
    return found


def play(messages: list[ClientHello | ServerHello]) -> Handshake:
    """Play hellos and both Finished as the recorder would see them."""
    tracker = HandshakeTracker()
    for message in messages:
        is_client = isinstance(message, ClientHello)
        body = message.build()
        built = HandshakeMessage(1 if is_client else 2, body, len(body), 1).build()
        tracker.receive_message(Side.CLIENT if is_client else Side.SERVER, 22, built)
    tracker.receive_message_type(Side.SERVER, cp.FINISHED)
    tracker.receive_message_type(Side.CLIENT, cp.FINISHED)
    handshake = tracker.handshake
    assert handshake is not None
    return handshake


def with_extension(
    message: ClientHello | ServerHello, extension_type: int, data: bytes | None
) -> ClientHello | ServerHello:
    """Replace, add or (None) remove an extension."""
    rest = [each for each in message.extensions or () if each.extension_type != extension_type]
    if data is None:
        return replace(message, extensions=tuple(rest))
    return replace(message, extensions=(*rest, Extension(extension_type, data)))


def share(group: int, size: int) -> bytes:
    return KeyShareEntry(group, bytes(size)).build()


def shares(*entries: tuple[int, int]) -> bytes:
    data = b"".join(share(group, size) for group, size in entries)
    return len(data).to_bytes(2, "big") + data


def groups(*codes: int) -> bytes:
    return (2 * len(codes)).to_bytes(2, "big") + b"".join(code.to_bytes(2, "big") for code in codes)


def number(code: int) -> bytes:
    return code.to_bytes(2, "big")


Change = "Callable[[list[ClientHello | ServerHello]], list[ClientHello | ServerHello]]"


def change(at: int, extension_type: int, data: bytes | None) -> Callable[..., list[ClientHello | ServerHello]]:
    def apply(messages: list[ClientHello | ServerHello]) -> list[ClientHello | ServerHello]:
        changed = list(messages)
        changed[at] = with_extension(changed[at], extension_type, data)
        return changed

    return apply


# name: (vector, the change, a part of the sentence)
BREACHES: dict[str, tuple[str, Callable[..., list[ClientHello | ServerHello]], str]] = {
    "group not offered": ("hybrid", change(1, cp.KEY_SHARE, share(MLKEM1024, 1568)), "did not offer"),
    "group without a share": ("hybrid", change(1, cp.KEY_SHARE, share(P256, 65)), "sent no share"),
    "server share too short": ("hybrid", change(1, cp.KEY_SHARE, share(HYBRID, 1119)), "1119 bytes"),
    "client share too long": ("hybrid", change(0, cp.KEY_SHARE, shares((HYBRID, 1217))), "1217 bytes"),
    "client share not listed": ("hybrid", change(0, cp.SUPPORTED_GROUPS, groups(X25519)), "without listing"),
    "another version than TLS 1.3": ("hybrid", change(1, cp.SUPPORTED_VERSIONS, number(0x0303)), "not TLS 1.3"),
    "a later version": ("hybrid", change(1, cp.SUPPORTED_VERSIONS, number(0x0305)), "not TLS 1.3"),
    "TLS 1.3 not offered": ("hybrid", change(0, cp.SUPPORTED_VERSIONS, b"\x02\x03\x03"), "did not offer"),
    "supported_versions unasked": ("hybrid", change(0, cp.SUPPORTED_VERSIONS, None), "to a client that did not"),
    "no key_share and no psk": ("hybrid", change(1, cp.KEY_SHARE, None), "neither"),
    "psk not offered": ("hybrid", change(1, cp.PRE_SHARED_KEY, number(0)), "pre-shared key"),
    "session id not echoed": (
        "hybrid",
        lambda messages: [messages[0], replace(messages[1], session_id_echo=bytes(32))],
        "does not echo",
    ),
    "a suite of TLS 1.2": (
        "hybrid",
        lambda messages: [messages[0], replace(messages[1], cipher_suite=0xC02F)],
        "a suite of TLS 1.2",
    ),
    "a retry that asks for nothing": ("hybrid-after-retry", change(1, cp.KEY_SHARE, None), "asks for nothing"),
    "a psk index that was not offered": ("resumed", change(1, cp.PRE_SHARED_KEY, number(1)), "pre-shared key"),
    "cipher suite not offered": (
        "hybrid",
        lambda messages: [messages[0], replace(messages[1], cipher_suite=0x1304)],
        "TLS_AES_128_CCM_SHA256",
    ),
    "retry for a group not offered": (
        "hybrid-after-retry",
        change(1, cp.KEY_SHARE, number(MLKEM1024)),
        "did not offer",
    ),
    "retry for a share it had": ("hybrid-after-retry", change(1, cp.KEY_SHARE, number(X25519)), "already had"),
    "retry without the session id": (
        "hybrid-after-retry",
        lambda messages: [messages[0], replace(messages[1], session_id_echo=b""), *messages[2:]],
        "does not echo",
    ),
    "retry without TLS 1.3": ("hybrid-after-retry", change(1, cp.SUPPORTED_VERSIONS, None), "does not select"),
    "two retries": (
        "hybrid-after-retry",
        lambda messages: [*messages[:3], messages[1], *messages[3:]],
        "two HelloRetryRequests",
    ),
    "another group than its own retry": (
        "hybrid-after-retry",
        change(3, cp.KEY_SHARE, share(X25519, 32)),
        "as its own retry did",
    ),
    "another suite than its own retry": (
        "hybrid-after-retry",
        lambda messages: [*messages[:3], replace(messages[3], cipher_suite=0x1301)],
        "another cipher suite",
    ),
    "the second hello's random": (
        "hybrid-after-retry",
        lambda messages: [*messages[:2], replace(messages[2], random=bytes(32)), messages[3]],
        "another random",
    ),
    "the second hello's shares": (
        "hybrid-after-retry",
        change(2, cp.KEY_SHARE, shares((X25519, 32))),
        "exactly the one share",
    ),
    "a second hello unasked": (
        "hybrid",
        lambda messages: [messages[0], messages[0], messages[1]],
        "without a HelloRetryRequest",
    ),
    "no second hello": (
        "hybrid-after-retry",
        lambda messages: [messages[0], messages[1], messages[3]],
        "before the client had answered",
    ),
    "a ServerHello first": ("hybrid", lambda messages: [messages[1], messages[0]], "where none may come"),
    "two ServerHellos": ("hybrid", lambda messages: [*messages, messages[1]], "where none may come"),
    "three ClientHellos": (
        "hybrid-after-retry",
        lambda messages: [*messages[:3], messages[2], messages[3]],
        "where none may come",
    ),
    "retry, then TLS 1.2": (
        "hybrid-after-retry",
        change(3, cp.SUPPORTED_VERSIONS, None),
        "chose an older version",
    ),
}


@pytest.mark.parametrize("name", sorted(BREACHES))
def test_breach(name: str) -> None:
    vector, breach, sentence = BREACHES[name]
    control = play(hellos(vector))
    assert judge(control).verdict == "post-quantum", "the control: without the breach it is believed"
    handshake = play(breach(hellos(vector)))
    finding = judge(handshake)
    assert (finding.verdict, finding.reason, finding.key_exchange) == ("inconclusive", "malformed", "unknown")
    assert sentence in str(handshake.malformed)


def test_ech_hides_the_offer() -> None:
    """With ECH the inner hello is hidden: the same choice, not in the outer offer, is no breach."""
    plain = change(0, cp.SUPPORTED_GROUPS, groups(X25519))(hellos("hybrid"))
    plain = change(0, cp.KEY_SHARE, shares((X25519, 32)))(plain)
    assert judge(play(plain)).reason == "malformed"
    hidden = change(0, cp.ENCRYPTED_CLIENT_HELLO, b"\x00\x01")(plain)
    handshake = play(hidden)
    assert handshake.ech
    assert judge(handshake).reason == "negotiated-hybrid"


def test_a_cookie_alone_asks_for_no_group() -> None:
    client, _, second, server = hellos("hybrid-after-retry")
    retry = hellos("hybrid-after-retry")[1]
    share_before = find_extension(second.extensions, cp.KEY_SHARE)
    assert share_before is not None
    first = with_extension(client, cp.KEY_SHARE, share_before.data)
    retry = with_extension(with_extension(retry, cp.KEY_SHARE, None), cp.COOKIE, b"\x00\x03abc")
    handshake = play([first, retry, with_extension(second, cp.COOKIE, b"\x00\x03abc"), server])
    assert handshake.hello_retry is not None
    assert (handshake.hello_retry.group, handshake.hello_retry.cookie) == (None, True)
    assert judge(handshake).reason == "negotiated-hybrid"


class TestPsk:
    def test_psk_ke_has_no_key_exchange(self) -> None:
        client, server = hellos("resumed")
        assert play([client, server]).psk == "psk_dhe_ke"
        handshake = play([client, with_extension(server, cp.KEY_SHARE, None)])
        assert handshake.psk == "psk_ke"
        assert judge(handshake).reason == "psk-only"


class TestEarlyData:
    """What was sent early is protected by the old key alone, so it must never be called post-quantum."""

    def offered(self) -> list[ClientHello | ServerHello]:
        client, server = hellos("resumed")
        return [with_extension(client, cp.EARLY_DATA, b""), server]

    def test_the_control_without_an_offer(self) -> None:
        assert judge(play(hellos("resumed"))).verdict == "post-quantum"

    def test_offered_with_nothing_seen_of_the_answer(self) -> None:
        """Messages do not show early data itself, so an offer alone forbids the verdict."""
        handshake = play(self.offered())
        assert handshake.early_data == "sent"
        assert judge(handshake).reason == "early-data"

    @pytest.mark.parametrize(
        ("extra", "fate"),
        [
            ((Side.SERVER, "08000002" + "0000"), "rejected"),
            ((Side.SERVER, "08000006" + "0004" + "002a0000"), "accepted"),
        ],
    )
    def test_the_answer_in_encrypted_extensions(self, extra: tuple[Side, str], fate: str) -> None:
        tracker = HandshakeTracker()
        for side, kind, message in zip((Side.CLIENT, Side.SERVER), (1, 2), self.offered(), strict=True):
            body = message.build()
            tracker.receive_message(side, 22, HandshakeMessage(kind, body, len(body), 1).build())
        tracker.receive_message(extra[0], 22, bytes.fromhex(extra[1]))
        tracker.receive_message_type(Side.SERVER, cp.FINISHED)
        tracker.receive_message_type(Side.CLIENT, cp.FINISHED)
        assert tracker.handshake is not None
        assert tracker.handshake.early_data == fate
        assert judge(tracker.handshake).reason == "early-data"

    def test_a_retry_rejects_it(self) -> None:
        client, *rest = hellos("hybrid-after-retry")
        handshake = play([with_extension(client, cp.EARLY_DATA, b""), *rest])
        assert handshake.early_data == "rejected"
        assert judge(handshake).reason == "early-data"

    def test_end_of_early_data_means_that_it_was_sent(self) -> None:
        client, server = self.offered()
        tracker = HandshakeTracker()
        for side, kind, body in ((Side.CLIENT, 1, client.build()), (Side.SERVER, 2, server.build())):
            tracker.receive_message(side, 22, HandshakeMessage(kind, body, len(body), 1).build())
        tracker.receive_message_type(Side.CLIENT, cp.END_OF_EARLY_DATA)
        assert tracker.handshake is not None
        assert tracker.handshake.early_data == "sent"

    def test_accepted_without_an_offer(self) -> None:
        client, server = hellos("resumed")
        tracker = HandshakeTracker()
        for side, kind, body in ((Side.CLIENT, 1, client.build()), (Side.SERVER, 2, server.build())):
            tracker.receive_message(side, 22, HandshakeMessage(kind, body, len(body), 1).build())
        tracker.receive_message(Side.SERVER, 22, bytes.fromhex("08000006" + "0004" + "002a0000"))
        assert tracker.handshake is not None
        assert "did not offer" in str(tracker.handshake.malformed)

    @pytest.mark.parametrize("before_the_server_hello", [True, False])
    def test_bytes_that_may_be_early_data_prove_nothing(self, before_the_server_hello: bool) -> None:
        client, server = self.offered()
        protected = b"\x17\x03\x03\x00\x80" + bytes(128)
        flights = []
        for side, kind, body in ((Side.CLIENT, 1, client.build()), (Side.SERVER, 2, server.build())):
            message = HandshakeMessage(kind, body, len(body), 1).build()
            flights.append((side, b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message))
        flights.insert(1 if before_the_server_hello else 2, (Side.CLIENT, protected))
        flights.append((Side.CLIENT, protected))
        tracker = HandshakeTracker()
        for side, data in flights:
            tracker.receive_data(side, data)
        assert tracker.handshake is not None
        assert tracker.handshake.early_data == "sent"
        assert judge(tracker.handshake).reason == "early-data"

    def test_protected_data_without_an_offer_breaks_the_rules(self) -> None:
        tracker = HandshakeTracker()
        tracker.receive_data(*load("hybrid").flights[0])
        tracker.receive_data(Side.CLIENT, b"\x17\x03\x03\x00\x80" + bytes(128))
        assert tracker.handshake is not None
        assert "without offering early data" in str(tracker.handshake.malformed)


def test_a_server_that_ignores_supported_versions_is_a_finding() -> None:
    """A TLS 1.2 server answers a TLS 1.3-only hello with TLS 1.2: not post-quantum, and no breach."""
    client, server = hellos("tls12-ecdhe")
    only13 = with_extension(client, cp.SUPPORTED_VERSIONS, b"\x02\x03\x04")
    assert judge(play([only13, server])).reason == "tls12"
