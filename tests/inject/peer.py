"""The other end of guarded connections: no guard, and it counts every application byte that reaches it.

`python peer.py PEM CA` serves on a port of its own and dials where it is told; its OpenSSL is held to what the test
wants by OPENSSL_CONF. It reads commands and answers each in one JSON line.
"""

# ruff: noqa: SIM117

import contextlib
import json
import socket
import ssl
import sys
import threading
import time

pem, ca = sys.argv[1:3]
seen = {"bytes": 0, "handshakes": 0, "certificates": 0, "open": 0}
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(pem)
server_context.load_verify_locations(ca)
server_context.verify_mode = ssl.CERT_OPTIONAL
client_context = ssl.create_default_context(cafile=ca)
client_context.check_hostname = False
listener = socket.create_server(("127.0.0.1", 0))


def serve(tcp: socket.socket) -> None:
    with contextlib.suppress(OSError), tcp:
        tcp.settimeout(10)
        if tcp.recv(1, socket.MSG_PEEK) == b"S":  # STARTTLS, for asyncio's start_tls
            tcp.recv(8)
            tcp.sendall(b"GO")
        with server_context.wrap_socket(tcp, server_side=True) as tls:
            seen["handshakes"] += 1
            seen["certificates"] += tls.getpeercert(True) is not None
            with contextlib.suppress(OSError):
                tls.sendall(b"hello")
            while data := tls.recv(1000):
                seen["bytes"] += len(data)
    seen["open"] -= 1


def accept() -> None:
    while True:
        tcp, _ = listener.accept()
        seen["open"] += 1
        threading.Thread(target=serve, args=(tcp,), daemon=True).start()


def dial(port: int) -> int:
    received = 0
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as tcp:
        with client_context.wrap_socket(tcp, server_hostname="server.example") as tls:
            with contextlib.suppress(OSError):
                tls.sendall(b"SECRET")
            while data := tls.recv(1000):
                received += len(data)
    return received


threading.Thread(target=accept, daemon=True).start()
print(json.dumps({"port": listener.getsockname()[1], "openssl": ssl.OPENSSL_VERSION}), flush=True)
for line in sys.stdin:
    command, _, value = line.strip().partition(" ")
    if command == "dial":
        print(json.dumps({"received": dial(int(value))}), flush=True)
    else:
        deadline = time.monotonic() + 5
        while seen["open"] and time.monotonic() < deadline:  # what is under way still counts
            time.sleep(0.01)
        print(json.dumps(seen), flush=True)
        seen.update(bytes=0, handshakes=0, certificates=0)
