from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest

from pqtls.errors import UsageError
from pqtls.lab.names import LOOPBACK
from pqtls.lab.router import Router
from pqtls.wire.facts import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pqtls.lab.entry import Entry
    from pqtls.lab.names import Address

HOST = "inside.example"
MEGABYTE = 1 << 20


class Notes:
    """A witness that remembers."""

    def __init__(self, client: str, server: str, host: str) -> None:
        self.names = (client, server, host)
        self.data = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self.times: list[int] = []
        self.endings: list[Literal["closed", "reset"] | None] = []

    def receive(self, side: Side, data: bytes, time_ns: int) -> None:
        self.data[side] += data
        self.times.append(time_ns)

    def finished(self, how: Literal["closed", "reset"] | None) -> None:
        self.endings.append(how)


class Witnesses(list[Notes]):
    def make(self, client: str, server: str, host: str) -> Notes:
        self.append(Notes(client, server, host))
        return self[-1]


@contextmanager
def server(handle: Callable[[socket.socket], None], accepted: list[Address] | None = None) -> Iterator[Address]:
    """Serve connections one after the other in a thread."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                if accepted is not None:
                    accepted.append(peer)
                with connection:
                    connection.settimeout(10)
                    handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[:2]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65_536):
        connection.sendall(data)


def answer_after_the_end(connection: socket.socket) -> None:
    received = sum(len(data) for data in iter(lambda: connection.recv(65_536), b""))
    connection.sendall(f"{received} bytes".encode())


def dial(entry: Entry) -> socket.socket:
    return socket.create_connection((LOOPBACK, entry.dial_port), timeout=10)


def ask_proxy(entry: Entry, request: bytes) -> tuple[bytes, socket.socket]:
    """Return the head of the proxy's answer and the connection."""
    connection = socket.create_connection((LOOPBACK, entry.proxy_port), timeout=10)
    connection.sendall(request)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = connection.recv(1)
        assert data
        head += data
    return head, connection


def receive_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("by", ["proxy", "dial"])
def test_large_transfers_both_ways_at_once(router: Router, by: str) -> None:
    sent = os.urandom(8 * MEGABYTE)
    witnesses = Witnesses()
    with (
        server(echo) as target,
        router.open_entry({HOST: target}, dial=target, witness_factory=witnesses.make) as entry,
    ):
        if by == "proxy":
            head, connection = ask_proxy(entry, f"CONNECT {HOST.upper()}:443 HTTP/1.1\r\n\r\n".encode())
            assert head.startswith(b"HTTP/1.1 200 ")
        else:
            connection = dial(entry)
        with connection:
            client = "{}:{}".format(*connection.getsockname())

            def send() -> None:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            assert receive_all(connection) == sent
            sender.join()
    (notes,) = witnesses
    assert notes.names == (client, "{}:{}".format(*target), HOST if by == "proxy" else "")
    assert notes.data == {Side.CLIENT: sent, Side.SERVER: sent}
    assert notes.endings == ["closed"]
    assert notes.times == sorted(notes.times)
    assert entry.connections == 1
    assert entry.refused == []


def test_a_half_closed_stream_still_gets_its_answer(router: Router) -> None:
    with server(answer_after_the_end) as target, router.open_entry({}, dial=target) as entry, dial(entry) as connection:
        connection.sendall(bytes(MEGABYTE))
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == b"1048576 bytes"


def test_what_comes_with_the_request_is_not_lost(router: Router) -> None:
    with server(echo) as target, router.open_entry({HOST: target}) as entry:
        assert entry.dial_port == 0
        _, connection = ask_proxy(entry, f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: x\r\n\r\nearly".encode())
        with connection:
            connection.shutdown(socket.SHUT_WR)
            assert receive_all(connection) == b"early"


@pytest.mark.parametrize(
    ("request_line", "host"),
    [
        ("CONNECT outside.example:443 HTTP/1.1", "outside.example"),
        ("CONNECT [2001:db8::1]:443 HTTP/1.1", "2001:db8::1"),
        ("GET http://outside.example/ HTTP/1.1", "outside.example"),
        (f"GET http://{HOST}/ HTTP/1.1", HOST),
        ("CONNECT [:443 HTTP/1.1", ""),
        ("hello", ""),
    ],
)
def test_everything_else_is_refused_and_nothing_is_contacted(router: Router, request_line: str, host: str) -> None:
    accepted: list[Address] = []
    witnesses = Witnesses()
    with (
        server(echo, accepted) as target,
        router.open_entry({HOST: target}, dial=target, witness_factory=witnesses.make) as entry,
    ):
        head, connection = ask_proxy(entry, f"{request_line}\r\n\r\n".encode())
        with connection:
            assert head.startswith(b"HTTP/1.1 403 ")
            assert receive_all(connection) == b""
    assert entry.refused == [host]
    assert entry.connections == 0
    assert accepted == []
    assert witnesses == []


def test_a_head_without_end_is_cut_off(router: Router) -> None:
    with router.open_entry({}) as entry, socket.create_connection((LOOPBACK, entry.proxy_port), timeout=10) as client:
        client.sendall(b"CONNECT " + b"a" * 20_000)
        with contextlib.suppress(ConnectionResetError):  # closed or reset: both are an end
            assert receive_all(client) == b""
        assert entry.connections == 0


def test_a_target_that_does_not_answer_is_a_bad_gateway(router: Router) -> None:
    with socket.create_server((LOOPBACK, 0)) as closed:
        target = closed.getsockname()[:2]
    with router.open_entry({HOST: target}) as entry:
        head, connection = ask_proxy(entry, f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
        connection.close()
        assert head.startswith(b"HTTP/1.1 502 ")


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_the_clients_reset_reaches_the_server(router: Router) -> None:
    witnesses = Witnesses()
    seen: list[type[Exception] | bytes] = []
    begun, over = threading.Event(), threading.Event()

    def handle(connection: socket.socket) -> None:
        try:
            seen.append(connection.recv(10))
            begun.set()
            seen.append(connection.recv(10))
        except OSError as error:
            seen.append(type(error))
        over.set()

    with server(handle) as target, router.open_entry({}, dial=target, witness_factory=witnesses.make) as entry:
        connection = dial(entry)
        connection.sendall(b"hello")
        assert begun.wait(10)
        reset(connection)
        assert over.wait(10)
    assert seen == [b"hello", ConnectionResetError]
    assert witnesses[0].endings == ["reset"]


def test_the_servers_reset_reaches_the_client(router: Router) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(10)
        reset(connection)

    with server(handle) as target, router.open_entry({}, dial=target) as entry, dial(entry) as connection:
        connection.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            connection.recv(10)


def test_a_reader_that_stops_stops_the_writer(router: Router) -> None:
    over = threading.Event()

    def handle(_: socket.socket) -> None:
        over.wait(30)

    limit = 128 * MEGABYTE
    witnesses = Witnesses()
    with (
        server(handle) as target,
        router.open_entry({}, dial=target, witness_factory=witnesses.make) as entry,
        dial(entry) as connection,
    ):
        connection.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < limit:
                sent += connection.send(bytes(MEGABYTE))
        assert len(witnesses[0].data[Side.CLIENT]) <= sent < limit  # what the kernels hold, and one chunk
        over.set()


class Clumsy(Notes):
    def receive(self, side: Side, data: bytes, time_ns: int) -> None:
        raise ZeroDivisionError


class ClumsyAtTheEnd(Notes):
    def finished(self, how: Literal["closed", "reset"] | None) -> None:
        raise ZeroDivisionError


def no_witness(client: str, server: str, host: str) -> Notes:
    raise ZeroDivisionError


@pytest.mark.parametrize("factory", [Clumsy, ClumsyAtTheEnd, no_witness])
def test_a_witness_that_fails_is_reported_and_the_traffic_goes_on(
    router: Router, factory: Callable[[str, str, str], Notes]
) -> None:
    with (
        server(echo) as target,
        router.open_entry({}, dial=target, witness_factory=factory) as entry,
        dial(entry) as connection,
    ):
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == b"hello"
    assert [type(error) for error in entry.witness_errors] == [ZeroDivisionError]


def test_closing_an_entry_cuts_what_does_not_end(router: Router) -> None:
    witnesses = Witnesses()
    with server(echo) as target:
        entry = router.open_entry({}, dial=target, witness_factory=witnesses.make)
        with dial(entry) as connection:
            connection.sendall(b"hello")
            assert connection.recv(10) == b"hello"
            entry.close(grace_s=0.0)
            entry.close()  # twice is harmless
            assert connection.recv(10) == b""
    assert witnesses[0].endings == [None]
    with pytest.raises(ConnectionRefusedError):
        dial(entry)


def test_a_taken_port_is_said_in_one_sentence(router: Router) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as raised:
            router.open_entry({}, port=port)
    assert str(raised.value) == (f"Port {port} on loopback cannot be had: Address already in use. Choose another one.")


def test_a_fixed_port_can_be_had_again_at_once(router: Router) -> None:
    with server(echo) as target:
        port = 0
        for _ in range(3):
            with router.open_entry({HOST: target}, port=port) as entry:
                port = port or entry.proxy_port
                assert entry.proxy_port == port
                _, connection = ask_proxy(entry, f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
                entry.close(grace_s=0.0)
                connection.close()


def test_a_router_leaves_nothing_behind() -> None:
    descriptors = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing itself opens one
    threads = set(threading.enumerate())
    with server(echo) as target:
        with pytest.raises(KeyboardInterrupt), Router() as own:  # noqa: PT012 - what happens inside is the point
            entry = own.open_entry({HOST: target}, dial=target)
            connection = dial(entry)
            connection.sendall(b"hello")
            assert connection.recv(10) == b"hello"
            raise KeyboardInterrupt
        assert connection.recv(10) == b""
        connection.close()
        entry.close()  # after its router: harmless
    assert set(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    assert set(threading.enumerate()) == threads
