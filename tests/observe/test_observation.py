"""The record: its schema, the join of two witnesses, and when they disagree."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import pytest

from pqtls.observe.observation import Observation, Process, find_disagreements, merge, observe
from pqtls.observe.relay import RelayWitness
from pqtls.wire.facts import AlertFacts, Ending, KeyShare, ServerHelloFacts, Side
from tests.schemas import validate, validator
from tests.wire.vectors import EXPECTED, load

NAMES = sorted(EXPECTED)


def recorded(name: str) -> Observation:
    return observe(
        load(name).track_messages(Side.CLIENT),
        "00" * 8,
        "recorder",
        started_ns=1_795_461_979_000_001_000,
        process=Process(7, "x"),
    )


def relayed(name: str) -> Observation:
    return observe(load(name).track(), "00" * 8, "relay", client="127.0.0.1:1", server="127.0.0.1:443")


@pytest.mark.parametrize("name", NAMES)
def test_every_real_handshake_is_a_valid_record(name: str) -> None:
    for observation in (recorded(name), relayed(name), merge(recorded(name), relayed(name))):
        assert validate(observation.to_json()) == "observation-1"


def test_the_schema_refuses_what_is_no_record() -> None:
    line = recorded("hybrid").to_json()
    assert line["started"] == "2026-11-23T19:26:19.000001Z"
    for key, value in (("verdict", "yes"), ("id", "xyz"), ("sources", []), ("reason", "because"), ("extra", 1)):
        with pytest.raises(jsonschema.ValidationError):
            validator("observation-1").validate({**line, key: value})


@pytest.mark.parametrize("name", NAMES)
def test_two_witnesses_of_a_real_handshake_agree(name: str) -> None:
    one, other = recorded(name), relayed(name)
    assert find_disagreements(one, other) == []
    joined = merge(one, other)
    assert joined.sources == ("recorder", "relay")
    assert joined.finding == one.finding
    assert joined.client == "127.0.0.1:1"


def test_each_fact_that_differs_is_a_disagreement() -> None:
    one = recorded("hybrid")
    hello = one.handshake.client_hellos[0]
    changed = {
        "version": replace(one.handshake, version=0x0303),
        "cipher suite": replace(one.handshake, cipher=0x1301),
        "host name": replace(one.handshake, sni="other.example"),
        "ServerHello": replace(one.handshake, server_hello=ServerHelloFacts(1210, 0x001D, 32)),
        "ClientHello 1 groups": replace(one.handshake, client_hellos=(replace(hello, groups=(0x001D,)),)),
        "ClientHello 1 size": replace(one.handshake, client_hellos=(replace(hello, size_bytes=5),)),
        "ClientHello 1 key shares": replace(
            one.handshake, client_hellos=(replace(hello, key_shares=(KeyShare(0x001D, 32),)),)
        ),
    }
    for fact, handshake in changed.items():
        other = observe(handshake, one.id, "relay")
        assert any(text.startswith(fact) for text in find_disagreements(one, other)), fact


def test_what_one_did_not_see_is_no_disagreement() -> None:
    one = recorded("hybrid")
    less = observe(
        replace(one.handshake, server_hello=None, version=None, cipher=None, complete=False), one.id, "relay"
    )
    assert find_disagreements(one, less) == []


def test_the_weaker_finding_stands() -> None:
    """One witness alone cannot make a connection post-quantum against the other."""
    one = recorded("hybrid")
    for weaker in (replace(one.handshake, complete=False), replace(one.handshake, malformed="Broken.")):
        other = observe(weaker, one.id, "relay")
        assert merge(one, other).finding == other.finding
        assert merge(other, one).finding == other.finding
    assert merge(one, one).finding.verdict == "post-quantum"


def test_what_only_the_wire_shows_decides_between_equally_weak_findings() -> None:
    """A recorder never sees how a connection ended: that a hello was answered by a reset is the wire's to say."""
    one = recorded("hybrid")
    unanswered = replace(one.handshake, server_hello=None, version=None, cipher=None, complete=False)
    inside = observe(unanswered, one.id, "recorder")
    assert inside.finding.reason == "no-server-hello"
    endings: list[tuple[Ending, str]] = [("reset", "reset"), ("closed", "no-server-hello")]
    for how, reason in endings:
        joined = merge(inside, observe(replace(unanswered, ended=how), one.id, "capture"))
        assert (joined.finding.reason, joined.handshake.ended) == (reason, how)
    alert = AlertFacts(Side.SERVER, 40)
    joined = merge(inside, observe(replace(unanswered, alert=alert), one.id, "capture"))
    assert (joined.finding.reason, joined.handshake.alert) == ("alert", alert)


def test_no_host_is_told_where_ech_hides_it() -> None:
    one = recorded("hybrid")
    assert one.host == "server.example"
    assert replace(one, handshake=replace(one.handshake, ech=True)).host is None


class TestRelay:
    def test_it_reports_once_at_the_end(self) -> None:
        seen: list[Observation] = []
        witness = RelayWitness("127.0.0.1:1", "127.0.0.1:2", seen.append)
        for side, data in load("hybrid").flights:
            witness.receive(side, data, 1_000)
        assert seen == []
        witness.finished("closed")
        (observation,) = seen
        assert observation.finding.verdict == "post-quantum"
        assert observation.sources == ("relay",)

    def test_a_connection_without_a_byte_is_none(self) -> None:
        seen: list[Observation] = []
        RelayWitness("127.0.0.1:1", "127.0.0.1:2", seen.append).finished("closed")
        assert seen == []

    def test_a_reset_before_the_answer(self) -> None:
        seen: list[Observation] = []
        witness = RelayWitness("127.0.0.1:1", "127.0.0.1:2", seen.append)
        witness.receive(*load("hybrid").flights[0], 1_000)
        witness.finished("reset")
        assert seen[0].finding.reason == "reset"
