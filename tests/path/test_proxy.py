"""Through HTTP proxies: what is there is still named, and nothing else is."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pqtls.cli import run_app
from pqtls.errors import UsageError
from pqtls.path.diagnose import diagnose
from pqtls.path.diagnosis import Diagnosis
from pqtls.path.reach import Reach, qualify
from pqtls.probe.http_proxy import Proxy, has_password, parse_proxy
from pqtls.probe.model import HYBRID
from tests.path import before_tls as before
from tests.path import real_servers as real
from tests.path.before_tls import ConnectProxy
from tests.path.reaching import HOST, look, through

pytestmark = pytest.mark.usefixtures("quick")


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
def test_silence_behind_a_proxy(hybrid_port: int) -> None:
    """Told straight, a hole shows by bytes that nobody acknowledged; behind a proxy it is silence like any other."""

    def look_through(server: real.Proxy) -> Diagnosis:
        with server, ConnectProxy() as proxy:
            return look(server.port, through(proxy))

    servers = Hole(hybrid_port, before.pass_on), real.Proxy(hybrid_port, mute_buffer)
    with ThreadPoolExecutor() as pool:  # both wait most of the time
        hole, buffer = pool.map(look_through, servers)
    assert "F13" in hole.fault_ids, hole.answer
    assert "F03" not in hole.fault_ids, "a second hello, after a retry, was lost too"
    assert buffer.fault_ids == {"F03", "F06"}, buffer.answer
    # The same outcomes on the straight way: there the kernel would know of a closed window.
    sent = [(attempt, attempt.sent) for attempt in buffer.attempts if attempt.sent]
    straight = diagnose([replace(attempt, sent=replace(each, is_relayed=False)) for attempt, each in sent])
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


@pytest.mark.parametrize("send", [lambda *_: time.sleep(1), before.hang_up], ids=["silent", "reset"])
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
    assert late.fault_ids == {"F23"}
    assert "F40" in late.also_fits
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
