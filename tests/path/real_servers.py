"""Real TLS servers on loopback, and small proxies that get the ClientHello wrong in one way each."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import trustme

from pqtls.wire.buffer import push_int, push_vector
from pqtls.wire.codepoints import HELLO_RETRY_RANDOM, SUPPORTED_VERSIONS, TLS12, TLS13
from pqtls.wire.codepoints import KEY_SHARE as KEY_SHARE_TYPE
from pqtls.wire.extensions import Extension
from pqtls.wire.records import Record
from pqtls.wire.server_hello import ServerHello
from tests.path.servers_model import HYBRID, read_hello
from tests.tls_server import serve_on_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pqtls.wire.client_hello import ClientHello

NAME = "server.example"
ALERT_40, ALERT_47, ALERT_50 = (b"\x15\x03\x01\x00\x02\x02" + bytes((code,)) for code in (40, 47, 50))

_SCRIPT = r"""
import os, socket, ssl, sys, threading

def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)

def serve(connection):
    try:
        connection.settimeout(8)
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)
    except Exception:
        pass
    finally:
        connection.close()

threading.Thread(target=end_with_parent, daemon=True).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
if len(sys.argv) > 2:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def write_certificate(folder: Path, *names: str) -> Path:
    """Write a certificate and its key of an authority that nobody trusts; return the file."""
    leaf = trustme.CA().issue_cert(*(names or (NAME,)))
    pem = folder / f"{'-'.join(names) or NAME}.pem"
    pem.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return pem


@contextlib.contextmanager
def run_server(pem: Path, environment: Mapping[str, str], groups: str = "", *, is_tls12: bool = False) -> Iterator[int]:
    """Run Python's ssl as a server in a process of its own; yield its port."""
    variables = dict(environment)
    if groups:
        conf = pem.parent / f"groups-{groups.replace(':', '-').replace('/', '_')}.cnf"
        conf.write_text(
            f"openssl_conf = i\n[i]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\nGroups = {groups}\n", encoding="utf-8"
        )
        variables["OPENSSL_CONF"] = str(conf)
    command = [sys.executable, "-I", "-c", _SCRIPT, str(pem), *(["tls12"] if is_tls12 else [])]
    with run_process(command, variables) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextlib.contextmanager
def run_process(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        command,
        env=dict(os.environ if environment is None else environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Proxy:
    """Takes connections on loopback, lets `judge` read the first bytes, and passes them on if it returns them.

    Args:
        upstream_port: Where good connections go on to.
        judge: Reads from the client; returns what to pass on, or None once it has refused.
    """

    def __init__(self, upstream_port: int, judge: Callable[[socket.socket], bytes | None]) -> None:
        self._upstream_port = upstream_port
        self._judge = judge
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _choose_upstream(self, data: bytes) -> int:
        """Return the port to go on to, by the first bytes; the same for all of them here."""
        del data
        return self._upstream_port

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(15)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = self._judge(connection)
            if data is None:
                return
            with socket.create_connection(("127.0.0.1", self._choose_upstream(data)), 10) as upstream:
                upstream.sendall(data)
                back = threading.Thread(target=pump, args=(upstream, connection), daemon=True)
                back.start()
                pump(connection, upstream)
                back.join(timeout=10)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def reset(connection: socket.socket) -> None:
    """Close with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_whole(connection: socket.socket) -> bytes:
    """Read until the hello is complete, as one ought to."""
    data = b""
    while read_hello(data) is None:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


def read_once(connection: socket.socket) -> bytes | None:
    data = connection.recv(65_536)
    if read_hello(data) is not None:
        return data
    connection.sendall(ALERT_50)
    return None


def look_once(size_bytes: int, is_enough: Callable[[bytes], bool]) -> Callable[[socket.socket], bytes | None]:
    """One look into a buffer, by whatever is enough; then a reset. The rest is passed on as it comes."""

    def judge(connection: socket.socket) -> bytes | None:
        data = connection.recv(size_bytes)
        if is_enough(data):
            return data
        reset(connection)
        return None

    return judge


def has_record(data: bytes) -> bool:
    """Tell whether the first record is whole, by its own length: whether the hello is, is not asked."""
    return len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[3:5], "big")


def has_name(data: bytes) -> bool:
    return NAME.encode() in data


def peek_into(size_bytes: int) -> Callable[[socket.socket], bytes | None]:
    def judge(connection: socket.socket) -> bytes | None:
        data = b""
        while len(data) < size_bytes and read_hello(data) is None:
            piece = connection.recv(size_bytes - len(data))
            if not piece:
                return None
            data += piece
        return data if read_hello(data) is not None else None

    return judge


def refuse(dislikes: Callable[[ClientHello], bool], answer: bytes) -> Callable[[socket.socket], bytes | None]:
    """Refuse hellos for what is in them: by an alert, or by a reset if the answer is empty."""

    def judge(connection: socket.socket) -> bytes | None:
        data = read_whole(connection)
        found = read_hello(data)
        assert found is not None
        if not dislikes(found[0]):
            return data
        if answer:
            connection.sendall(answer)
        else:
            reset(connection)
        return None

    return judge


def first_record_only(connection: socket.socket) -> bytes | None:
    data = read_whole(connection)
    found = read_hello(data)
    assert found is not None
    if found[1] < found[2]:
        connection.sendall(ALERT_50)
        return None
    return data


def broken_retry(*, is_echoed: bool = True, is_needless: bool = False) -> Callable[[socket.socket], bytes | None]:
    """Ask for x25519 where no share for it came, and close on the second hello.

    Args:
        is_echoed: The session id is sent back, as it must be.
        is_needless: It is asked for beside a hybrid's share, though its share came with that.
    """

    def judge(connection: socket.socket) -> bytes | None:
        data = read_whole(connection)
        hello = hello_of(data)
        shares = [share.group for share in hello.key_shares or ()]
        if 0x1D in shares and not (is_needless and HYBRID in shares):
            return data
        answer_with_retry(connection, hello, 0x1D, is_echoed=is_echoed)
        return None

    return judge


def hello_of(data: bytes) -> ClientHello:
    """Return the hello that the bytes are."""
    found = read_hello(data)
    assert found is not None
    return found[0]


def answer_with_retry(connection: socket.socket, hello: ClientHello, group: int, *, is_echoed: bool = True) -> None:
    """Ask for a share of a group, and end on the second hello."""
    retry = ServerHello(
        TLS12,
        HELLO_RETRY_RANDOM,
        hello.session_id if is_echoed else b"",
        0x1301,
        0,
        (Extension(SUPPORTED_VERSIONS, push_int(TLS13, 2)), Extension(KEY_SHARE_TYPE, push_int(group, 2))),
    ).build()
    connection.sendall(Record(22, TLS12, b"\x02" + push_vector(retry, 3)).build())
    connection.recv(65_536)


@contextlib.contextmanager
def run_minting_server() -> Iterator[int]:
    """A TLS server that makes a certificate for whatever name is asked for, on P-256 alone: an inspecting box."""
    authority = trustme.CA(organization_name="Some Gateway CA")

    def new_context(name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ecdh_curve("prime256v1")
        authority.issue_cert(name).configure_cert(context)
        return context

    def choose(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        tls.context = new_context(name or "nobody.example")

    context = new_context("nobody.example")
    context.sni_callback = choose

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)

    with serve_on_loopback(answer) as port:
        yield port
