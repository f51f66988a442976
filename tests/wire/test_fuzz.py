"""Any bytes give events, need-data or the one error type, in bounded time and memory.

And no mutation of a handshake that is not post-quantum makes it so: the worst that can happen is the point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pqtls.evidence import judge
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.errors import MalformedError
from pqtls.wire.facts import Handshake, Side
from pqtls.wire.handshake import HandshakeReader
from pqtls.wire.key_exchange import ServerKeyExchange
from pqtls.wire.limits import MAX_CLIENT_HELLO_BYTES, MAX_EARLY_BYTES, MAX_RECORD_PAYLOAD_BYTES
from pqtls.wire.records import RecordReader
from pqtls.wire.server_hello import ServerHello
from pqtls.wire.tracker import HandshakeTracker
from tests.wire.vectors import EXPECTED, load

if TYPE_CHECKING:
    from collections.abc import Callable

Flights = list[tuple[Side, bytes]]
NAMES = sorted(EXPECTED)
CLASSICAL = [name for name in NAMES if EXPECTED[name][0] == "not-post-quantum"]


@st.composite
def mutations(draw: st.DrawFn, names: list[str]) -> tuple[str, Flights]:
    """Draw a real handshake with up to four mutations: flip, insert, delete, repeat, splice, truncate, reorder."""
    name = draw(st.sampled_from(names))
    flights = list(load(name).flights)
    for _ in range(draw(st.integers(1, 4))):
        which = draw(st.integers(0, len(flights) - 1))
        side, data = flights[which]
        at = draw(st.integers(0, max(0, len(data) - 1)))
        # Most structure lies in the first 120 bytes of a flight.
        at = at if draw(st.booleans()) else at % 120
        kind = draw(
            st.sampled_from(["flip", "set", "insert", "delete", "repeat", "splice", "truncate", "swap", "side"])
        )
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at % len(data)] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "set":
            data = data[:at] + draw(st.sampled_from([b"\x00", b"\xff", b"\xff\xff", b"\x11\xec"])) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + draw(st.binary(max_size=40)) + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + draw(st.integers(1, 60)) :]
        elif kind == "repeat":
            data = data[:at] + data[max(0, at - draw(st.integers(1, 200))) :]
        elif kind == "splice":
            data = data[:at] + draw(st.sampled_from(load(draw(st.sampled_from(NAMES))).flights))[1][at:]
        elif kind == "truncate":
            data = data[:at]
        elif kind == "swap":
            other = draw(st.integers(0, len(flights) - 1))
            flights[which], flights[other] = flights[other], flights[which]
            continue
        elif kind == "side":
            side = side.peer
        flights[which] = (side, data)
    return name, flights


def run(flights: Flights, cuts: int = 0) -> Handshake | None:
    tracker = HandshakeTracker()
    for side, data in flights:
        pieces = [data] if not cuts else [data[at : at + cuts] for at in range(0, len(data), cuts)]
        for piece in pieces:
            tracker.receive_data(side, piece)
            _assert_bounded(tracker)
    tracker.receive_end("closed")
    return tracker.handshake


def _assert_bounded(tracker: HandshakeTracker) -> None:
    assert len(tracker._early) <= MAX_EARLY_BYTES
    for direction in tracker._directions.values():
        assert len(direction.records._payload) <= MAX_RECORD_PAYLOAD_BYTES
        assert len(direction.messages._body or b"") <= MAX_CLIENT_HELLO_BYTES
    assert len(tracker._hellos) <= 3


@given(mutations(NAMES), st.integers(1, 700))
def test_mutated_handshakes_never_raise_and_never_depend_on_cuts(mutated: tuple[str, Flights], cuts: int) -> None:
    _, flights = mutated
    whole = run(flights)
    if whole is not None:
        judge(whole)
    assert run(flights, cuts) == whole


@given(mutations(CLASSICAL))
def test_no_mutation_makes_a_classical_handshake_post_quantum_by_accident(mutated: tuple[str, Flights]) -> None:
    """Only a mutation that puts a whole genuine-looking hybrid ServerHello there could; splices do, so they must match.

    A verdict of post-quantum needs a group that the ClientHello offered, with both shares of the right sizes.
    """
    _, flights = mutated
    handshake = run(flights)
    if handshake is None or judge(handshake).verdict != "post-quantum":
        return
    hello = handshake.server_hello
    assert hello is not None
    last = handshake.client_hellos[-1]
    assert hello.group in last.groups
    assert hello.group in [share.group for share in last.key_shares]
    assert hello.key_share_bytes == {0x11EC: 1120, 0x11EB: 1153, 0x11ED: 1665, 0x0202: 1568}[hello.group]


@given(st.lists(st.tuples(st.sampled_from(list(Side)), st.binary(max_size=300)), max_size=8))
def test_noise_never_raises(flights: Flights) -> None:
    handshake = run(flights)
    assert handshake is None or judge(handshake).verdict == "inconclusive"


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Side)), st.sampled_from([20, 21, 22, 23, 256]), st.binary(max_size=80)),
        max_size=8,
    )
)
def test_noise_as_messages_never_raises(messages: list[tuple[Side, int, bytes]]) -> None:
    tracker = HandshakeTracker()
    for sender, content, data in messages:
        tracker.receive_message(sender, content, data)
        tracker.receive_message_type(sender, content)
    if tracker.handshake is not None:
        assert judge(tracker.handshake).verdict == "inconclusive"


PARSERS: list[Callable[[bytes], object]] = [
    ClientHello.parse,
    ServerHello.parse,
    lambda data: ServerKeyExchange.parse(data, "ecdhe"),
    lambda data: ServerKeyExchange.parse(data, "dhe"),
    lambda data: list(RecordReader().receive_data(data)),
    lambda data: list(HandshakeReader().receive_payload(data)),
]


@given(st.binary(max_size=400), st.sampled_from(PARSERS))
def test_parsers_raise_nothing_but_the_one_error(data: bytes, parse: Callable[[bytes], object]) -> None:
    try:
        parse(data)
    except MalformedError as error:
        caught = error
    else:
        return
    assert 0 <= caught.offset <= len(data) + 5
    assert str(caught)


@given(mutations(NAMES))
def test_what_parses_builds_back(mutated: tuple[str, Flights]) -> None:
    """Whatever a mutated hello has become: if it parses, it builds back to the very same bytes."""
    _, flights = mutated
    data = flights[0][1][9:]
    for parse in (ClientHello.parse, ServerHello.parse):
        try:
            message = parse(data)
        except MalformedError:
            continue
        assert message.build() == data
