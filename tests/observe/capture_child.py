"""Run as a program by the tests: one TLS server or client, or a capture of both as an unprivileged user."""

from __future__ import annotations

import socket
import ssl
import sys

HOST = "server.example"


def serve(address: str, folder: str, connections: int) -> None:
    """Answer so many clients, and say when the listener is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/chain.pem", f"{folder}/key.pem")
    with socket.create_server((address, 443)) as listener:
        print("ready", flush=True)
        for _ in range(connections):
            connection, _peer = listener.accept()
            connection.settimeout(20)
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.sendall(b"hello")
                tls.recv(1)


def connect(address: str, folder: str, connections: int) -> None:
    """Make so many connections, one after the other."""
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    context.set_alpn_protocols(["http/1.1"])
    for _ in range(connections):
        with (
            socket.create_connection((address, 443), timeout=20) as tcp,
            context.wrap_socket(tcp, server_hostname=HOST) as tls,
        ):
            tls.recv(5)


if __name__ == "__main__":
    {"serve": serve, "connect": connect}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
