"""Through proxies, after STARTTLS, over both address families: what is there is still named, and nothing else is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pqtls.cli import run_app
from pqtls.errors import UsageError
from pqtls.path.diagnose import diagnose
from pqtls.path.diagnosis import Diagnosis
from pqtls.path.examine import Limits
from pqtls.path.hosts import parse_hosts
from pqtls.path.plan import PlanOptions
from pqtls.path.reach import Reach, qualify
from pqtls.path.survey import Examined, examine_target
from pqtls.path.target import Target, parse_peer
from pqtls.probe import prepared
from pqtls.probe.dialogue import BeforeTlsError, Dialogue
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.probe.http_proxy import Proxy, has_password, open_tunnel, parse_proxy
from pqtls.probe.model import HYBRID
from pqtls.probe.network import SocketNetwork
from pqtls.probe.run import Prober
from pqtls.probe.starttls.protocols import PROTOCOLS
from tests.path import before_tls as before
from tests.path import real_servers as real
from tests.path.before_tls import ConnectProxy, after, say
from tests.schemas import validate

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spacing, which only a punishing box needs, is cut short; so is the patience with servers that say nothing."""
    monkeypatch.setattr(SocketNetwork, "sleep", lambda _, seconds: time.sleep(min(seconds, 0.01)))
    monkeypatch.setattr(prepared, "PATIENCE_S", 1.0)
    for name in ("PQTLS_PROXY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def look(port: int, reach: Reach, *, is_full: bool = False, host: str = HOST) -> Diagnosis:
    (found,) = examine_target(Target(host, port), PlanOptions(is_full=is_full), None, reach=reach)
    assert validate(found.diagnosis.to_json(f"{host}:{port}", found.address)) == "diagnosis-1"
    return found.diagnosis


def through(proxy: ConnectProxy, credentials: str | None = None) -> Reach:
    return Reach(Proxy(HOST, proxy.port, credentials))


# Proxies.


@pytest.mark.parametrize("send", [socket.socket.sendall, before.drip], ids=["at once", "in pieces"])
def test_a_healthy_path_through_a_proxy(send: Any, hybrid_port: int) -> None:
    with ConnectProxy(send) as proxy:
        found = look(hybrid_port, through(proxy))
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "preferred", ())
    assert len(found.attempts) == 3
    assert proxy.asked == [f"{HOST}:{hybrid_port}"] * 3
    assert found.proxy == proxy.url
    assert any("of the way to it" in note for note in found.notes)
    assert all(attempt.sent is not None and attempt.sent.is_relayed for attempt in found.attempts)
    sent_bytes = [a.sent.size_bytes for a in found.attempts if a.sent]
    acked = [a.tcp.bytes_acked for a in found.attempts if a.tcp and a.tcp.bytes_acked is not None]
    for sent, reached in zip(sent_bytes, acked, strict=True):
        assert sent <= reached < sent + 200, "our Finished is counted too; the request for the tunnel is not"


def test_a_name_is_the_proxys_to_resolve(hybrid_port: int) -> None:
    with ConnectProxy() as proxy:
        found = look(hybrid_port, through(proxy), host="server.invalid")
    assert found.verdict == "healthy"
    assert proxy.asked[0] == f"server.invalid:{hybrid_port}"


BEHIND = [
    ("blocks 0x11EC", {"F23"}, real.refuse(lambda hello: HYBRID in hello.supported_groups, real.ALERT_40)),
    ("read once, then decode_error", {"F01"}, real.read_once),
    ("a buffer of 1024 bytes", {"F03"}, real.peek_into(1024)),
    ("reads to the end", set(), real.read_whole),
]


@pytest.mark.parametrize(("what", "expected", "judge"), BEHIND, ids=[each[0] for each in BEHIND])
def test_what_is_behind_a_proxy_is_named(
    what: str, expected: set[str], judge: Callable[[socket.socket], bytes | None], hybrid_port: int
) -> None:
    with real.Proxy(hybrid_port, judge) as server, ConnectProxy() as proxy:
        found = look(server.port, through(proxy))
    assert expected <= found.fault_ids, found.answer
    assert found.verdict == ("fault" if expected else "healthy")
    if expected:
        assert "F42 explicit-proxy" in found.answer
        assert not found.fault_ids & {"F13", "F14"}, "an alert, a close: no packets were lost"


class Hole(real.Proxy):
    """What a hole for big packets behind a proxy comes to: all is acknowledged, and what is big goes no further."""

    def _serve(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            connection,
            socket.create_connection((HOST, self._upstream_port)) as upstream,
        ):
            connection.settimeout(15)
            threading.Thread(target=before.carry, args=(upstream, connection), daemon=True).start()
            is_lost = False
            while data := connection.recv(65_536):
                is_lost = is_lost or len(data) > 1300
                if not is_lost:
                    upstream.sendall(data)


def mute_buffer(connection: socket.socket) -> bytes | None:
    """A fixed buffer whose owner falls silent; a second hello, after a retry, is none of its business."""
    data = real.read_whole(connection)
    if len(data) <= 1300:
        return data
    with contextlib.suppress(OSError):
        while connection.recv(65_536):
            pass
    return None


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from pqtls.path import examine

    for name in ("_FIRST_TIMEOUT_S", "MIN_TIMEOUT_S", "MAX_TIMEOUT_S"):
        monkeypatch.setattr(examine, name, 0.3)


@pytest.mark.usefixtures("_impatient")
def test_silence_behind_a_proxy_may_be_lost_packets(hybrid_port: int) -> None:
    """Told straight, a hole shows by bytes that nobody acknowledged; behind a proxy it looks like a buffer."""
    with Hole(hybrid_port, before.pass_on) as server, ConnectProxy() as proxy:
        found = look(server.port, through(proxy))
    assert "F13" in found.fault_ids, found.answer
    assert "F03" not in found.fault_ids or "F13" in found.answer


@pytest.mark.usefixtures("_impatient")
def test_a_silent_buffer_behind_a_proxy(hybrid_port: int) -> None:
    """It lets a second hello pass that no hole would: so it is no hole; but a window may have closed, out of sight."""
    with real.Proxy(hybrid_port, mute_buffer) as server, ConnectProxy() as proxy:
        found = look(server.port, through(proxy))
    assert found.fault_ids == {"F03", "F06"}, found.answer
    # The same outcomes on the straight way: there the kernel would know of a closed window.
    straight = diagnose(
        [replace(each, sent=replace(each.sent, is_relayed=False)) for each in found.attempts if each.sent]
    )
    assert straight.fault_ids == {"F03"}, straight.answer


REFUSALS = [
    (b"HTTP/1.1 403 Forbidden\r\n\r\n", "allows no CONNECT", 1),
    (b"HTTP/1.0 405 Method Not Allowed\r\nContent-Length: 5\r\n\r\nnever", "allows no CONNECT", 1),
    (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "made no connection", 2),
    (b"HTTP/1.1 429 \r\n\r\n", "made no connection", 2),
    (b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n", "NTLM, Negotiate", 1),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "interim", 1),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "speaks no HTTP", 1),
    (b"\x15\x03\x01\x00\x02\x02\x50\n", "speaks no HTTP", 1),
    (b"H" * 9000, "a line of over", 1),
    (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "over 65536 bytes", 1),
    (b"HTTP/1.1 200 OK\r\nX: unfinished", "closed the connection", 2),
    (b"\x00", "closed the connection", 2),
]


@pytest.mark.parametrize(("answer", "words", "count"), REFUSALS, ids=[f"{n} {r[1]}" for n, r in enumerate(REFUSALS)])
def test_proxies_that_say_no_are_told_in_a_sentence_and_are_no_fault(answer: bytes, words: str, count: int) -> None:
    with ConnectProxy(answer=answer) as proxy:
        found = look(443, through(proxy), host="server.invalid")
    assert (found.verdict, found.faults) == ("inconclusive", ())
    assert words in found.answer, found.answer
    assert len(found.attempts) == count, "who says no is not asked again and again"
    assert found.answer.count(". ") <= 1, found.answer


@pytest.mark.parametrize("send", [lambda *_: time.sleep(2), before.hang_up], ids=["silent", "reset"])
def test_proxies_that_say_nothing(send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pqtls.path import examine

    monkeypatch.setattr(examine, "_FIRST_TIMEOUT_S", 0.5)
    with ConnectProxy(send, answer=b"x") as proxy:
        found = look(443, through(proxy), host="server.invalid")
    assert (found.verdict, found.faults) == ("inconclusive", ())
    assert "The proxy http://" in found.answer


def test_no_proxy_is_there() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    found = look(443, Reach(Proxy(HOST, port)), host="server.invalid")
    assert found.verdict == "inconclusive"
    assert f"no connection to the proxy http://{HOST}:{port} (Connection refused)" in found.answer


def test_a_proxy_that_stops_midway_is_no_punishment(hybrid_port: int) -> None:
    """The control fails after a failure, twice: but the proxy lets nothing through, which may be a limit of its own."""
    judge = real.refuse(lambda hello: HYBRID in hello.supported_groups, real.ALERT_40)
    with real.Proxy(hybrid_port, judge) as server, LimitingProxy() as proxy:
        found = look(server.port, through(proxy))
    assert "F40" not in found.fault_ids
    assert found.verdict == "inconclusive"
    assert "did not get as far as TLS" in " ".join(found.notes)


class LimitingProxy(ConnectProxy):
    """Of seven connections in a row, from the fourth on, three are refused."""

    def _serve(self, connection: socket.socket) -> None:
        self._answer = b"HTTP/1.1 503 Busy\r\n\r\n" if len(self.asked) % 7 in (2, 3) else b""
        super()._serve(connection)


def test_a_tunnel_that_is_late_after_failures_may_hide_a_penalty(hybrid_port: int) -> None:
    """Behind a proxy it is the proxy that asks in vain for a connection: seen here, its yes comes late."""
    judge = real.refuse(lambda hello: HYBRID in hello.supported_groups, real.ALERT_40)
    with real.Proxy(hybrid_port, judge) as server, ConnectProxy() as proxy:
        found = look(server.port, through(proxy))
    assert "F40" not in found.also_fits
    attempts, is_after_failure = [], False
    for attempt in found.attempts:
        attempts.append(replace(attempt, preamble_s=2.5) if is_after_failure else attempt)
        is_after_failure = attempt.ending != "answered"
    late = qualify(diagnose(attempts), through(proxy))
    assert (late.fault_ids, "F40" in late.also_fits) == ({"F23"}, True)
    assert "took up to 2.5 s more for its tunnel" in late.answer


def test_credentials_reach_the_proxy_and_nothing_else(
    hybrid_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    password = "s3cret!?"  # noqa: S105 - the test's own
    file = tmp_path / "found.json"
    with ConnectProxy(credentials=f"user:{password}") as proxy:
        place = f"{HOST}:{proxy.port}"
        target = f"{HOST}:{hybrid_port}"
        assert run_app(["path", target, "--proxy", f"http://user:{password}@{place}"]) == 2
        assert run_app(["path", target, "--proxy", f"http://user@{place}"]) == 3
        assert "does not take these credentials (407)" in capfd.readouterr().out
        assert run_app(["path", target, "--proxy", place]) == 3
        assert "put http://USER:PASSWORD@" in capfd.readouterr().out
        monkeypatch.setenv("PQTLS_PROXY", f"http://user:s3cret%21%3F@{place}")
        assert run_app(["path", target, "--json", str(file)]) == 0
        monkeypatch.delenv("PQTLS_PROXY")
        assert run_app(["path", target, "--proxy", "env"]) == 2
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cret%21%3F@{place}")
        assert run_app(["path", target, "--proxy", "env", "--json", "-"]) == 0
        assert run_app(["path", f"{HOST}:1"]) == 3
    told = capfd.readouterr()
    assert "HTTPS_PROXY is set; `--proxy env` goes through that proxy" in told.err
    assert "s3cret" not in told.out + told.err + file.read_text()
    assert json.loads(file.read_text())["proxy"] == f"http://{place}"
    assert f"via      the proxy http://{place}" in told.err


@pytest.mark.parametrize(
    ("url", "host", "port", "credentials"),
    [
        ("http://proxy.example:3128", "proxy.example", 3128, None),
        ("proxy.example:8080", "proxy.example", 8080, None),
        ("http://proxy.example/", "proxy.example", 80, None),
        ("http://a%40b:c%3Ad@[::1]:8080", "::1", 8080, "a@b:c:d"),
        ("http://user@proxy.example:1", "proxy.example", 1, "user:"),
    ],
)
def test_proxy_urls(url: str, host: str, port: int, credentials: str | None) -> None:
    proxy = parse_proxy(url, "--proxy")
    assert (proxy.host, proxy.port, proxy.credentials) == (host, port, credentials)
    assert "c:d" not in repr(proxy) + str(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "https://p:1",
        "socks5://p:1",
        "http://",
        "http://s3cret@p:99999",
        "http://s3cret@p:1/x",
        "http://s3cret@[::1",
        "h t",
    ],
)
def test_what_is_no_proxys_url_is_not_echoed(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_proxy(url, "--proxy")
    assert "s3cret" not in str(raised.value)


def test_passwords_in_urls_are_found() -> None:
    assert has_password("http://u:p@h:1")
    assert has_password("u:p@h")
    assert not has_password("http://u@h:1")
    assert not has_password("http://h:1")


# STARTTLS.


@pytest.mark.parametrize("protocol", before.STARTTLS)
def test_starttls(protocol: str, hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, after(before.STARTTLS[protocol], real.read_whole)) as server:
        found = look(server.port, Reach(starttls=protocol), is_full=protocol == "postgres")
    assert (found.verdict, found.server_state, found.starttls) == ("healthy", "preferred", protocol)
    assert {attempt.ending for attempt in found.attempts} == {"answered"}


@pytest.mark.parametrize("protocol", before.STARTTLS)
def test_a_server_that_reads_once_behind_starttls(protocol: str, hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, after(before.STARTTLS[protocol], real.read_once)) as server:
        found = look(server.port, Reach(starttls=protocol))
    assert found.fault_ids == {"F01"}, found.answer


def test_the_hello_leaves_in_segments_of_its_own_after_starttls(hybrid_port: int) -> None:
    """Whatever was said before: the first read after it holds the first write and no more."""
    arrived: list[int] = []

    def judge(connection: socket.socket) -> bytes | None:
        time.sleep(0.1)
        data = connection.recv(65_536)
        arrived.append(len(data))
        return data

    with real.Proxy(hybrid_port, after(before.smtp_at_once, judge)) as server:
        network = prepared.PreparedNetwork(SocketNetwork(socket.AF_INET, (HOST, server.port)), [PROTOCOLS["smtp"].ask])
        attempt = Prober(network, real.NAME).attempt(EXPERIMENTS["E3"], 0, 0.0, 5.0)
    assert attempt.ending == "answered"
    assert attempt.sent is not None
    assert arrived == [attempt.sent.write_ends[0]]


def test_starttls_through_a_proxy_in_one_read(hybrid_port: int) -> None:
    """The proxy's yes and the server's greeting may come together."""

    def both(connection: socket.socket, yes: bytes) -> None:
        connection.sendall(yes + before.mysql_greeting(0x8008_8800))

    def without_greeting(connection: socket.socket) -> bool:
        read = b""
        while len(read) < 36:
            read += connection.recv(36 - len(read))
        return True

    with real.Proxy(hybrid_port, after(without_greeting, real.read_whole)) as server, ConnectProxy(both) as proxy:
        reach = Reach(Proxy(HOST, proxy.port), "mysql")
        found = look(server.port, reach)
    assert (found.verdict, found.server_state) == ("healthy", "preferred")


MYSQL_ERROR = b"\x17\0\0\0\xff\x10\x04" + b"Too many connections "
NOT_OFFERED: list[tuple[str, Callable[[socket.socket], bool], str, int]] = [
    ("smtp", before.smtp_without, "does not offer STARTTLS", 1),
    ("smtp", say(b"554 5.7.1 go away\r\n"), "turns this client away before any word of it (554)", 1),
    ("smtp", say(b"421 busy\r\n"), "turns this client away before any word of it (421)", 2),
    ("smtp", say(b"220 a\r\n", b"502 no\r\n", pause_s=0.05), "does not take EHLO", 1),
    ("smtp", say(b"220-a\r\n221 b\r\n"), "speaks no SMTP", 1),
    ("smtp", say(b"220-a\r\n" * 200), "speaks no SMTP", 1),
    ("smtp", say(b"220 a\r\n250 STARTTLS\r\n"), "does not offer STARTTLS", 1),
    ("smtp", say(b"220 a\r\n250-b\r\n250 STARTTLS\r\n220 c\r\n\x16\x03"), "2 bytes more", 2),
    ("imap", before.imap_without, "does not offer STARTTLS", 1),
    ("imap", say(b"* PREAUTH hello\r\n"), "PREAUTH", 1),
    ("imap", say(b"* BYE\r\n"), "BYE", 2),
    ("imap", say(b"* OK\r\np1 BAD no\r\np2 NO no\r\n"), "refuses STARTTLS", 1),
    ("imap", say(b"* OK\r\n" + b"* \r\n" * 300), "without end", 1),
    ("imap", say(b"\r\n"), "speaks no IMAP", 1),
    ("postgres", lambda connection: before.postgres(connection, b"N"), "switched off", 1),
    ("postgres", say(b"E"), "by an error", 2),
    ("postgres", say(b"SE"), "1 bytes more", 2),
    ("postgres", say(b"220 mail\r\n"), "no PostgreSQL server", 1),
    ("mysql", lambda connection: before.mysql(connection, 0x8008_8000), "has no TLS", 1),
    ("mysql", say(MYSQL_ERROR), "error 1040", 2),
    ("mysql", say(b"\xff\xff\xff\0"), "no MySQL or MariaDB server", 1),
    ("mysql", say(b"\x05\0\0\0\x0a8.0"), "closed", 2),
    ("mysql", say(b"\x05\0\0\0\x0a8.0\0"), "no MySQL or MariaDB server", 1),
    ("mysql", say(b"\0\0\0\0"), "no MySQL or MariaDB server", 1),
]


@pytest.mark.parametrize(
    ("protocol", "preamble", "words", "count"),
    NOT_OFFERED,
    ids=[f"{n} {e[0]} {e[2]}" for n, e in enumerate(NOT_OFFERED)],
)
def test_servers_that_do_not_turn_to_tls(
    protocol: str, preamble: Callable[[socket.socket], bool], words: str, count: int
) -> None:
    def judge(connection: socket.socket) -> None:
        connection.settimeout(0.4)  # then it hangs up
        preamble(connection)

    with real.Proxy(0, judge) as server:
        found = look(server.port, Reach(starttls=protocol))
    assert (found.verdict, found.faults) == ("inconclusive", ())
    assert words in found.answer, found.answer
    assert len(found.attempts) == count


@pytest.mark.parametrize("protocol", before.STARTTLS)
def test_hostile_bytes_before_tls(protocol: str) -> None:
    """Any bytes, in pieces of any size: an error of our own or TLS, and never more than is bounded."""
    import random

    rng = random.Random(protocol)  # noqa: S311 - seeded
    words = [
        b"220 ",
        b"250-STARTTLS",
        b"\r\n",
        b"* ",
        b"OK",
        b"p1 OK\n",
        b"p2 OK\n",
        b"S",
        b"\x0a8\0",
        b"\x4a\0\0\0",
        bytes(60),
    ]
    for _ in range(300):
        stream = b"".join(
            rng.choice(words) if rng.random() < 0.9 else rng.randbytes(9) for _ in range(rng.randrange(40))
        )
        pieces = FakeConnection(stream, rng.randrange(1, 9))
        with contextlib.suppress(BeforeTlsError):
            PROTOCOLS[protocol].ask(Dialogue(pieces, lambda: 0.0, 1.0))
        with contextlib.suppress(BeforeTlsError):
            open_tunnel(Dialogue(FakeConnection(stream, 3), lambda: 0.0, 1.0), Proxy("p", 1), "h", 2)


class FakeConnection:
    """A stream in pieces, and then its end."""

    address, local_port, preamble_s, is_relayed = HOST, 1, 0.0, False

    def __init__(self, stream: bytes, size: int) -> None:
        self._pieces = [stream[at : at + size] for at in range(0, len(stream), size)]

    def send(self, data: bytes, timeout_s: float) -> None:
        pass

    def receive(self, timeout_s: float) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def tcp_facts(self) -> None:
        pass

    def close(self, linger_s: float) -> None:
        pass

    def abort(self) -> None:
        pass


def test_a_dialogue_ends_in_time() -> None:
    """A byte now and then does not keep it alive."""
    clock = iter(range(1000))
    dialogue = Dialogue(FakeConnection(b"x" * 500, 1), lambda: float(next(clock)), 15.0)
    with pytest.raises(BeforeTlsError, match="did not finish its answer within 15 s"):
        dialogue.read_line()


# Address families.


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


@pytest.fixture
def both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost over both, whatever this machine's files say."""
    real_lookup = socket.getaddrinfo

    def lookup(host: Any, port: Any, family: int = 0, *rest: Any) -> Any:
        if host != "localhost":
            return real_lookup(host, port, family, *rest)
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port)),
        ]
        return [each for each in found if family in (0, each[0])]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


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


# Several targets, and a far end over IPv6.


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
    assert [json.loads(line)["server_state"] for line in file.read_text().splitlines()] == ["preferred", "classical"]
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
    assert len((tmp_path / "found.json").read_text().splitlines()) == 1
    assert "1 target, 1 examined: 1 healthy; 2 of 3 not examined" in output


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
