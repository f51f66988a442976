"""What stands before TLS, on loopback: CONNECT proxies and servers that begin in plain text, good ones and bad ones."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from tests.path.real_servers import Proxy, pump, reset

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT_SSL = 0x0800


def drip(connection: socket.socket, data: bytes) -> None:
    """Send in pieces of a few bytes, none of which is a line."""
    for at in range(0, len(data), 9):
        connection.sendall(data[at : at + 9])
        time.sleep(0.0002)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read to an end and not further."""
    data = b""
    while not data.endswith(end):
        piece = connection.recv(1)
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


def after(
    preamble: Callable[[socket.socket], bool], judge: Callable[[socket.socket], bytes | None]
) -> Callable[[socket.socket], bytes | None]:
    """Return a judge for `real_servers.Proxy` that begins in plain text."""

    def both(connection: socket.socket) -> bytes | None:
        return judge(connection) if preamble(connection) else None

    return both


def pass_on(connection: socket.socket) -> bytes:
    """Judge nothing: what comes goes on as it comes."""
    return connection.recv(65_536)


# Servers that begin in plain text.


def smtp(connection: socket.socket, send: Callable[[socket.socket, bytes], None] = drip) -> bool:
    """Multi-line everything, and lower case where that is allowed."""
    send(connection, b"220-mail.example ESMTP\r\n220-no spam\r\n220 ready\r\n")
    assert read_until(connection, b"\r\n").startswith(b"EHLO ")
    send(connection, b"250-mail.example at your service\r\n250-SIZE 1000\r\n250-starttls\r\n250 HELP\r\n")
    assert read_until(connection, b"\r\n") == b"STARTTLS\r\n"
    send(connection, b"220 2.0.0 go ahead\r\n")
    return True


def smtp_at_once(connection: socket.socket) -> bool:
    return smtp(connection, socket.socket.sendall)


def smtp_without(connection: socket.socket) -> bool:
    """Its greeting speaks of STARTTLS; that is no offer."""
    drip(connection, b"220 STARTTLS.example ESMTP\r\n")
    read_until(connection, b"\r\n")
    connection.sendall(b"250-STARTTLS is my name\r\n250-XXXXXXXA\r\n250 HELP\r\n")
    read_until(connection, b"\r\n")
    return False


def imap(connection: socket.socket, send: Callable[[socket.socket, bytes], None] = drip) -> bool:
    send(connection, b"* OK [CAPABILITY IMAP4rev1] hello\r\n")
    tag = read_until(connection, b"\r\n").split()[0]
    send(connection, b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n* NOOP nothing\r\n" + tag + b" OK done\r\n")
    tag = read_until(connection, b"\r\n").split()[0]
    send(connection, b"* OK still here\r\n" + tag.lower() + b" ok begin\r\n")
    return True


def imap_without(connection: socket.socket) -> bool:
    connection.sendall(b"* OK hello\r\n")
    tag = read_until(connection, b"\r\n").split()[0]
    connection.sendall(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n" + tag + b" OK done\r\n")
    return False


def postgres(connection: socket.socket, answer: bytes = b"S") -> bool:
    assert read_until(connection, b"\x04\xd2\x16\x2f") == struct.pack("!II", 8, 80877103)
    connection.sendall(answer)
    return answer == b"S"


def mysql_greeting(capabilities: int) -> bytes:
    body = b"\x0a11.4.2-example\0" + bytes(12) + b"\0" + (capabilities & 0xFFFF).to_bytes(2, "little")
    body += b"\x2d\x02\x00" + (capabilities >> 16).to_bytes(2, "little") + b"\x15" + bytes(10) + bytes(13)
    body += b"mysql_native_password\0"
    return len(body).to_bytes(3, "little") + b"\0" + body


def mysql(connection: socket.socket, capabilities: int = 0x8008_8000 | CLIENT_SSL) -> bool:
    drip(connection, mysql_greeting(capabilities))
    if not capabilities & CLIENT_SSL:
        connection.recv(1)
        return False
    request = b""
    while len(request) < 36:
        request += connection.recv(36 - len(request))
    assert request[:4] == b"\x20\0\0\x01"
    assert int.from_bytes(request[4:8], "little") & CLIENT_SSL
    return True


STARTTLS: dict[str, Callable[[socket.socket], bool]] = {
    "smtp": smtp,
    "imap": imap,
    "postgres": postgres,
    "mysql": mysql,
}


def say(*parts: bytes, pause_s: float = 0.0) -> Callable[[socket.socket], bool]:
    """Say this whatever the client says, and then wait until it is gone."""

    def preamble(connection: socket.socket) -> bool:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        with contextlib.suppress(OSError):
            while connection.recv(65_536):
                pass
        return False

    return preamble


# Proxies.


class ConnectProxy(Proxy):
    """An HTTP proxy that does CONNECT.

    Args:
        send: How it sends its answer.
        credentials: What it wants, as USER:PASSWORD.
        answer: Its answer, if it is another than yes.
    """

    def __init__(
        self,
        send: Callable[[socket.socket, bytes], None] = socket.socket.sendall,
        credentials: str = "",
        answer: bytes = b"",
    ) -> None:
        super().__init__(0, lambda _: None)
        self.asked: list[str] = []
        self._send = send
        self._credentials = credentials
        self._answer = answer
        self.upstream_host = "127.0.0.1"

    def __enter__(self) -> ConnectProxy:
        super().__enter__()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(15)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = read_until(connection, b"\r\n\r\n").decode()
            method, place, _ = head.splitlines()[0].split(" ")
            assert method == "CONNECT"
            self.asked.append(place)
            wanted = f"Basic {base64.b64encode(self._credentials.encode()).decode()}"
            if self._credentials and f"Proxy-Authorization: {wanted}" not in head:
                connection.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate, Basic realm=x\r\n\r\n<html>no")
                return
            if self._answer:
                self._send(connection, self._answer)
                return
            with socket.create_connection((self.upstream_host, int(place.rpartition(":")[2])), 10) as upstream:
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yes = b"HTTP/1.1 200 Connection established\r\nX-Filler: " + b"f" * 300 + b"\r\n\r\n"
                self._send(connection, yes)
                back = threading.Thread(target=carry, args=(upstream, connection), daemon=True)
                back.start()
                carry(connection, upstream)
                back.join(timeout=10)


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes, and the end in whatever way it came: an end that is kept back would look like silence."""
    pump(source, sink)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def hang_up(connection: socket.socket, _: bytes) -> None:
    reset(connection)
