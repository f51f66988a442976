"""The far end: takes TLS connections, writes down what arrived, and says it to those who have the token."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from pqtls.lab.paths.hellos import find_hello
from pqtls.lab.paths.scenario import Tls
from pqtls.lab.paths.serving import Listener
from pqtls.lab.paths.tls_server import Identity, TlsServer
from pqtls.peer.arrivals import MAX_CHUNKS, Arrival, Book
from pqtls.peer.questions import MAX_QUESTION_BYTES, PREAMBLE, read_question, sign_answer
from pqtls.probe.tcp_info import read_tcp_facts
from pqtls.wire.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.lab.names import Address

_CHUNK_BYTES = 65_536
_MAX_STREAM_BYTES = 65_536
_MAX_READS = 1000
_PATIENCE_S = 15.0
_MAX_VISIT_S = 60.0
_MAX_NONCES = 4096
_CERTIFICATE_DAYS = 30


class FarEnd:
    """A server, from its making until it is closed.

    Args:
        address: Where to listen; port 0 for any.
        token: What those who ask must have.
        report: Is told every arrival.

    Raises:
        OSError: The address cannot be had.
    """

    def __init__(self, address: Address, token: str, report: Callable[[Arrival], None] | None = None) -> None:
        self.book = Book()
        self._token = token
        self._report = report
        self._identity = make_identity()
        self._nonces: deque[str] = deque(maxlen=_MAX_NONCES)
        self._lock = threading.Lock()
        self._listener = Listener(address, self._handle)
        self.port = self._listener.port

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _handle(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE_S)
        number, started_s, began = self.book.new_number(), time.time(), time.monotonic()
        visit = _Visit(TlsServer(Tls(flight_bytes=0), self._identity))
        ending = "silent"
        try:
            while data := connection.recv(_CHUNK_BYTES):
                if visit.is_question(data):
                    self._answer(connection, visit.stream, began)
                    return
                output = visit.receive(data, time.monotonic() - began)
                if output:
                    connection.sendall(output)
                if visit.is_over or time.monotonic() - began > _MAX_VISIT_S:
                    break
            ending = "finished" if visit.server.is_finished else "closed"
        except ConnectionError:
            ending = "finished" if visit.server.is_finished else "reset"
        except OSError:
            pass
        self._add(visit.describe(number, started_s, connection, ending))

    def _add(self, arrival: Arrival) -> None:
        self.book.add(arrival)
        if self._report is not None:
            self._report(arrival)

    def _answer(self, connection: socket.socket, line: bytes, began: float) -> None:
        while not line.endswith(b"\n"):
            chunk = connection.recv(MAX_QUESTION_BYTES)
            line += chunk
            if not chunk or len(line) > MAX_QUESTION_BYTES or time.monotonic() - began > _MAX_VISIT_S:
                return
        with contextlib.suppress(ValueError, KeyError, TypeError):
            question = read_question(self._token, line)
            if question is None:
                return
            with self._lock:  # each question is answered once: nobody else can ask it again
                if question[0] in self._nonces:
                    return
                self._nonces.append(question[0])
            connection.sendall(sign_answer(self._token, question[0], *self.book.since(question[1])))


class _Visit:
    """One connection's bytes."""

    def __init__(self, server: TlsServer) -> None:
        self.server = server
        self.stream = b""
        self.is_over = False
        self._chunks: list[tuple[int, float]] = []
        self._hello_bytes = 0
        self._answered = 0
        self._reads = 0
        self._received = 0

    def is_question(self, data: bytes) -> bool:
        """Tell whether this is a question, not TLS; its bytes are kept."""
        if self.stream or not PREAMBLE.startswith(data[: len(PREAMBLE)]):
            return False
        self.stream = data
        return True

    def receive(self, data: bytes, at_s: float) -> bytes:
        self._reads += 1
        self._received += len(data)
        if not self._hello_bytes:
            if len(self._chunks) < MAX_CHUNKS:
                self._chunks.append((len(data), round(at_s, 6)))
            self.stream += data
            with contextlib.suppress(MalformedError):
                found = find_hello(self.stream)
                self._hello_bytes = 0 if found is None else found.size_bytes
        output = self.server.receive(data)
        self._answered += len(output)
        is_too_much = self._reads > _MAX_READS or len(self.stream) > _MAX_STREAM_BYTES
        self.is_over = self.server.verdict is not None or is_too_much
        return output

    def describe(self, number: int, started_s: float, connection: socket.socket, ending: str) -> Arrival:
        facts = read_tcp_facts(connection)
        with contextlib.suppress(OSError):
            host, port = connection.getpeername()[:2]
            host = host.removeprefix("::ffff:") if "." in host else host
            client = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            return self._arrival(number, started_s, client, facts, ending)
        return self._arrival(number, started_s, "", facts, ending)

    def _arrival(self, number: int, started_s: float, client: str, facts: object, ending: str) -> Arrival:
        hello = self.stream[: self._hello_bytes]
        return Arrival(
            number=number,
            started_s=started_s,
            client=client,
            mss_bytes=getattr(facts, "snd_mss", None),
            chunks=tuple(self._chunks),
            hello_bytes=self._hello_bytes or len(self.stream),
            received_bytes=self._received,
            is_whole=bool(self._hello_bytes),
            sha256=hashlib.sha256(hello).hexdigest() if hello else "",
            answered_bytes=self._answered,
            acked_bytes=getattr(facts, "bytes_acked", None),
            ending=ending,
        )


def make_identity() -> Identity:
    """Return a new self-signed certificate: who the far end is, its token says."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pqtls serve (self-signed)")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    return Identity((certificate.public_bytes(Encoding.DER),), key)
