"""ClientHellos put together: they parse back, have the size asked for, and know where their name and records lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqtls.wire.client_hello import ClientHello
from pqtls.wire.extensions import KeyShareEntry
from pqtls.wire.handshake import HandshakeReader
from pqtls.wire.hello_builder import (
    PADDING,
    USUAL_CIPHERS,
    USUAL_SCHEMES,
    HelloRecipe,
    build_message,
    find_name,
    frame_message,
)
from pqtls.wire.records import RecordReader
from pqtls.wire.rules import find_client_hello_violation

RECIPE = HelloRecipe(
    random=bytes(32),
    session_id=bytes(32),
    server_name="www.example.com",
    versions=(0x0304, 0x0303),
    cipher_suites=USUAL_CIPHERS,
    groups=(0x11EC, 0x1D),
    shares=(KeyShareEntry(0x11EC, bytes(1216)), KeyShareEntry(0x1D, bytes(32))),
    signature_algorithms=USUAL_SCHEMES,
)


def parse(message: bytes) -> ClientHello:
    return ClientHello.parse(message[4:])


def test_it_parses_back() -> None:
    hello = parse(build_message(RECIPE))
    assert hello.server_name == "www.example.com"
    assert hello.supported_groups == (0x11EC, 0x1D)
    assert [(share.group, len(share.key_exchange)) for share in hello.key_shares or ()] == [(0x11EC, 1216), (0x1D, 32)]
    assert hello.supported_versions == (0x0304, 0x0303)
    assert hello.signature_algorithms == USUAL_SCHEMES
    assert find_client_hello_violation(hello, None, None) is None
    assert find_client_hello_violation(parse(build_message(replace(RECIPE, groups=(0x1D,)))), None, None) is not None


def test_an_empty_list_of_shares_is_not_no_list() -> None:
    assert parse(build_message(replace(RECIPE, shares=()))).key_shares == ()
    assert parse(build_message(replace(RECIPE, shares=None))).key_shares is None


@pytest.mark.parametrize("wanted", [1700, 1600, 2700, 16_000])
def test_padding_fills_up_exactly(wanted: int) -> None:
    assert len(frame_message(build_message(replace(RECIPE, padded_to_bytes=wanted))).stream) == wanted


def test_padding_never_cuts() -> None:
    plain = build_message(RECIPE)
    assert build_message(replace(RECIPE, padded_to_bytes=100)) == plain


@given(wanted=st.integers(200, 600), name=st.from_regex(r"[a-z]{1,60}\.example", fullmatch=True))
def test_a_small_hello_keeps_clear_of_256_to_511_bytes(wanted: int, name: str) -> None:
    small = replace(RECIPE, shares=(KeyShareEntry(0x1D, bytes(32)),), groups=(0x1D,), server_name=name)
    size = len(frame_message(build_message(replace(small, padded_to_bytes=wanted))).stream)
    assert not 256 <= size <= 511


def test_the_name_last_is_at_the_very_end() -> None:
    message = build_message(replace(RECIPE, is_name_last=True, padded_to_bytes=1700))
    assert message.endswith(b"www.example.com")
    types = [extension.extension_type for extension in parse(message).extensions or ()]
    assert types[-2:] == [PADDING, 0]
    assert (parse(build_message(RECIPE)).extensions or ())[0].extension_type == 0


@given(cuts=st.lists(st.integers(1, 1600), max_size=4).map(tuple))
def test_records_cut_anywhere_come_together_again(cuts: tuple[int, ...]) -> None:
    message = build_message(replace(RECIPE, padded_to_bytes=1700))
    built = frame_message(message, cuts)
    records = list(RecordReader().receive_data(built.stream))
    reader = HandshakeReader()
    messages = [found for record in records for found in reader.receive_payload(record.payload)]
    assert [found.build() for found in messages] == [message]
    assert len(built.record_ends) == len(records) == len(set(cuts) & set(range(1, len(message)))) + 1
    assert built.record_ends[-1] == len(built.stream)


def test_the_name_is_where_it_says() -> None:
    for cuts in ((), (60,), (500,), (60, 300)):
        built = frame_message(build_message(RECIPE), cuts)
        assert built.name_start is not None
        assert built.name_end is not None
        assert built.stream[built.name_start : built.name_end] == b"www.example.com"
    nameless = build_message(replace(RECIPE, server_name=None))
    assert find_name(nameless) is None
    assert frame_message(nameless).name_start is None
