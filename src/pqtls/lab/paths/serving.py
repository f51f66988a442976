"""The far end's connections: a server, a router by server name, a box that inspects. Threads and blocking sockets."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Protocol

from pqtls.lab.paths.fronts import PATIENCE_S, RefusedError, end, read_hello, splice
from pqtls.lab.paths.tls_server import TlsServer, http_answer
from pqtls.wire.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pqtls.lab.names import Address
    from pqtls.lab.paths.scenario import Front, Tls
    from pqtls.lab.paths.tls_server import Identity

_CHUNK_BYTES = 65_536
_MAX_CONNECTIONS = 200
# Until the next try where a connection could not be taken, such as for want of descriptors.
_RECOVERY_S = 0.1
# The smallest that the kernel allows; it doubles what it is asked for.
_TINY_BUFFER_BYTES = 1
_INSPECTING_CURVE = "prime256v1"


class Peer(Protocol):
    """One connection's TLS, without the connection."""

    verdict: str | None

    def receive(self, data: bytes) -> bytes:
        """Take what the client sent; return what to send to it.

        Args:
            data: The bytes.
        """


class LibraryServer:
    """OpenSSL's server side, sans-IO.

    Args:
        context: Its settings.
        answer: Makes an HTTP answer of a request.
    """

    def __init__(self, context: ssl.SSLContext, answer: Callable[[bytes], bytes]) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._answer = answer
        self._is_finished = False
        self._request = b""
        self.verdict: str | None = None

    def receive(self, data: bytes) -> bytes:
        """See `Peer`."""
        self._incoming.write(data)
        try:
            if not self._is_finished:
                self._tls.do_handshake()
                self._is_finished = True
            self._request += self._tls.read(_CHUNK_BYTES)
            if b"\r\n\r\n" in self._request:
                self._tls.write(self._answer(self._request))
                self.verdict = "close"
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, OSError):
            self.verdict = "close"
        return self._outgoing.read()


def new_context(identity: Identity, *, is_tls12: bool = False, is_inspecting: bool = False) -> ssl.SSLContext:
    """Return OpenSSL's settings for a server.

    Args:
        identity: Its certificate.
        is_tls12: Nothing newer than TLS 1.2.
        is_inspecting: Classical groups only, as of a box that does not know others.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if is_tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if is_inspecting:
        context.set_ecdh_curve(_INSPECTING_CURVE)
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(ssl.DER_cert_to_PEM_cert(each).encode() for each in identity.chain)
    # Python's ssl takes files only; this one is nobody else's, and gone at once.
    with tempfile.NamedTemporaryFile() as file:
        file.write(key + chain)
        file.flush()
        context.load_cert_chain(file.name)
    return context


class Listener:
    """Accepts connections, each handled in a thread, until it is closed.

    Args:
        address: Where; port 0 for any.
        handle: Handles one connection; it is closed after.
        has_tiny_buffer: Its receive buffer is as small as can be.
    """

    def __init__(self, address: Address, handle: Callable[[socket.socket], None], *, has_tiny_buffer: bool = False):
        self._handle = handle
        self._is_closed = False
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address[0] == "::":
            # Every address of this machine; those of IPv4 come in as ::ffff:192.0.2.1.
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if has_tiny_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _TINY_BUFFER_BYTES)
        self._socket.bind(address)
        self._socket.listen(128)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, name="listener", daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self._is_closed:
            self._slots.acquire()
            try:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            except (OSError, RuntimeError):
                # One connection's error, or no descriptor or thread left for it (accept(2)): not the listener's end.
                self._slots.release()
                time.sleep(0 if self._is_closed else _RECOVERY_S)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, MalformedError, RefusedError, ssl.SSLError), connection:
                connection.settimeout(PATIENCE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._handle(connection)
        finally:
            self._slots.release()


def serve_as(front: Front, tls: Tls, identity: Identity) -> Callable[[socket.socket], None]:
    """Return the handler of a server.

    Args:
        front: How it reads.
        tls: What it is able to.
        identity: Its certificate.
    """
    context = new_context(identity, is_tls12=True) if tls.is_tls12 else None

    def handle(connection: socket.socket) -> None:
        data = read_hello(connection, front)
        peer: Peer = TlsServer(tls, identity)
        if context is not None:
            peer = LibraryServer(context, lambda _: http_answer("TLS 1.2"))
        time.sleep(tls.think_s)
        _converse(connection, peer, data)

    return handle


def take_turns(handlers: Sequence[Callable[[socket.socket], None]]) -> Callable[[socket.socket], None]:
    """Return a handler that gives each connection to the next of several.

    Args:
        handlers: The servers of a pool.
    """
    turns = itertools.cycle(handlers)
    lock = threading.Lock()

    def handle(connection: socket.socket) -> None:
        with lock:
            chosen = next(turns)
        chosen(connection)

    return handle


def route_as(front: Front, upstream: Address, default: Address) -> Callable[[socket.socket], None]:
    """Return the handler of a router by server name.

    Args:
        front: How it reads.
        upstream: Where the server is.
        default: Where its default server is.
    """

    def handle(connection: socket.socket) -> None:
        place = upstream
        try:
            data = read_hello(connection, front)
        except RefusedError as refused:
            if not refused.has_default:
                raise
            data, place = refused.data, default
        with socket.create_connection(place, PATIENCE_S) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            splice(connection, server, data)

    return handle


def inspect_as(mint: Callable[[str], Identity], upstream: Address, ca_pem: str) -> Callable[[socket.socket], None]:
    """Return the handler of a box that terminates TLS and makes a connection of its own to the server.

    Args:
        mint: Makes a certificate for a name.
        upstream: Where the server is.
        ca_pem: What the box verifies the server against.
    """
    outward = ssl.create_default_context(cadata=ca_pem)
    outward.check_hostname = False  # of any name that the client asks for; the chain is still verified
    contexts: dict[str, ssl.SSLContext] = {}
    lock = threading.Lock()

    def context_for(name: str) -> ssl.SSLContext:
        with lock:
            if name not in contexts:
                if len(contexts) >= _MAX_CONNECTIONS:
                    contexts.clear()
                contexts[name] = new_context(mint(name), is_inspecting=True)
            return contexts[name]

    def choose(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            tls.context = context_for(name)

    inward = new_context(mint("gateway.invalid"), is_inspecting=True)
    inward.sni_callback = choose

    def handle(connection: socket.socket) -> None:
        with socket.create_connection(upstream, PATIENCE_S) as plain, outward.wrap_socket(plain) as server:

            def ask(request: bytes) -> bytes:
                server.sendall(request)
                answer = b""
                with contextlib.suppress(OSError):
                    while chunk := server.recv(_CHUNK_BYTES):
                        answer += chunk
                return answer

            _converse(connection, LibraryServer(inward, ask), b"")

    return handle


def _converse(connection: socket.socket, peer: Peer, data: bytes) -> None:
    while True:
        output = peer.receive(data) if data else b""
        if output:
            connection.sendall(output)
        if peer.verdict is not None:
            end(connection, peer.verdict)
            return
        data = connection.recv(_CHUNK_BYTES)
        if not data:
            return
