"""The parts of a faulty path, each by itself: what boxes see, what the server answers, what is drawn."""

from __future__ import annotations

import socket
import ssl
import struct
from itertools import pairwise

import pytest

from pqtls.faults.catalogue import CATALOGUE
from pqtls.lab.paths.draws import DRAWINGS, draw
from pqtls.lab.paths.hellos import find_hello, is_disliked
from pqtls.lab.paths.path_lab import PathLab
from pqtls.lab.paths.policies import FirstFlightPolicy, Penalty, holds_name
from pqtls.lab.paths.scenario import Box, Dislike
from pqtls.lab.paths.server_keys import agree
from pqtls.probe.keys import make_key_pair
from pqtls.probe.model import HYBRID, HYBRID_P256, HYBRID_P384, P256, X25519
from pqtls.wire.hello_builder import COMPACT_CIPHERS, USUAL_SCHEMES, HelloRecipe, build_message, frame_message
from pqtls.wire.packets import ACK, SYN, Endpoint, TcpSegment

CLIENT, SERVER = Endpoint(bytes(4), 40000), Endpoint(bytes([1, 2, 3, 4]), 443)


def hello(*, is_name_last: bool = False, groups: tuple[int, ...] = (X25519,), schemes: tuple[int, ...] = ()) -> bytes:
    recipe = HelloRecipe(
        random=bytes(32),
        session_id=bytes(32),
        server_name="server.example",
        versions=(0x0304,),
        cipher_suites=COMPACT_CIPHERS,
        groups=groups,
        shares=(),
        signature_algorithms=schemes or USUAL_SCHEMES,
        is_name_last=is_name_last,
        padded_to_bytes=600,
    )
    return frame_message(build_message(recipe)).stream


def segments(data: bytes, *cuts: int, port: int = 40000) -> list[TcpSegment]:
    client = Endpoint(bytes(4), port)
    edges = [0, *cuts, len(data)]
    found = [TcpSegment(client, SERVER, 99, 0, SYN)]
    for start, end in pairwise(edges):
        found.append(TcpSegment(client, SERVER, 100 + start, 1, ACK, data[start:end]))
    return found


def verdicts(policy: FirstFlightPolicy, data: bytes, *cuts: int) -> list[str]:
    return [policy.judge(segment) for segment in segments(data, *cuts)]


def test_a_box_that_wants_whole_records() -> None:
    box = Box("whole-record", "reset")
    assert verdicts(FirstFlightPolicy(box), hello()) == ["pass", "pass"]
    assert verdicts(FirstFlightPolicy(box), hello(), 300) == ["pass", "reset", "drop"]
    assert verdicts(FirstFlightPolicy(box), hello(), 3) == ["pass", "reset", "drop"]


def test_a_box_that_wants_the_name() -> None:
    first, last = hello(), hello(is_name_last=True)
    assert verdicts(FirstFlightPolicy(Box("name", "drop")), first, 300) == ["pass", "pass", "pass"]
    assert verdicts(FirstFlightPolicy(Box("name", "drop")), last, 300) == ["pass", "kill-drop", "drop"]
    assert verdicts(FirstFlightPolicy(Box("name", "drop")), last) == ["pass", "pass"]
    name = first.index(b"server.example")
    assert [holds_name(first[:end]) for end in (name, name + 13, name + 14)] == [False, False, True]


def test_a_box_that_reads_whole_hellos() -> None:
    policy = FirstFlightPolicy(Box("content", "alert:47", Dislike(("groups",), (HYBRID,))))
    assert verdicts(policy, hello(groups=(X25519, HYBRID)), 200, 400) == ["pass", "pass", "pass", "alert:47"]
    assert verdicts(policy, hello(groups=(X25519,)), 200, 400) == ["pass", "pass", "pass", "pass"]


def test_dislikes() -> None:
    def dislikes(data: bytes, dislike: Dislike) -> bool:
        found = find_hello(data)
        assert found is not None
        return is_disliked(found.hello, dislike)

    plain, grease = hello(), hello(groups=(0x1A1A, X25519))
    assert not dislikes(plain, Dislike(("groups", "ciphers", "versions"), has_grease=True))
    assert dislikes(grease, Dislike(("groups",), has_grease=True))
    assert not dislikes(grease, Dislike(("signatures",), has_grease=True))
    assert dislikes(hello(schemes=(0x0403, 0x0905)), Dislike(("signatures",), (0x0905,)))
    assert dislikes(hello(groups=(X25519, P256)), Dislike(("groups",), known=(X25519,)))
    assert dislikes(hello(groups=(X25519, P256)), Dislike(("groups",), count=1))
    assert find_hello(plain[:-1]) is None


def test_a_penalty_ends() -> None:
    penalty = Penalty()
    assert not penalty.is_on(0.0)
    penalty.start(10.0, Box("name", "reset", block_s=5.0))
    assert (penalty.is_on(14.9), penalty.is_on(15.1)) == (True, False)


@pytest.mark.parametrize("group", [HYBRID, HYBRID_P256, HYBRID_P384, X25519, P256])
def test_both_halves_of_a_key_exchange_agree(group: int) -> None:
    pair = make_key_pair(group, bytes)
    share, secret = agree(group, pair.share)
    assert pair.agree(share)[0] == secret


def test_wrong_orders_are_wrong() -> None:
    pair, swapped = make_key_pair(HYBRID, bytes), make_key_pair(HYBRID, bytes, is_swapped=True)
    share, secret = agree(HYBRID, pair.share, "swapped-secret")
    assert pair.agree(share) != (secret,)
    assert pair.agree(share)[1] == secret
    share, secret = agree(HYBRID, pair.share, "garbage")
    assert secret not in pair.agree(share)
    with pytest.raises(ValueError, match=r"."):  # FIPS 203's check of the key's numbers
        agree(HYBRID, pair.share, "swapped-share")
    share, secret = agree(HYBRID, swapped.share, "swapped-share")
    assert swapped.agree(share)[0] == secret


@pytest.mark.parametrize("fault", DRAWINGS)
def test_drawings(fault: str) -> None:
    assert draw(fault, 5) == draw(fault, 5)
    assert len({repr(draw(fault, seed)) for seed in range(20)}) > 10
    for seed in range(50):
        scenario = draw(fault, seed)
        assert scenario.fault == fault
        assert scenario.expected <= set(CATALOGUE)
        is_fault = CATALOGUE[fault].kind == "fault"
        assert (fault in scenario.expected) == is_fault
        healed = scenario.without_fault()
        assert (healed.box, healed.expected, healed.is_inspected) == (None, frozenset(), False)


def test_every_entry_of_the_catalogue_is_drawn() -> None:
    assert set(CATALOGUE) - set(DRAWINGS) <= {"F29"}, "an entry without a path of its own"


def get(lab: PathLab, ca_pem: str, host: str = "server.example") -> bytes:
    context = ssl.create_default_context(cadata=ca_pem)
    with (
        socket.create_connection(lab.address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while chunk := tls.recv(4096):
            answer += chunk
        return answer


def test_openssl_takes_the_server_for_a_right_one() -> None:
    with PathLab(is_loopback=True) as lab:
        for seed in range(4):  # with and without a retry, small and padded flights
            lab.apply("F33", seed)
            assert b"pqtls lab: " in get(lab, lab.ca_pem)
        lab.apply("F45", 0)
        assert get(lab, lab.ca_pem).startswith(b"HTTP/1.1 200 OK")
        lab.apply("F34", 0)
        assert b"TLS 1.2" in get(lab, lab.ca_pem)
        with pytest.raises(ssl.SSLCertVerificationError):
            get(lab, lab.ca_pem, "another.example")
        with PathLab(is_loopback=True) as other, pytest.raises(ssl.SSLCertVerificationError):
            get(lab, other.ca_pem)


def test_an_inspecting_box_makes_certificates_to_order() -> None:
    with PathLab(is_loopback=True) as lab:
        lab.apply("F35", 0)
        assert b"pqtls lab: " in get(lab, lab.ca_pem, "anything.example")
        lab.apply("F35", 0, is_removed=True)
        with pytest.raises(ssl.SSLCertVerificationError):
            get(lab, lab.ca_pem, "anything.example")


def test_hostile_bytes_end_a_connection_and_nothing_else() -> None:
    with PathLab(is_loopback=True) as lab:
        lab.apply("F33", 0)
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x40\x01" + bytes(20_000), hello()[:100] + bytes(600)):
            with socket.create_connection(lab.address, timeout=10) as plain:
                plain.settimeout(10)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                plain.sendall(data)
        assert b"pqtls lab: " in get(lab, lab.ca_pem)
