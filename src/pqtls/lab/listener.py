"""One TLS listener that serves a WSGI application and counts what reaches it."""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import sys
import threading
import traceback
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from pqtls.lab.messages import ListenerStats

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import WSGIApplication

    from pqtls.lab.messages import ListenerPlan

# A client on loopback needs milliseconds; one that says nothing must not keep a thread for long.
_HANDSHAKE_TIMEOUT_S = 10.0
# Keep-alive: longer than any client of the suite pauses between two requests.
_IDLE_TIMEOUT_S = 30.0
# Secrets Manager's own limit for a secret is 64 KiB.
_MAX_BODY_BYTES = 1 << 20
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class TlsListener(socketserver.ThreadingTCPServer):
    """Serves HTTP/1.1 over TLS, one thread a connection; the handshake is in that thread.

    Args:
        plan: Certificate and TLS versions; the groups are OpenSSL's to choose (OPENSSL_CONF).
        application: Answers the requests.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, plan: ListenerPlan, application: WSGIApplication) -> None:
        self.application = application
        self._tls = _make_context(plan)
        self._lock = threading.Lock()
        self._stats = ListenerStats(accepted=0, handshakes=0, requests=0)
        super().__init__((plan.address, plan.port), _RequestHandler)
        thread = threading.Thread(target=self.serve_forever, name=plan.name, daemon=True)
        thread.start()

    @property
    def port(self) -> int:
        """The port it accepts at."""
        return int(self.server_address[1])

    @property
    def stats(self) -> ListenerStats:
        """What it has seen so far."""
        with self._lock:
            return self._stats

    def count_request(self) -> None:
        """Count one request."""
        with self._lock:
            self._stats = replace(self._stats, requests=self._stats.requests + 1)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to its own thread.

        Args:
            request: The accepted socket.
            client_address: The client's address.
        """
        with self._lock:
            self._stats = replace(self._stats, accepted=self._stats.accepted + 1)
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the handshake and serve requests until either side has had enough.

        Args:
            request: The accepted socket; it is closed here.
            client_address: The client's address.
        """
        connection: socket.socket = request
        connection.settimeout(_HANDSHAKE_TIMEOUT_S)
        with self._tls.wrap_socket(connection, server_side=True) as tls:
            with self._lock:
                self._stats = replace(self._stats, handshakes=self._stats.handshakes + 1)
            super().finish_request(tls, client_address)
            with contextlib.suppress(OSError):  # the client may be gone already
                tls.unwrap().close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that refused, broke off or was silent; show everything else.

        Args:
            request: The connection.
            client_address: The client's address.
        """
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


def _make_context(plan: ListenerPlan) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plan.chain, plan.key)
    context.set_alpn_protocols(["http/1.1"])
    if plan.minimum_version:
        context.minimum_version = _VERSIONS[plan.minimum_version]
    if plan.maximum_version:
        context.maximum_version = _VERSIONS[plan.maximum_version]
    return context


class _RequestHandler(BaseHTTPRequestHandler):
    """Translates between HTTP/1.1 with keep-alive, which werkzeug's server has not, and WSGI."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_TIMEOUT_S
    wbufsize = -1  # head and body in one write
    server: TlsListener

    def parse_request(self) -> bool:
        # Called for any first line, also for one that is no HTTP: nothing that arrives goes uncounted.
        self.server.count_request()
        return super().parse_request()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        """Stay quiet."""

    def _answer(self) -> None:
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(411)
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            self.send_error(413 if length.isdecimal() else 400)
            return
        status, headers, body = self._ask_application(self.rfile.read(int(length)))
        self.send_response_only(int(status[:3]), status[4:])
        for name, value in headers:
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _ask_application(self, body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
        from werkzeug.test import EnvironBuilder, run_wsgi_app

        builder = EnvironBuilder(
            path=self.path,
            base_url=f"https://{self.headers.get('Host', 'localhost')}",
            method=self.command,
            headers=list(self.headers.items()),
            data=body,
        )
        chunks, status, headers = run_wsgi_app(self.server.application, builder.get_environ(), buffered=True)
        return status, list(headers), b"".join(chunks)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815
