"""Real handshakes over real sockets: healthy servers come out healthy, faulty ones by their name."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pqtls.cli import run_app
from pqtls.path.diagnosis import Diagnosis
from pqtls.path.examine import examine
from pqtls.path.plan import PlanOptions
from pqtls.probe.model import HYBRID
from pqtls.probe.network import SocketNetwork
from pqtls.probe.run import Prober
from pqtls.report.path import render_diagnosis
from pqtls.wire.groups import is_grease
from tests.path import real_servers as real
from tests.schemas import validate

KNOWN = {0x1D, 0x17, 0x18, 0x19, 0x1E, *range(0x100, 0x105)}


class FastNetwork(SocketNetwork):
    """Real sockets; the spacing between connections, which only a punishing box needs, is cut short."""

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.01))


def look(port: int, *, is_full: bool = False, name: str | None = real.NAME) -> Diagnosis:
    network = FastNetwork(socket.AF_INET, ("127.0.0.1", port))
    found = examine(Prober(network, name), network, PlanOptions(is_full=is_full))
    validate(found.to_json(f"127.0.0.1:{port}", "127.0.0.1"))
    return found


def test_a_healthy_path_takes_three_connections(hybrid_port: int) -> None:
    began = time.monotonic()
    found = look(hybrid_port)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "preferred", ())
    assert [attempt.experiment for attempt in found.attempts] == ["E1", "E23", "E3"]
    assert found.attempts[1].group == HYBRID
    assert time.monotonic() - began < 1.5


def test_every_experiment_gets_through_to_a_healthy_server(hybrid_port: int) -> None:
    found = look(hybrid_port, is_full=True)
    assert (found.verdict, found.server_state) == ("healthy", "preferred")
    assert {attempt.ending for attempt in found.attempts} == {"answered"}
    retried = {attempt.experiment for attempt in found.attempts if attempt.was_retried}
    assert {"E12", "E12c"} <= retried


def test_a_classical_server_is_a_state_and_no_fault(classical_port: int) -> None:
    found = look(classical_port)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ())
    assert found.also_fits == (), "a healthy verdict lists no fault"
    assert any("not publicly trusted: an inspecting box would look the same" in note for note in found.notes)


@pytest.mark.parametrize(
    ("groups", "state"),
    [
        ("x25519/X25519MLKEM768", "supported"),
        ("SecP384r1MLKEM1024/x25519", "only-by-retry"),
        ("X25519MLKEM768", "preferred"),
    ],
)
def test_server_states(groups: str, state: str, pem: Path, hybrid_environment: dict[str, str]) -> None:
    with real.run_server(pem, hybrid_environment, groups) as port:
        found = look(port)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", state, ())


def test_a_tls12_server_is_a_state_and_no_fault(pem: Path, hybrid_environment: dict[str, str]) -> None:
    with real.run_server(pem, hybrid_environment, is_tls12=True) as port:
        assert (look(port).server_state, look(port, is_full=True).verdict) == ("tls12", "healthy")


def shares_of(hello: Any) -> list[int]:
    return [share.group for share in hello.key_shares or ()]


def has_unknown_group(hello: Any) -> bool:
    return bool(set(hello.supported_groups) - KNOWN)


FAULTY: list[tuple[str, set[str], Callable[[socket.socket], bytes | None], bool]] = [
    ("read once, then decode_error", {"F01"}, real.read_once, False),
    ("read once, until the first record", {"F01", "F04"}, real.look_once(65_536, real.has_record), False),
    ("read once, for the name", {"F01", "F04"}, real.look_once(65_536, real.has_name), False),
    ("read once into 1024 bytes", {"F03"}, real.look_once(1024, real.has_record), False),
    ("a buffer of 1024 bytes", {"F03"}, real.peek_into(1024), False),
    ("a buffer of 1500 bytes", {"F03"}, real.peek_into(1500), False),
    ("the first record only", {"F07"}, real.first_record_only, True),
    ("aborts on unknown groups", {"F22"}, real.refuse(has_unknown_group, real.ALERT_47), False),
    (
        "blocks 0x11EC",
        {"F23"},
        real.refuse(lambda hello: HYBRID in hello.supported_groups, real.ALERT_40),
        False,
    ),
    (
        "resets on ML-DSA",
        {"F24"},
        real.refuse(lambda hello: 0x0905 in hello.signature_algorithms, b""),
        False,
    ),
    (
        "aborts on GREASE versions",
        {"F25"},
        real.refuse(lambda hello: any(code & 0x0F0F == 0x0A0A for code in hello.supported_versions), real.ALERT_40),
        False,
    ),
    (
        "takes one share",
        {"F26"},
        real.refuse(lambda hello: len(hello.key_shares or ()) > 1, real.ALERT_40),
        False,
    ),
    ("closes after its retry", {"F27"}, real.broken_retry(), True),
    ("asks again without the session id", {"F27"}, real.broken_retry(is_echoed=False), False),
    ("asks for a share that it has", {"F27"}, real.broken_retry(is_needless=True), False),
    (
        "aborts on unknown groups, and knows GREASE",
        {"F22"},
        real.refuse(lambda hello: any(not is_grease(g) for g in set(hello.supported_groups) - KNOWN), b""),
        False,
    ),
    (
        "fails where it should ask for a share that it knows",
        {"F22"},
        real.refuse(lambda hello: shares_of(hello) != [] and not set(shares_of(hello)) & KNOWN, real.ALERT_40),
        False,
    ),
    (
        "blocks every hybrid's number",
        {"F23"},
        real.refuse(lambda hello: {0x11EB, 0x11EC, 0x11ED} & set(hello.supported_groups) != set(), b""),
        False,
    ),
    (
        "takes one share, GREASE aside",
        {"F26"},
        real.refuse(lambda hello: sum(not is_grease(group) for group in shares_of(hello)) > 1, real.ALERT_40),
        False,
    ),
]
# What these show, they show before a classical server: who asks for x25519, or should.
BEFORE_CLASSICAL = {name for name, *_ in FAULTY if "ask" in name or "retry" in name}


@pytest.mark.parametrize(("what", "expected", "judge", "is_full"), FAULTY, ids=[each[0] for each in FAULTY])
def test_faulty_servers(
    what: str,
    expected: set[str],
    judge: Callable[[socket.socket], bytes | None],
    is_full: bool,
    hybrid_port: int,
    classical_port: int,
) -> None:
    with real.Proxy(classical_port if what in BEFORE_CLASSICAL else hybrid_port, judge) as proxy:
        found = look(proxy.port, is_full=is_full)
    assert found.fault_ids == expected, found.answer
    assert found.verdict == "fault"
    assert all(workaround.experiment for workaround in found.workarounds if workaround.proved)
    assert "ntil then" not in found.answer + str(found.workarounds), "each stands by itself"


def test_what_a_retry_breaks_is_told(classical_port: int) -> None:
    with real.Proxy(classical_port, real.broken_retry(is_needless=True)) as proxy:
        found = look(proxy.port)
    assert found.faults[0].detail == "The HelloRetryRequest asks for x25519, whose share it already had"


def test_retries_that_every_hello_meets_are_a_fault_where_tls_works_without_one(
    pem: Path, hybrid_environment: dict[str, str]
) -> None:
    """A server of P-256 alone: the control fails too, and the one hello with a share for P-256 does not."""

    def end_after_retry(connection: socket.socket) -> bytes | None:
        data = real.read_whole(connection)
        hello = real.hello_of(data)
        if 0x17 in shares_of(hello):
            return data
        real.answer_with_retry(connection, hello, 0x17)
        return None

    with real.run_server(pem, hybrid_environment, "P-256") as port, real.Proxy(port, end_after_retry) as proxy:
        found = look(proxy.port)
    assert found.fault_ids == {"F27"}, found.answer
    assert {a.experiment for a in found.attempts if a.ending == "answered"} >= {"E16c"}
    with real.run_server(pem, hybrid_environment, "P-256") as port, real.Proxy(port, real.read_whole) as proxy:
        assert look(proxy.port).verdict == "healthy", "the same without its fault"


@pytest.mark.parametrize("is_by_name", [False, True])
def test_a_blocked_share_is_gone_round_by_a_retry(is_by_name: bool, hybrid_port: int) -> None:
    """Where the name alone is disliked that is no way, and is not said to be one."""

    def dislikes(hello: Any) -> bool:
        return HYBRID in (hello.supported_groups if is_by_name else [each.group for each in hello.key_shares or ()])

    with real.Proxy(hybrid_port, real.refuse(dislikes, real.ALERT_40)) as proxy:
        found = look(proxy.port)
    assert found.fault_ids == {"F23"}, found.answer
    ways = {each.what: each.experiment for each in found.workarounds if each.proved}
    retry, classical = (
        next((n for n, way in enumerate(ways) if word in way), None) for word in ("retry", "x25519 alone")
    )
    assert classical is not None
    assert retry is None if is_by_name else retry is not None and retry < classical
    if not is_by_name:
        by_retry = next(each for each in found.attempts if each.experiment == "E12")
        assert (by_retry.ending, by_retry.was_retried, by_retry.group) == ("answered", True, HYBRID)


def test_a_proxy_that_does_it_right_is_healthy(hybrid_port: int) -> None:
    """The negative control of all of the above: the same proxy, reading to the end."""
    with real.Proxy(hybrid_port, real.read_whole) as proxy:
        assert look(proxy.port, is_full=True).verdict == "healthy"


def test_an_inspecting_box_is_told_by_a_certificate_made_to_order() -> None:
    with real.run_minting_server() as port:
        found = look(port)
    assert found.fault_ids == {"F35"}
    assert "Some Gateway CA" in found.faults[0].detail


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = look(port)
    assert (found.verdict, found.attempts[0].ending) == ("inconclusive", "refused")
    assert found.repetitions == (), "nothing was sent that could have failed"
    told = "\n".join("".join(text for text, _ in line) for line in render_diagnosis(found, f"127.0.0.1:{port}", ""))
    assert told.count("Nothing listens on that port") == 1


def test_a_server_that_speaks_first_is_no_tls() -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.recv(100)

    with real.Proxy(0, greet) as proxy:
        found = look(proxy.port)
    assert found.verdict == "inconclusive"
    assert any("STARTTLS" in note for note in found.notes)


@pytest.mark.parametrize(
    ("answer", "protocol"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "plain HTTP"), (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH")],
)
def test_what_speaks_another_protocol_is_said_and_left_alone(answer: bytes, protocol: str) -> None:
    def judge(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with real.Proxy(0, judge) as proxy:
        found = look(proxy.port)
    assert (found.verdict, found.also_fits, len(found.attempts)) == ("inconclusive", (), 2)
    assert f"answers in {protocol}, not in TLS: is the port right?" in found.answer
    assert {attempt.detail for attempt in found.attempts} == {f"It answers in {protocol}."}


def test_an_address_has_no_name_to_ask_for(hybrid_port: int) -> None:
    found = look(hybrid_port, name=None)
    assert found.verdict == "healthy"
    assert all(attempt.sent is None or attempt.sent.name_start is None for attempt in found.attempts)


# The verb.


def test_the_verb_tells_and_writes(hybrid_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "diagnosis.json"
    assert run_app(["path", f"localhost:{hybrid_port}", "-4", "--require-pq", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert validate(written) == "diagnosis-1"
    assert (written["verdict"], written["server_state"]) == ("healthy", "preferred")
    assert written["required"] == {"post_quantum": True, "finding": None}
    assert "Healthy" in capsys.readouterr().out.splitlines()[0]


def test_the_verbs_exit_codes(classical_port: int, hybrid_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["path", f"127.0.0.1:{classical_port}"]) == 0
    capsys.readouterr()
    assert run_app(["path", f"127.0.0.1:{classical_port}", "--require-pq", "--json", "-"]) == 1
    told = capsys.readouterr()
    assert "finding (--require-pq): the server is not post-quantum (classical)" in told.err.splitlines()[1]
    written = json.loads(told.out)
    assert (validate(written), written["verdict"]) == ("diagnosis-1", "healthy")
    assert "not post-quantum" in written["required"]["finding"]
    assert run_app(["path", "https://example.com/"]) == 2
    assert run_app(["path", "127.0.0.1:1"]) == 3
    capsys.readouterr()
    assert run_app(["path", "nowhere.invalid", f"127.0.0.1:{classical_port}", "--json", "-"]) == 3
    unseen, seen = map(json.loads, capsys.readouterr().out.splitlines())
    assert {validate(unseen), validate(seen)} == {"diagnosis-1"}
    assert (unseen["target"], unseen["address"], unseen["verdict"]) == ("nowhere.invalid:443", None, "inconclusive")
    assert "does not resolve" in unseen["notes"][0]
    with real.Proxy(hybrid_port, real.peek_into(1024)) as proxy:
        assert run_app(["path", f"127.0.0.1:{proxy.port}"]) == 1
    assert "F03 fixed-peek-buffer" in capsys.readouterr().out


def test_what_cannot_be_read_or_written_is_told_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--json", str(tmp_path)], ["--json", str(tmp_path / "no" / "x")], ["--hosts", str(tmp_path)]):
        assert run_app(["path", "127.0.0.1:1", *arguments]) == 2
        told = capsys.readouterr()
        assert "cannot be" in told.err
        assert (len(told.err.splitlines()), told.out) == (2, "")


def test_families_that_a_target_has_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["path", "-4", "-6", "localhost:1"]) == 2
    assert run_app(["path", "-4", "[::1]:1"]) == 3
    assert "::1 is an IPv6 address, and -4 asks for IPv4." in capsys.readouterr().err
    known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

    def look_up(host: str, port: int, family: int = 0, type: int = 0) -> object:  # noqa: A002 - the name it has
        if family == socket.AF_INET6:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert run_app(["path", "-6", "four.example:1"]) == 3
    assert "four.example has no IPv6 address." in capsys.readouterr().err


def test_repeats_are_counted(hybrid_port: int, tmp_path: Path) -> None:
    file = tmp_path / "diagnosis.json"
    assert run_app(["path", f"127.0.0.1:{hybrid_port}", "--repeat", "5", "--json", str(file)]) == 0
    counts = {each["experiment"]: each for each in json.loads(file.read_text())["repetitions"]}
    assert (counts["E23"]["failed"], counts["E23"]["attempts"]) == (0, 5)
    assert counts["E23"]["high"] > 0.3, "five of five is no proof of never"
