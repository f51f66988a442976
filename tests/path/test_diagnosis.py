"""Readings, forecasts and answers on attempts made by hand, where the model would hide the one thing looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pqtls.faults.catalogue import CATALOGUE, UNTOLD, fault_name
from pqtls.path.diagnose import diagnose
from pqtls.path.findings import wilson
from pqtls.path.plan import PlanOptions, next_step
from pqtls.path.reading import read_attempts
from pqtls.path.state import find_server_state
from pqtls.path.target import parse_target
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.probe.model import Attempt, CertificateFacts, Ending, Sent, TcpFacts
from pqtls.report.path import render_diagnosis

SENT = Sent(1700, (1700,), 0.0, (1700,), 109, 123, (0x11EC, 0x1D), (0x11EC, 0x1D), mss_bytes=1448)


def attempt(experiment: str, ending: Ending, tcp: TcpFacts | None = None, **changes: Any) -> Attempt:
    made = Attempt(experiment, 0, 0.0, ending, sent=SENT, version=0x0304, group=0x1D, tcp=tcp)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("tcp", "kind"),
    [
        (None, "timeout"),
        (TcpFacts(), "timeout"),
        (TcpFacts(bytes_acked=0, total_retrans=3, snd_wnd=64240), "lost"),
        (TcpFacts(bytes_acked=1448, total_retrans=3, snd_wnd=0), "zero-window"),
        (TcpFacts(bytes_acked=1448, total_retrans=0, snd_wnd=100), "zero-window"),
        (TcpFacts(bytes_acked=1700, rcv_ooopack=2), "reverse"),
        (TcpFacts(bytes_acked=1700, rcv_ooopack=0), "mute"),
    ],
)
def test_a_timeout_is_read_by_what_the_kernel_knew(tcp: TcpFacts | None, kind: str) -> None:
    assert read_attempts([attempt("E5", "timeout", tcp)]).symptoms[0].kind == kind


def test_one_failure_names_nothing() -> None:
    """All else passed; a reset seen once is no class of fault."""
    attempts = [attempt("E1", "answered"), attempt("E5", "reset"), attempt("E1", "answered")]
    found = diagnose(attempts)
    assert (found.verdict, found.faults) == ("inconclusive", ())


def test_connections_that_break_at_random_are_no_pool() -> None:
    """Two resets among thirty connections, none of them on one of the few controls, name nothing."""
    names = ["E1", "E23", "E3", "E1", "E23", "E3", "E1", "E23", "E3", "E1", "E23", "E3", "E1", "E23", "E3"]
    attempts = [attempt(name, "reset" if number in (4, 11) else "answered") for number, name in enumerate(names)]
    found = diagnose(attempts)
    assert (found.verdict, found.faults, found.also_fits) == ("inconclusive", (), ("F43",))
    assert "E23 failed 1 of 5 (95 %: " in found.answer
    pool = diagnose([*attempts, *[attempt("E1", "answered")] * 12, *[attempt("E23", "reset")] * 2])
    assert pool.fault_ids == {"F43"}


def test_silence_that_does_not_come_again_is_loss() -> None:
    lost = TcpFacts(bytes_acked=0, total_retrans=4, snd_wnd=64240)
    attempts = [attempt("E1", "answered"), attempt("E5", "timeout", lost), attempt("E1", "answered")]
    found = diagnose([*attempts, attempt("E5", "answered")])
    assert found.verdict == "healthy"
    assert any("loss" in note for note in found.notes)


def test_no_connection_is_inconclusive_and_never_a_fault() -> None:
    found = diagnose([attempt("E1", "refused", sent=None), attempt("E1", "connect-timeout", sent=None)])
    assert found.verdict == "inconclusive"
    assert diagnose([]).verdict == "inconclusive"


def test_a_downgrade_sentinel_is_told() -> None:
    tampered = attempt("E1", "answered", version=0x0303, group=None, has_downgrade_sentinel=True)
    found = diagnose([tampered, replace(tampered, experiment="E23"), replace(tampered, experiment="E3")])
    assert (found.verdict, found.also_fits) == ("inconclusive", ("F36",))


def test_a_downgrade_of_some_hellos_only_is_no_pool_of_servers() -> None:
    """A box that takes TLS 1.3 out where the extension looks as it expects: the newest hello does not."""
    tampered = attempt("E1", "answered", version=0x0303, group=None, has_downgrade_sentinel=True)
    untouched = attempt("E23", "answered", group=0x11EC)
    found = diagnose([tampered, untouched, replace(tampered, experiment="E3")])
    assert (found.verdict, found.also_fits) == ("inconclusive", ("F36",))


def test_another_certificate_is_no_success() -> None:
    right = CertificateFacts("aa", "CN=a", "CN=ca", ("a",), covers_name=True)
    wrong = replace(right, leaf_sha256="bb", covers_name=False)
    renewed = replace(right, leaf_sha256="cc")
    attempts = [attempt("E1", "answered", certificate=right), attempt("E3", "answered", certificate=wrong)]
    attempts.append(attempt("E5", "answered", certificate=renewed))
    kinds = [symptom.kind for symptom in read_attempts(attempts).symptoms]
    assert kinds == ["ok", "other-certificate", "ok"], "a second certificate for the same name is a pool's"


def test_a_server_that_fails_on_every_second_hello_is_not_called_one_of_tls12() -> None:
    """OpenSSL's s_server with -stateless: a cookie's retry, then the end; a hello of TLS 1.2 alone is answered."""
    again = attempt("E1", "closed", version=None, group=None, was_retried=True)
    only_tls12 = attempt("E1t(1.2)", "answered", version=0x0303, group=None)
    found = diagnose([again, again, replace(again, experiment="E23"), only_tls12])
    assert (found.verdict, found.server_state, found.also_fits) == ("inconclusive", "unknown", ("F27",))


def test_a_retry_for_a_cookie_alone_is_no_choice_of_a_group() -> None:
    both = replace(SENT, groups=(0x11EC, 0x1D), shares=(0x11EC, 0x1D))
    asked = attempt("E23", "answered", sent=both, group=0x11EC, was_retried=True)
    assert find_server_state([asked]) == "preferred"
    assert find_server_state([replace(asked, group=0x11ED, retry_group=0x11ED)]) == "only-by-retry"


def test_a_server_that_takes_another_hybrid_is_not_said_to_have_the_usual_one() -> None:
    """Asked for SecP256r1MLKEM768 in a retry, and taken at once where two hybrid shares came."""
    asked = attempt("E23", "answered", group=0x11EB, was_retried=True, retry_group=0x11EB)
    at_once = attempt("E16h", "answered", group=0x11EB, sent=replace(SENT, shares=(0x11EC, 0x11EB)))
    assert find_server_state([asked, at_once]) == "only-by-retry"
    # Nor is it a pool, since it takes x25519 where its own hybrid is not named.
    not_named = attempt("E5", "answered", sent=replace(SENT, shares=(0x11EC, 0x1D)))
    assert find_server_state([asked, at_once, not_named]) == "only-by-retry"


@pytest.mark.parametrize(
    ("taken", "note"),
    [
        ({"E23", "E15c"}, "ML-DSA"),
        ({"E23", "E8(1000)"}, "post-quantum only"),
        ({"E23", "E1t(1.3)"}, "a hybrid got through (E23)"),
        ({"E8(1000)"}, "a hybrid got through (E8(1000))"),
        (set(), "fails too"),
    ],
)
def test_why_a_server_refuses_the_control(taken: set[str], note: str) -> None:
    """An ML-DSA certificate alone is no refusal of classical groups; who takes some classical hellos does neither."""
    attempts = []
    for name in (
        "E1",
        "E1",
        "E23",
        "E15c",
        "E0",
        "E8c",
        "E8c(536)",
        "E8(1000)",
        "E1t(1.3)",
        "E23",
        "E15c",
        "E23",
        "E15c",
    ):
        ending: Ending = "answered" if name in taken else "silent" if name == "E0" else "alert"
        group, alert = (0x11EC, None) if name in taken else (None, 40)
        attempts.append(attempt(name, ending, group=group, alert=alert))
    found = diagnose(attempts)
    assert any(note in each for each in found.notes), found.notes
    assert found.faults == ()


def test_a_limit_of_connections_is_no_penalty() -> None:
    """A connection that was never made failed no handshake."""
    refused = attempt("E10", "refused", sent=None)
    control = attempt("E1", "answered")
    no_control = attempt("E1", "connect-timeout", sent=None)
    attempts = [
        control,
        attempt("E23", "answered"),
        attempt("E3", "answered"),
        refused,
        no_control,
        no_control,
        control,
    ]
    found = diagnose([*attempts, refused, no_control, no_control, *[control] * 4])
    assert found.verdict == "healthy"
    assert any("limit of connections" in each for each in found.notes)


@pytest.mark.parametrize(
    ("ending", "last_s", "verdict"),
    [
        ("reset", 48.0, "fault"),
        ("refused", 48.0, "fault"),
        ("timeout", 48.0, "inconclusive"),
        ("reset", 20.0, "inconclusive"),
    ],
)
def test_a_block_whose_end_was_not_seen(ending: Ending, last_s: float, verdict: str) -> None:
    """Turned away for long since one failed hello: named, with doubt. Silence may be a server that is still busy."""
    acked = TcpFacts(bytes_acked=1700)
    starts = [last_s * number / 6 for number in range(1, 7)]
    attempts = [
        attempt("E1", "answered"),
        attempt("E23", "reset", started_s=0.1),
        *(attempt("E1", ending, acked, started_s=start) for start in (0.3, *starts)),
    ]
    found = diagnose(attempts)
    assert (found.verdict, "F50" in found.also_fits) == (verdict, True)
    assert found.fault_ids == ({"F40"} if verdict == "fault" else set())


def test_what_turns_all_away_from_some_later_hello_on_is_no_penalty() -> None:
    """What is new in a hello was in the first three already: a limit of connections, or the server ended."""
    answered = [attempt(name, "answered", started_s=0.1) for name in ("E1", "E23", "E3", "E15", "E14")]
    controls = [attempt("E1", "reset", TcpFacts(), started_s=1.0 + 8 * number) for number in range(7)]
    found = diagnose([*answered, attempt("E9", "reset", started_s=0.9), *controls])
    assert (found.verdict, found.fault_ids) == ("inconclusive", frozenset())
    assert {"F40", "F50"} <= set(found.also_fits)


@pytest.mark.parametrize(
    ("later_mss", "out_of_order", "verdict"), [(1248, 1, "fault"), (1448, 1, "healthy"), (1248, 0, "healthy")]
)
def test_a_hole_on_the_way_back_that_a_learnt_mtu_hides(later_mss: int, out_of_order: int, verdict: str) -> None:
    """An honest MTU on the way there makes the answers smaller from the next connection on: it shows but once."""
    small = replace(SENT, mss_bytes=later_mss)
    attempts = [
        attempt("E1", "answered", sent=replace(SENT, groups=(0x1D,), shares=(0x1D,))),
        attempt("E23", "timeout", TcpFacts(bytes_acked=1700, total_retrans=2, rcv_ooopack=out_of_order)),
        attempt("E1", "answered", sent=replace(small, groups=(0x1D,), shares=(0x1D,))),
        attempt("E3", "answered", sent=replace(small, groups=(0x1D,), shares=(0x1D,))),
        attempt("E5", "answered", sent=small),
        attempt("E23", "answered", sent=small),
    ]
    found = diagnose(attempts)
    assert found.verdict == verdict
    assert found.fault_ids == ({"F14"} if verdict == "fault" else set())


def test_a_certificate_for_another_name_is_told() -> None:
    other = CertificateFacts("aa", "CN=d", "CN=ca", ("default.invalid",), covers_name=False)
    found = diagnose([attempt(name, "answered", group=0x11EC, certificate=other) for name in ("E1", "E23", "E3")])
    assert (found.verdict, found.server_state) == ("healthy", "preferred")
    assert any("default.invalid" in note for note in found.notes)


def test_the_plan_starts_with_the_control_and_ends() -> None:
    first = next_step([])
    assert first is not None
    assert first.experiment == "E1"
    attempts: list[Attempt] = []
    while (step := next_step(attempts, PlanOptions(is_full=True))) is not None:
        attempts.append(attempt(step.experiment, "answered", group=0x11EC))
        assert len(attempts) < 60
    assert {"E12", "E7d"} <= {each.experiment for each in attempts}


def test_wilson() -> None:
    low, high = wilson(0, 10)
    assert low == 0
    assert high == pytest.approx(0.2775, abs=1e-3)
    assert wilson(10, 10)[1] == 1


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("a.example", "a.example", 443),
        ("a.example:8443", "a.example", 8443),
        ("[::1]:444", "::1", 444),
        ("::1", "::1", 443),
    ],
)
def test_targets(text: str, host: str, port: int) -> None:
    target = parse_target(text)
    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize("text", ["", "a:0", "a:70000", "https://a", "a/b", "a b", "[::1", "a:b"])
def test_no_targets(text: str) -> None:
    with pytest.raises(Exception, match="HOST"):
        parse_target(text)


def test_the_catalogue_is_whole() -> None:
    """Names are unique; what an entry refers to exists; every fault says who was hit and what to do."""
    names = [fault.name for fault in CATALOGUE.values()] + list(UNTOLD.values())
    assert len(set(names)) == len(names)
    assert not set(UNTOLD) & set(CATALOGUE)
    for fault in CATALOGUE.values():
        assert all(fault_name(other) for other in fault.confused_with)
        for remedy in fault.remedies:
            assert set(remedy.proved_by) <= set(EXPERIMENTS)
        if fault.kind == "fault":
            assert fault.victims or "no public report" in fault.what.lower(), fault.id
            assert fault.remedies, fault.id


def test_text_from_the_network_cannot_steer_the_terminal() -> None:
    evil = CertificateFacts("aa", "CN=a", "CN=\x1b[2J\nevil", (), covers_name=True, is_trusted=False)
    classical = attempt("E10", "answered", was_retried=True, retry_group=0x1D, sent=replace(SENT, shares=(0x11EC,)))
    found = diagnose([attempt("E1", "answered", certificate=evil), classical])
    lines = render_diagnosis(found, "host:443", "192.0.2.1")
    assert not any("\x1b" in text or "\n" in text for line in lines for text, _ in line)
