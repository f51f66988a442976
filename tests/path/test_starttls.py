"""After STARTTLS: what is there is still named; who does not turn to TLS is told in a sentence."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from pqtls.path.reach import Reach
from pqtls.probe import prepared
from pqtls.probe.dialogue import BeforeTlsError, Dialogue
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.probe.http_proxy import Proxy, open_tunnel
from pqtls.probe.network import SocketNetwork
from pqtls.probe.run import Prober
from pqtls.probe.starttls.protocols import PROTOCOLS
from tests.path import before_tls as before
from tests.path import real_servers as real
from tests.path.before_tls import ConnectProxy, after, say
from tests.path.reaching import HOST, look

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("protocol", before.STARTTLS)
def test_starttls(protocol: str, hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, after(before.STARTTLS[protocol], real.read_whole)) as server:
        found = look(server.port, Reach(starttls=protocol))
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
    ("postgres", say(b"SE"), "is the port right?", 2),
    ("postgres", say(b"SSH-2.0-OpenSSH_9.2\r\n"), "speaks SSH, not PostgreSQL", 1),
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

    def limit_hops(self, hops: int | None) -> None:
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
