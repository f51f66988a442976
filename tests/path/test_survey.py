"""Both address families, several targets, and a far end over both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pqtls.cli import run_app
from pqtls.errors import UsageError
from pqtls.path.examine import Limits
from pqtls.path.hosts import parse_hosts
from pqtls.path.plan import PlanOptions
from pqtls.path.reach import Reach
from pqtls.path.survey import Examined, examine_target
from pqtls.path.target import Target, parse_peer
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.probe.model import Attempt, Experiment
from pqtls.probe.network import SocketNetwork
from pqtls.probe.run import Prober
from tests.path import before_tls as before
from tests.path import real_servers as real
from tests.path.before_tls import ConnectProxy
from tests.path.reaching import HOST
from tests.schemas import validate

pytestmark = pytest.mark.usefixtures("quick")


@contextlib.contextmanager
def two_families(v4: int, v6: int, judge6: Callable[[socket.socket], bytes | None] | None = None) -> Iterator[int]:
    """One port on 127.0.0.1 and on ::1: each leads on to a server, over IPv6 by way of a judge."""
    with real.Proxy(v4, before.pass_on) as proxy, SixProxy(v6, judge6 or before.pass_on, proxy.port):
        yield proxy.port


class SixProxy(real.Proxy):
    def __init__(self, upstream_port: int, judge: Callable[[socket.socket], bytes | None], port: int) -> None:
        super().__init__(upstream_port, judge)
        self._listener.close()
        self._listener = socket.create_server(("::1", port), family=socket.AF_INET6, backlog=64)
        self.port = port


def survey(port: int, limits: Limits | None = None) -> dict[str, Examined]:
    found = examine_target(Target("localhost", port), PlanOptions(), limits)
    return {each.address: each for each in found}


@pytest.mark.usefixtures("both_families")
def test_both_families_healthy(hybrid_port: int) -> None:
    began = time.monotonic()
    with two_families(hybrid_port, hybrid_port) as port:
        found = survey(port)
    assert list(found) == ["::1", HOST]
    assert [each.diagnosis.verdict for each in found.values()] == ["healthy"] * 2
    assert [len(each.diagnosis.attempts) for each in found.values()] == [3, 3]
    assert time.monotonic() - began < 3


@pytest.mark.usefixtures("both_families")
def test_a_fault_on_ipv6_only(hybrid_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    with two_families(hybrid_port, hybrid_port, real.read_once) as port:
        found = survey(port)
        assert run_app(["path", f"localhost:{port}", "--json", str(file)]) == 1
        assert run_app(["path", "-4", f"localhost:{port}"]) == 0
    assert found["::1"].diagnosis.fault_ids == {"F01"}
    assert found[HOST].diagnosis.verdict == "healthy"
    assert sum(len(each.diagnosis.attempts) for each in found.values()) <= 40
    assert any("what breaks belongs to IPv6" in note for note in found["::1"].diagnosis.notes)
    told = {value["address"]: value["verdict"] for value in map(json.loads, file.read_text().splitlines())}
    assert told == {"::1": "fault", HOST: "healthy"}
    assert "what breaks belongs to IPv6" in capsys.readouterr().out


@pytest.mark.usefixtures("both_families")
def test_the_limits_are_for_all_families_together(hybrid_port: int) -> None:
    with (
        real.Proxy(hybrid_port, real.read_once) as faulty,
        two_families(faulty.port, hybrid_port, real.read_once) as port,
    ):
        found = survey(port, Limits(30, 60.0))
    assert sum(len(each.diagnosis.attempts) for each in found.values()) <= 30
    assert any(each.diagnosis.verdict == "fault" for each in found.values())
    assert all(each.diagnosis.verdict != "healthy" for each in found.values())
    told = " ".join(note for each in found.values() for note in each.diagnosis.notes)
    assert "Option -4 gives IPv4 all connections" in told


@pytest.mark.usefixtures("both_families")
def test_a_family_without_a_connection_is_told_and_no_more(hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, before.pass_on) as proxy:
        found = survey(proxy.port)
    assert list(found) == [HOST]
    assert found[HOST].diagnosis.verdict == "healthy"
    assert any("Over IPv6 (::1) there is no connection" in note for note in found[HOST].diagnosis.notes)


@pytest.mark.usefixtures("both_families")
def test_a_family_that_does_not_turn_to_tls_counts(hybrid_port: int) -> None:
    """There is a connection, and no TLS on it: that is no absence which programs get around."""
    judges = before.after(before.smtp, real.read_whole), before.after(before.smtp_without, real.read_whole)
    with real.Proxy(hybrid_port, judges[0]) as proxy, SixProxy(hybrid_port, judges[1], proxy.port):
        found = examine_target(Target("localhost", proxy.port), PlanOptions(), reach=Reach(starttls="smtp"))
    assert [(each.address, each.diagnosis.verdict) for each in found] == [("::1", "inconclusive"), (HOST, "healthy")]
    assert "does not offer STARTTLS" in found[0].diagnosis.answer


@pytest.mark.usefixtures("both_families")
def test_no_family_has_a_connection() -> None:
    found = survey(1)
    assert [each.diagnosis.verdict for each in found.values()] == ["inconclusive"]


def test_sizes_over_ipv6(hybrid_port: int) -> None:
    """Loopback's segments are huge: what fills one on Ethernet is smaller over IPv6, whose header has 20 bytes more."""
    with SixProxy(hybrid_port, before.pass_on, 0) as server:
        server.port = int(server._listener.getsockname()[1])
        networks = (
            SocketNetwork(socket.AF_INET6, ("::1", server.port, 0, 0)),
            SocketNetwork(socket.AF_INET, (HOST, hybrid_port)),
        )
        sent = [Prober(network, real.NAME).attempt(EXPERIMENTS["E2s"], 0, 0.0, 5.0).sent for network in networks]
        small = Prober(networks[0], real.NAME).attempt(EXPERIMENTS["E8(1000)"], 0, 0.0, 5.0)
    assert [each.size_bytes for each in sent if each] == [1428, 1448]
    assert [each.usual_mss_bytes for each in sent if each] == [1428, 1448]
    assert small.ending == "answered"
    assert small.sent is not None
    assert [segment.size_bytes for segment in small.sent.segments()] == [988, 712]


# Several targets, and a far end.


def test_hosts_files() -> None:
    text = b"# ours\n\na.example  # first\nA.example:443\r\n[::1]:8443\n::1:0:1\n\xef\xbb\xbf"
    with pytest.raises(UsageError, match="line 7"):
        parse_hosts(text, "f", 443)
    targets, repeated = parse_hosts(b"\xef\xbb\xbf" + text[:-3], "f", 443)
    assert [str(target) for target in targets] == ["a.example:443", "[::1]:8443", "[::1:0:1]:443"]
    assert repeated == 1
    with pytest.raises(UsageError, match=r"line 2: 'https://b/'; line 3: 'c d'") as raised:
        parse_hosts(b"a\nhttps://b/\nc d\n", "hosts.txt", 443)
    assert "hosts.txt" in raised.value.message
    with pytest.raises(UsageError, match="and 15 more"):
        parse_hosts(b"/\n" * 25, "f", 443)
    for nothing in (b"", b"# nothing\n"):
        with pytest.raises(UsageError, match="names no host"):
            parse_hosts(nothing, "f", 443)
    with pytest.raises(UsageError, match="is over"):
        parse_hosts(b"a\n" * 600_000, "f", 443)
    with pytest.raises(UsageError):
        parse_hosts(b"a:" + b"1" * 5000, "f", 443)


def test_several_targets(
    hybrid_port: int, classical_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts, file = tmp_path / "hosts", tmp_path / "found.json"
    hosts.write_text(f"{HOST}:{hybrid_port}\n{HOST}:{classical_port} # old\nnowhere.invalid\n{HOST}:{hybrid_port}\n")
    assert run_app(["path", "--hosts", str(hosts), "--json", str(file)]) == 3
    told = capsys.readouterr()
    states = [json.loads(line)["server_state"] for line in file.read_text().splitlines()]
    assert states == ["preferred", "classical", "unknown"], "one for each target, also where nothing was seen"
    *_, first, second, third, count = told.out.splitlines()
    assert (first.split(), second.split()) == (
        [f"{HOST}:{hybrid_port}", "healthy", "preferred"],
        [f"{HOST}:{classical_port}", "healthy", "classical"],
    )
    assert "does not resolve" in third
    assert count == "3 targets, 3 examined: 2 healthy, 1 inconclusive"
    assert "name a host again: 1" in told.err
    assert run_app(["path"]) == 2
    assert run_app(["path", "--hosts", str(tmp_path / "no")]) == 2


def test_ctrl_c_keeps_what_was_gathered(hybrid_port: int, tmp_path: Path) -> None:
    silent = socket.create_server((HOST, 0))
    command = [
        sys.executable,
        "-c",
        "from pqtls.cli import main; main()",
        "path",
        "--hosts",
        "-",
        "--json",
        "found.json",
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(f"{HOST}:{hybrid_port}\n{HOST}:{silent.getsockname()[1]}\nlast.example\n")
            process.stdin.close()
            process.stdin = None
            silent.settimeout(60)
            silent.accept()  # the second target is under way
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            silent.close()
    assert process.returncode == 130, errors
    first, second = map(json.loads, (tmp_path / "found.json").read_text().splitlines())
    assert (first["verdict"], second["verdict"]) == ("healthy", "inconclusive")
    assert "interrupted" in second["notes"][0]
    assert "2 targets, 2 examined: 1 healthy, 1 inconclusive; 1 of 3 not examined" in output


def test_ctrl_c_amid_a_target_tells_what_is_known_of_it(
    hybrid_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two handshakes that went well are no healthy path yet: the cut hello was still to come."""
    attempt = Prober.attempt

    def interrupt(self: Prober, experiment: Experiment, number: int, started_s: float, timeout_s: float) -> Attempt:
        if number == 2:
            raise KeyboardInterrupt
        return attempt(self, experiment, number, started_s, timeout_s)

    monkeypatch.setattr(Prober, "attempt", interrupt)
    file = tmp_path / "found.json"
    assert run_app(["path", f"{HOST}:{hybrid_port}", "--json", str(file)]) == 130
    value = json.loads(file.read_text())
    assert validate(value) == "diagnosis-1"
    assert (value["verdict"], len(value["experiments"]), value["address"]) == ("inconclusive", 2, HOST)
    assert "It was interrupted after 2 connections." in capsys.readouterr().out


def test_where_a_peer_is() -> None:
    assert parse_peer("there.example", 8443) == Target("there.example", 8443)
    assert parse_peer("pqtls://there.example:9/", 8443) == Target("there.example", 9)
    assert parse_peer("https://[::1]", 8443) == Target("::1", 8443)
    for wrong in ("ftp://there.example", "pqtls://token@there.example", "pqtls://there.example/x", "pqtls://[::1"):
        with pytest.raises(UsageError) as raised:
            parse_peer(wrong, 8443)
        assert "token@" not in str(raised.value)


@pytest.mark.usefixtures("both_families")
def test_both_ends_over_both_families_and_through_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pqtls.peer.far_end import FarEnd

    token, file = "a token of enough characters", tmp_path / "found.json"
    monkeypatch.setenv("PQTLS_TOKEN", token)
    there = FarEnd(("::", 0), token)
    try:
        place = f"localhost:{there.port}"
        assert run_app(["path", place, "--peer", "pqtls://localhost", "--json", str(file)]) == 0
        straight = [json.loads(line) for line in file.read_text().splitlines()]
        with ConnectProxy() as proxy:
            assert run_app(["path", place, "--peer", place, "--proxy", proxy.url, "--json", str(file)]) == 0
            assert len(proxy.asked) == 5, "the questions go through it too"
    finally:
        there.close()
    assert [value["address"] for value in straight] == ["::1", HOST]
    clients = [arrival.client.rpartition(":")[0] for arrival in there.book.since(0)[1]]
    assert clients == ["[::1]"] * 3 + [HOST] * 6
    for value in (*straight, json.loads(file.read_text())):
        validate(value)
        assert [each["fate"] for each in value["peer"]] == ["as-sent"] * 3
    assert capsys.readouterr().err == ""
