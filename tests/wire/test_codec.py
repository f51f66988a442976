"""Parse, then build: the very bytes again. Corrupt one field: the error says which."""

from __future__ import annotations

import pytest

from pqtls.wire import codepoints as cp
from pqtls.wire.alert import Alert
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.errors import MalformedError
from pqtls.wire.extensions import Extension
from pqtls.wire.facts import Side
from pqtls.wire.handshake import HandshakeMessage, HandshakeReader, split_message
from pqtls.wire.key_exchange import ServerKeyExchange
from pqtls.wire.limits import MAX_CLIENT_HELLO_BYTES, MAX_EMPTY_RECORDS, MAX_RECORD_PAYLOAD_BYTES
from pqtls.wire.records import Record, RecordReader
from pqtls.wire.server_hello import ServerHello
from tests.wire.vectors import EXPECTED, load

# A ClientHello field by field, as RFC 9846 section 4.1.2 draws it, with GREASE and an unknown extension.
HELLO = bytes.fromhex(
    "0303" + "11" * 32  # legacy_version, random
    + "20" + "22" * 32  # legacy_session_id
    + "0006" + "0a0a" + "1301" + "1302"  # cipher_suites: GREASE first
    + "01" + "00"  # legacy_compression_methods
    + "0051"  # extensions
    + "1a1a" + "0001" + "00"  # GREASE, one byte
    + "0000" + "000e" + "000c" + "00" + "0009" + "612e6578616d706c65"[:18]  # server_name a.example
    + "000a" + "0008" + "0006" + "2a2a" + "11ec" + "001d"  # supported_groups with GREASE
    + "002b" + "0003" + "02" + "0304"  # supported_versions
    + "ff77" + "0004" + "deadbeef"  # unknown
    + "0033" + "001b" + "0019" + "2a2a" + "0001" + "00" + "0a1a" + "0010" + "33" * 16  # key_share
)  # fmt: skip


def client_hellos() -> list[tuple[str, bytes]]:
    return [
        (f"{name}-{number}", data[4:])
        for name in sorted(EXPECTED)
        for number, (_, content, kind, data) in enumerate(load(name).messages[Side.CLIENT])
        if content == 22 and kind == cp.CLIENT_HELLO and data is not None
    ]


def server_hellos() -> list[tuple[str, bytes]]:
    return [
        (f"{name}-{number}", data[4:])
        for name in sorted(EXPECTED)
        for number, (_, content, kind, data) in enumerate(load(name).messages[Side.CLIENT])
        if content == 22 and kind == cp.SERVER_HELLO and data is not None
    ]


@pytest.mark.parametrize(("name", "body"), client_hellos())
def test_real_client_hello_builds_back(name: str, body: bytes) -> None:
    hello = ClientHello.parse(body)
    assert hello.build() == body
    assert hello.server_name == "server.example"
    assert hello.cipher_suites


@pytest.mark.parametrize(("name", "body"), server_hellos())
def test_real_server_hello_builds_back(name: str, body: bytes) -> None:
    hello = ServerHello.parse(body)
    assert hello.build() == body
    assert hello.is_hello_retry_request == (name.startswith("hybrid-after-retry") and hello.key_share is None)


def test_real_server_key_exchanges_build_back() -> None:
    kinds = {"tls12-ecdhe": "ecdhe", "tls12-dhe": "dhe"}
    for name, kind in kinds.items():
        (body,) = [data[4:] for _, _, type_, data in load(name).messages[Side.CLIENT] if type_ == 12 and data]
        message = ServerKeyExchange.parse(body, kind)  # type: ignore[arg-type]  # the two kinds
        assert message.build() == body
        assert message.signature


def test_there_are_vectors_to_build_back() -> None:
    assert len(client_hellos()) > len(EXPECTED)
    assert len(server_hellos()) > len(EXPECTED) - 2


def test_annotated_hello() -> None:
    hello = ClientHello.parse(HELLO)
    assert hello.build() == HELLO
    assert hello.server_name == "a.example"
    assert hello.cipher_suites == (0x0A0A, 0x1301, 0x1302)
    assert hello.supported_groups == (0x2A2A, 0x11EC, 0x001D)
    assert [(share.group, len(share.key_exchange)) for share in hello.key_shares or ()] == [(0x2A2A, 1), (0x0A1A, 16)]
    assert hello.supported_versions == (0x0304,)
    assert [each.extension_type for each in hello.extensions or ()] == [0x1A1A, 0, 10, 43, 0xFF77, 51]


def test_no_extensions_and_an_empty_block_are_two_things() -> None:
    base = ClientHello(0x0303, bytes(32), b"", (0x002F,), b"\x00", None)
    empty = ClientHello(0x0303, bytes(32), b"", (0x002F,), b"\x00", ())
    assert ClientHello.parse(base.build()).extensions is None
    assert ClientHello.parse(empty.build()).extensions == ()
    assert empty.build() == base.build() + b"\x00\x00"


def test_every_cut_of_a_hello_is_malformed() -> None:
    """A message is given whole; one that ends early anywhere but before its extensions is an error, never a guess."""
    for at in range(len(HELLO)):
        if at == 2 + 32 + 33 + 8 + 2:
            continue  # the end of the compression methods: TLS 1.2 allows a hello without extensions
        with pytest.raises(MalformedError):
            ClientHello.parse(HELLO[:at])
    with pytest.raises(MalformedError, match="too many"):
        ClientHello.parse(HELLO + b"\x00")


def corrupt(extension_type: int, data: bytes) -> bytes:
    extensions = tuple(
        Extension(each.extension_type, data if each.extension_type == extension_type else each.data)
        for each in ClientHello.parse(HELLO).extensions or ()
    )
    return ClientHello(0x0303, bytes(32), b"", (0x1301,), b"\x00", extensions).build()


@pytest.mark.parametrize(
    ("extension_type", "data", "path", "message"),
    [
        (0, "000c00000a612e6578616d706c65", "server_name.server_name_list", "are left"),
        (0, "000000", "server_name", "least"),
        (10, "0003001d11", "supported_groups.named_group_list", "are left"),
        (10, "0000", "supported_groups", "least"),
        (10, "0002001d00", "supported_groups", "too many"),
        (43, "030304", "supported_versions", "are left"),
        (51, "0006001d0003aabb", "key_shares.client_shares", "are left"),
        (51, "0005001d0001aa00", "key_shares", "too many"),
        (51, "000a001d0001aa001d0001bb", "key_shares.client_shares", "two shares"),
        (51, "0004001d0000", "key_shares.client_shares", "least"),
    ],
)
def test_a_corrupt_extension_is_named(extension_type: int, data: str, path: str, message: str) -> None:
    body = corrupt(extension_type, bytes.fromhex(data))
    with pytest.raises(MalformedError, match=message) as caught:
        ClientHello.parse(body)
    assert caught.value.path.startswith(f"ClientHello.{path}")
    assert body.find(bytes.fromhex(data)) <= caught.value.offset <= len(body)


def test_an_extension_twice_is_malformed() -> None:
    twice = ClientHello(0x0303, bytes(32), b"", (0x1301,), b"\x00", (Extension(0xFF77, b""), Extension(0xFF77, b"")))
    once = ClientHello(0x0303, bytes(32), b"", (0x1301,), b"\x00", (Extension(0xFF77, b""),))
    assert len(ClientHello.parse(once.build()).extensions or ()) == 1
    with pytest.raises(MalformedError, match="comes twice"):
        ClientHello.parse(twice.build())


def test_a_long_session_id_is_malformed() -> None:
    good = ClientHello(0x0303, bytes(32), bytes(32), (0x1301,), b"\x00", None).build()
    assert ClientHello.parse(good).session_id == bytes(32)
    with pytest.raises(MalformedError, match="session id"):
        ClientHello.parse(ClientHello(0x0303, bytes(32), bytes(33), (0x1301,), b"\x00", None).build())


def test_psk_hints_come_before_the_parameters() -> None:
    """RFC 5489 section 2, RFC 4279 section 3: the hint, then what the message would be without one."""
    ecdhe = bytes.fromhex("03001d20") + bytes(32)
    message = ServerKeyExchange.parse(b"\x00\x03who" + ecdhe, "ecdhe", has_hint=True)
    assert (message.hint, message.group, message.build()) == (b"who", 0x1D, b"\x00\x03who" + ecdhe)
    dhe = b"\x00\x02\xff\x01" + b"\x00\x01\x02" + b"\x00\x02\x80\x00"
    message = ServerKeyExchange.parse(b"\x00\x00" + dhe, "dhe", has_hint=True)
    assert (message.hint, message.facts().dh_bits, message.build()) == (b"", 16, b"\x00\x00" + dhe)
    assert [cp.legacy_kind(code) for code in (0xC035, 0x0090, 0xC0AA, 0x008C, 0x002F)] == [
        "ecdhe",
        "dhe",
        "dhe",
        "psk",
        "rsa",
    ]


@pytest.mark.parametrize(
    "data",
    [
        "0008000161000000000021" + "20" + "00" * 32 + "00",
        "0000",
        "000700016100000000" + "0042" + ("20" + "00" * 32) * 2,
    ],
)
def test_a_corrupt_pre_shared_key_is_malformed(data: str) -> None:
    with pytest.raises(MalformedError):
        ClientHello.parse(
            ClientHello(0x0303, bytes(32), b"", (0x1301,), b"\x00", (Extension(41, bytes.fromhex(data)),)).build()
        )


def test_explicit_curves_are_refused() -> None:
    with pytest.raises(MalformedError, match="named curves"):
        ServerKeyExchange.parse(b"\x01" + bytes(40), "ecdhe")


def test_alert() -> None:
    assert Alert.parse(b"\x02\x28").build() == b"\x02\x28"
    for data in (b"", b"\x02", b"\x03\x28", b"\x02\x28\x00"):
        with pytest.raises(MalformedError):
            Alert.parse(data)


class TestRecords:
    def test_built_records_come_back_however_they_are_cut(self) -> None:
        records = [
            Record(22, 0x0301, b"abc"),
            Record(20, 0x0303, b"\x01"),
            Record(23, 0x0303, b""),
            Record(21, 3 << 8, b"xy"),
        ]
        stream = b"".join(record.build() for record in records)
        for size in range(1, len(stream) + 1):
            reader = RecordReader()
            got = [
                record for at in range(0, len(stream), size) for record in reader.receive_data(stream[at : at + size])
            ]
            assert got == records, size

    def test_the_longest_record_and_one_byte_more(self) -> None:
        longest = Record(23, 0x0303, bytes(MAX_RECORD_PAYLOAD_BYTES))
        assert list(RecordReader().receive_data(longest.build())) == [longest]
        with pytest.raises(MalformedError, match="a record of"):
            list(RecordReader().receive_data(Record(23, 0x0303, bytes(MAX_RECORD_PAYLOAD_BYTES + 1)).build()[:5]))

    @pytest.mark.parametrize(
        ("data", "offset"), [(b"\x13", 0), (b"\x18\x03\x03\x00\x00", 0), (b"\x16\x02\x03\x00\x00", 1)]
    )
    def test_what_is_no_record(self, data: bytes, offset: int) -> None:
        with pytest.raises(MalformedError) as caught:
            list(RecordReader().receive_data(data))
        assert caught.value.offset == offset


class TestHandshakeReader:
    def test_messages_come_back_however_they_are_cut(self) -> None:
        messages = [(1, b"client"), (11, b"certificate is skipped"), (2, b""), (12, b"key exchange")]
        stream = b"".join(bytes([kind]) + len(body).to_bytes(3, "big") + body for kind, body in messages)
        expected = [(kind, None if kind == 11 else body, len(body)) for kind, body in messages]
        for size in range(1, len(stream) + 1):
            reader = HandshakeReader()
            pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
            got = [message for piece in pieces for message in reader.receive_payload(piece)]
            assert [(each.message_type, each.body, each.body_bytes) for each in got] == expected, size
            assert reader.is_between_messages

    def test_the_longest_hello_and_one_byte_more(self) -> None:
        length = MAX_CLIENT_HELLO_BYTES - 4
        assert list(HandshakeReader().receive_payload(b"\x01" + length.to_bytes(3, "big"))) == []
        with pytest.raises(MalformedError, match="type 1"):
            list(HandshakeReader().receive_payload(b"\x01" + (length + 1).to_bytes(3, "big")))

    def test_a_skipped_message_may_be_long_and_is_not_kept(self) -> None:
        reader = HandshakeReader()
        length = (1 << 24) - 1
        assert list(reader.receive_payload(b"\x0b" + length.to_bytes(3, "big"))) == []
        left = length
        while left > 16384:
            assert list(reader.receive_payload(bytes(16384))) == []
            left -= 16384
        assert list(reader.receive_payload(bytes(left))) == [HandshakeMessage(11, None, length, length // 16384 + 2)]

    def test_empty_records_end(self) -> None:
        reader = HandshakeReader()
        for _ in range(MAX_EMPTY_RECORDS):
            assert list(reader.receive_payload(b"")) == []
        with pytest.raises(MalformedError, match="empty"):
            list(reader.receive_payload(b""))

    def test_split_message_checks_the_length(self) -> None:
        assert split_message(b"\x14\x00\x00\x02ab") == (20, b"ab")
        for data in (b"", b"\x14\x00\x00", b"\x14\x00\x00\x03ab", b"\x14\x00\x00\x01ab"):
            with pytest.raises(MalformedError):
                split_message(data)
