"""The child process of `LabServers`: TLS listeners with moto's AWS behind them.

It reads its configuration as one JSON line on standard input, answers with its ports, then answers each
further line with its counts, and ends when standard input does: also when its parent is killed.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from pqtls.lab.names import REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# A client that says nothing for so long is given up, so that none can hold a thread for ever.
CLIENT_TIMEOUT_S = 20.0


class _Handler(WSGIRequestHandler):
    """One client's requests, without a log: the parent asks for counts instead."""

    timeout = CLIENT_TIMEOUT_S

    def log(self, *_: Any) -> None:
        """Write nothing."""


class _Listener(ThreadedWSGIServer):
    """A TLS listener whose handshakes happen in each client's own thread, so that no client can stall another."""

    daemon_threads = True

    def __init__(self, app: Callable[..., Iterable[bytes]], context: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", 0, app, handler=_Handler)
        self.ssl_context = context  # what the handler derives "https" from; the sockets are wrapped below
        self.counts: Counter[str] = Counter()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the handshake, then serve the client's requests."""
        self.counts["connections"] += 1
        request.settimeout(CLIENT_TIMEOUT_S)
        try:
            with self.ssl_context.wrap_socket(request, server_side=True) as connection:  # type: ignore[union-attr]
                self.counts["handshakes"] += 1
                self.RequestHandlerClass(connection, client_address, self)
                connection.settimeout(1.0)
                connection.unwrap()
        except (OSError, ValueError):
            return  # a client that fails, refuses or leaves is its own affair

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that went away."""


class _Application:
    """AWS as the suite's clients need it: `/ping` as its endpoints answer it, the rest by moto.

    moto takes its time to import: that happens in the background, and the first request that needs it waits.
    """

    def __init__(self) -> None:
        self._moto: Any = None
        self._failure: Exception | None = None
        self._is_ready = threading.Event()
        threading.Thread(target=self._load, daemon=True).start()

    def _load(self) -> None:
        try:
            from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

            self._moto = DomainDispatcherApplication(create_backend_app)
            _create_secrets(self._moto)
        except Exception as error:  # noqa: BLE001 - told to each client that asks
            self._failure = error
        finally:
            self._is_ready.set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/ping":
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
            return [b"healthy"]
        self._is_ready.wait()
        if self._moto is None:
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [f"the lab's AWS could not be started: {self._failure!r}".encode()]
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


def _create_secrets(application: Any) -> None:
    """Put one secret into each region, so that there is something to list."""
    from werkzeug.test import Client

    for region in REGIONS:
        Client(application).post(
            "/",
            base_url=f"https://secretsmanager.{region}.amazonaws.com",
            headers={
                "X-Amz-Target": "secretsmanager.CreateSecret",
                "Content-Type": "application/x-amz-json-1.1",
                "Authorization": f"AWS4-HMAC-SHA256 Credential=testing/20260101/{region}/secretsmanager/aws4_request, "
                "SignedHeaders=host, Signature=none",
            },
            data=json.dumps({"Name": "pqtls-lab", "SecretString": "made up", "ClientRequestToken": "0" * 32}),
        )


def _count_requests(listener_counts: Counter[str], application: _Application) -> Callable[..., Iterable[bytes]]:
    def counted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        listener_counts["requests"] += 1
        return application(environ, start_response)

    return counted


def _open_listener(certificate: str, max_version: str | None, application: _Application) -> _Listener:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if max_version is not None:
        context.maximum_version = ssl.TLSVersion[max_version]
    listener = _Listener(application, context)
    listener.app = _count_requests(listener.counts, application)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    with socket.create_connection(listener.server_address[:2], timeout=5):
        pass  # it accepts
    return listener


def main() -> None:
    """Serve until standard input ends."""
    config = json.loads(sys.stdin.buffer.readline())
    application = _Application()
    listeners = {
        name: _open_listener(certificate, config["max_version"], application)
        for name, certificate in config["listeners"].items()
    }
    ports = {name: listener.port for name, listener in listeners.items()}
    _answer({"ports": ports, "openssl": ssl.OPENSSL_VERSION})
    for _ in sys.stdin.buffer:
        names = ("connections", "handshakes", "requests")
        _answer({name: {each: listener.counts[each] for each in names} for name, listener in listeners.items()})
    os._exit(0)  # threads may still wait for clients; nobody is left to serve them


def _answer(line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
