"""Every real handshake comes out the same however its bytes are cut, and as what it was made to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pqtls.evidence import judge
from pqtls.wire.facts import Handshake, LegacyKeyExchange, Side
from pqtls.wire.handshake import HEADER_BYTES
from pqtls.wire.limits import MAX_EARLY_BYTES
from pqtls.wire.records import Record, RecordReader
from pqtls.wire.tracker import HandshakeTracker
from tests.wire.vectors import EXPECTED, Vector, load

NAMES = sorted(EXPECTED)


@pytest.mark.smoke
@pytest.mark.parametrize("name", NAMES)
def test_whole(name: str) -> None:
    vector = load(name)
    handshake = vector.track()
    finding = judge(handshake)
    hello = handshake.server_hello
    group = None if hello is None else hello.group
    seen = (len(handshake.client_hellos), handshake.hello_retry is not None, handshake.complete)
    assert (finding.verdict, finding.reason, group, *seen) == EXPECTED[name]
    assert handshake.malformed is None
    assert handshake.sni == "server.example"


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    vector = load(name)
    pieces = [(side, data[at : at + 1]) for side, data in vector.flights for at in range(len(data))]
    assert vector.track(pieces) == vector.track()


@pytest.mark.parametrize("name", NAMES)
def test_split_in_two_at_every_position(name: str) -> None:
    """The split hello is this product's core subject: no position may matter."""
    vector = load(name)
    whole = vector.track()
    for number, (side, data) in enumerate(vector.flights):
        before, after = list(vector.flights[:number]), list(vector.flights[number + 1 :])
        for at in range(1, len(data)):
            assert vector.track([*before, (side, data[:at]), (side, data[at:]), *after]) == whole, (number, at)


@pytest.mark.parametrize("name", ["hybrid", "hybrid-after-retry", "tls12-ecdhe"])
def test_hello_cut_into_two_records_at_every_position(name: str) -> None:
    """Record boundaries inside a hello change nothing but the count of records."""
    vector = load(name)
    whole = vector.track()
    side, data = vector.flights[0]
    (record,) = RecordReader().receive_data(data)
    for at in range(1, len(record.payload)):
        two = b"".join(
            Record(record.content_type, record.version, part).build()
            for part in (record.payload[:at], record.payload[at:])
        )
        handshake = vector.track([(side, two), *vector.flights[1:]])
        first = replace(whole.client_hellos[0], records=2)
        assert handshake == replace(whole, client_hellos=(first, *whole.client_hellos[1:])), at


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seen_by", list(Side))
def test_messages_say_what_bytes_say(name: str, seen_by: Side) -> None:
    """The recorder's entry and the relay's entry give the same facts of the same handshake."""
    vector = load(name)
    by_bytes, by_messages = vector.track(), vector.track_messages(seen_by)
    # A refusing client's alert may be encrypted on the wire; the recorder reads it.
    same = replace(by_messages, alert=by_bytes.alert, encrypted_alert_likely=by_bytes.encrypted_alert_likely)
    assert same == by_bytes
    assert judge(by_messages).verdict == judge(by_bytes).verdict


def test_facts_of_the_hybrid_hello() -> None:
    handshake = load("hybrid").track()
    (hello,) = handshake.client_hellos
    side, data = load("hybrid").flights[0]
    assert side is Side.CLIENT
    assert hello.size_bytes == len(data) - 5
    assert hello.records == 1
    assert hello.segments is None
    assert [(share.group, share.size_bytes) for share in hello.key_shares] == [(0x11EC, 1216), (0x001D, 32)]
    assert handshake.server_hello is not None
    assert handshake.server_hello.key_share_bytes == 1120
    assert handshake.version == 0x0304
    assert handshake.cipher == 0x1302


def test_legacy_key_exchanges_are_named() -> None:
    assert load("tls12-ecdhe").track().legacy_key_exchange == LegacyKeyExchange("ecdhe", 0x001D)
    assert load("tls12-dhe").track().legacy_key_exchange == LegacyKeyExchange("dhe", None, 2048)
    assert load("tls12-rsa").track().legacy_key_exchange == LegacyKeyExchange("rsa")
    assert load("tls12-resumed").track().legacy_key_exchange is None


def test_retry_is_told() -> None:
    handshake = load("hybrid-after-retry").track()
    assert handshake.hello_retry is not None
    assert (handshake.hello_retry.group, handshake.hello_retry.cookie) == (0x11EC, False)
    first, second = handshake.client_hellos
    assert [share.group for share in first.key_shares] == [0x001D]
    assert [share.group for share in second.key_shares] == [0x11EC]


def test_resumption_is_told() -> None:
    assert load("resumed").track().psk == "psk_dhe_ke"
    assert load("hybrid").track().psk is None


@pytest.mark.parametrize("name", [name for name in NAMES if EXPECTED[name][5]])
def test_without_its_last_client_flight_nothing_is_complete(name: str) -> None:
    """Take the client's Finished away: what was complete no longer is, and no hybrid is called post-quantum."""
    vector = load(name)
    last = max(number for number, (side, _) in enumerate(vector.flights) if side is Side.CLIENT)
    pieces = list(vector.flights[:last])
    handshake = vector.track(pieces)
    assert not handshake.complete
    assert judge(handshake).verdict != "post-quantum"


def _with_protected_record(payload_bytes: int, suite: str = "hybrid") -> Handshake:
    """Play a handshake up to the server's flight, then one protected client record of the given size."""
    vector = load(suite)
    record = Record(23, 0x0303, bytes(payload_bytes)).build()
    return vector.track([*vector.flights[:2], (Side.CLIENT, record)])


@pytest.mark.parametrize(
    ("suite", "size", "is_complete"),
    [("hybrid", 68, False), ("hybrid", 69, True), ("sha256-suite", 52, False), ("sha256-suite", 53, True)],
)
def test_a_finished_is_told_by_its_size(suite: str, size: int, is_complete: bool) -> None:
    assert _with_protected_record(size, suite).complete is is_complete


def test_a_lone_record_that_may_be_a_padded_alert_is_no_finished() -> None:
    """RFC 9846 section 5.4: any record may be padded. After an alert nothing comes; after a certificate something."""
    vector = load("hybrid")
    big = Record(23, 0x0303, bytes(600)).build()
    for records, reason in ((big, "handshake-failed"), (big * 2, "negotiated-hybrid")):
        tracker = HandshakeTracker()
        for side, data in (*vector.flights[:2], (Side.CLIENT, records)):
            tracker.receive_data(side, data)
        tracker.receive_end("closed")
        assert tracker.handshake is not None
        assert judge(tracker.handshake).reason == reason


def test_a_lone_alert_sized_record_is_a_refusal() -> None:
    handshake = _with_protected_record(19)
    assert handshake.encrypted_alert_likely
    assert not handshake.complete
    assert judge(handshake).reason == "handshake-failed"


def test_the_server_first_is_kept_until_the_hello_comes() -> None:
    """A capture may deliver the answer before the question."""
    vector = load("hybrid")
    client, server, *rest = vector.flights
    assert vector.track([server, client, *rest]) == vector.track()


def test_a_server_without_any_hello_is_bounded() -> None:
    tracker = HandshakeTracker()
    tracker.receive_data(Side.SERVER, bytes(MAX_EARLY_BYTES + 1))
    assert tracker.done
    assert tracker.handshake is not None
    assert tracker.handshake.malformed is not None


def test_nothing_is_known_before_a_hello() -> None:
    tracker = HandshakeTracker()
    assert tracker.handshake is None
    assert tracker.connection_id == ""
    tracker.receive_data(Side.CLIENT, load("hybrid").flights[0][1][:-1])
    assert tracker.handshake is None, "a hello with its last byte missing is not yet a hello"


def test_half_a_hello_and_then_the_end_is_a_connection() -> None:
    tracker = HandshakeTracker()
    tracker.receive_data(Side.CLIENT, load("hybrid").flights[0][1][:700])
    before = tracker.handshake
    assert before is None
    tracker.receive_end("reset")
    assert tracker.handshake is not None
    assert judge(tracker.handshake).reason == "reset"


def test_an_alert_before_any_hello() -> None:
    tracker = HandshakeTracker()
    tracker.receive_data(Side.CLIENT, bytes.fromhex("15030100020246"))
    assert tracker.handshake is not None
    assert judge(tracker.handshake).reason == "alert"


def test_a_warning_gives_way_to_what_ends_the_handshake() -> None:
    tracker = HandshakeTracker()
    tracker.receive_data(*load("hybrid").flights[0])
    for alert in ("0170", "0228"):  # unrecognized_name as a warning, then handshake_failure
        tracker.receive_data(Side.SERVER, bytes.fromhex("1503030002" + alert))
    assert tracker.handshake is not None
    assert tracker.handshake.alert is not None
    assert tracker.handshake.alert.code == 40


def test_a_refusal_is_not_undone_by_what_follows() -> None:
    vector = load("hybrid")
    records = Record(23, 0x0303, bytes(19)).build() + Record(23, 0x0303, bytes(200)).build()
    handshake = vector.track([*vector.flights[:2], (Side.CLIENT, records)])
    assert judge(handshake).reason == "handshake-failed"


def test_no_finished_counts_before_the_servers_own() -> None:
    """A client that fills a record with anything proves nothing: the server has answered with its hello alone."""
    vector = load("hybrid")
    side, data = vector.flights[1]
    hello, *rest = RecordReader().receive_data(data)
    assert rest, "the server's protected flight came with its hello"
    junk = (Side.CLIENT, Record(23, 0x0303, bytes(256)).build() * 2)
    assert not vector.track([vector.flights[0], (side, hello.build()), junk]).complete
    assert vector.track([vector.flights[0], (side, data), junk]).complete, "the control: after its flight it counts"


@pytest.mark.parametrize(("level", "code", "ends"), [(1, 42, True), (2, 42, True), (1, 90, False), (1, 0, True)])
def test_in_tls13_the_level_of_an_alert_says_nothing(level: int, code: int, ends: bool) -> None:
    tracker = HandshakeTracker()
    for sender, content, kind, data in load("hybrid").messages[Side.CLIENT][:2]:
        assert data is not None, (sender, kind)
        tracker.receive_message(sender, content, data)
    tracker.receive_message(Side.CLIENT, 21, bytes((level, code)))
    assert tracker.done is ends


def test_more_in_the_clear_after_a_tls13_server_hello() -> None:
    vector = load("hybrid")
    (side, data), *_ = vector.flights[1:]
    record, *_ = RecordReader().receive_data(data)
    more = Record(22, 0x0303, record.payload + b"\x0b\x00\x00\x00").build()
    handshake = vector.track([vector.flights[0], (side, more)])
    assert "in the clear" in str(handshake.malformed)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hybrid-after-retry"])
def test_all_of_the_server_first(name: str) -> None:
    """A capture file that is sorted by direction comes out right too, but for a retry: its order is then lost."""
    vector = load(name)
    by_side = [each for each in vector.flights if each[0] is Side.SERVER]
    by_side += [each for each in vector.flights if each[0] is Side.CLIENT]
    assert judge(vector.track(by_side)).verdict == EXPECTED[name][0]


def test_what_comes_after_the_end_changes_nothing() -> None:
    vector = load("hybrid")
    tracker = HandshakeTracker()
    for side, data in vector.flights:
        tracker.receive_data(side, data)
    before = tracker.handshake
    assert tracker.done
    tracker.receive_data(Side.CLIENT, b"\xff" * 100)
    tracker.receive_message(Side.SERVER, 22, b"\x02\x00\x00\x00")
    tracker.receive_end("reset")
    assert tracker.handshake == before


def test_time_is_from_the_first_hello_byte_to_the_clients_finished() -> None:
    tracker = HandshakeTracker()
    moments = iter(range(1_000_000, 100_000_000, 1_000_000))
    flights = load("hybrid").flights
    first = flights[0][1]
    tracker.receive_data(Side.CLIENT, first[:10], next(moments))
    tracker.receive_data(Side.CLIENT, first[10:], next(moments))
    for side, data in flights[1:]:
        tracker.receive_data(side, data, next(moments))
    assert tracker.handshake is not None
    finished_at = 1 + [side for side, _ in flights].index(Side.CLIENT, 1)
    assert tracker.handshake.handshake_ms == pytest.approx(finished_at)


@pytest.mark.parametrize("how", ["closed", "reset", "timeout", "capture-end"])
def test_the_end_is_noted(how: str) -> None:
    tracker = HandshakeTracker()
    tracker.receive_data(*load("hybrid").flights[0])
    tracker.receive_end(how)  # type: ignore[arg-type]  # one of the four, by the parametrisation
    assert tracker.handshake is not None
    assert tracker.handshake.ended == how
    assert judge(tracker.handshake).reason == ("reset" if how == "reset" else "no-server-hello")


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH_9.2\r\n", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 403 Forbidden\r\n"])
@pytest.mark.parametrize("side", list(Side))
def test_what_is_no_tls_is_said_to_be_none(text: bytes, side: Side) -> None:
    tracker = HandshakeTracker()
    if side is Side.SERVER:
        tracker.receive_data(*load("hybrid").flights[0])
    tracker.receive_data(side, text)
    assert tracker.handshake is not None
    assert judge(tracker.handshake).reason == "malformed"
    assert "content type" in str(tracker.handshake.malformed)


def test_connection_id_is_the_hash_of_the_first_random() -> None:
    import hashlib

    vector: Vector = load("hybrid-after-retry")
    tracker = HandshakeTracker()
    for side, data in vector.flights:
        tracker.receive_data(side, data)
    random = vector.flights[0][1][5 + HEADER_BYTES + 2 :][:32]
    assert tracker.connection_id == hashlib.sha256(random).hexdigest()[:16]
