"""The server of every stack: HTTP/1.1, one gRPC call, or PostgreSQL's greeting and a row; always over TLS.

`python far_end.py PEM` prints its port on loopback and serves until its standard input ends. Whom it can agree with is
a matter of its OpenSSL and OPENSSL_CONF; what was agreed on is read by the relay before it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import sys
import threading

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
ROOM_BYTES = 65_536


def read_exactly(tls: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = tls.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def speak_http(tls: ssl.SSLSocket) -> None:
    request = b""
    while more := tls.recv(ROOM_BYTES):
        request += more
        while b"\r\n\r\n" in request:
            request = request.partition(b"\r\n\r\n")[2]
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello")


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def field(name: bytes, value: bytes) -> bytes:
    """One literal field without indexing (RFC 7541, section 6.2.2)."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def speak_grpc(tls: ssl.SSLSocket) -> None:
    """Answer every unary call with "hello"."""
    read_exactly(tls, 24)  # the preface
    tls.sendall(frame(4, 0, 0, b""))
    while True:
        head = read_exactly(tls, 9)
        size, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        body = read_exactly(tls, size)
        if kind == 4 and not flags & 1:
            tls.sendall(frame(4, 1, 0, b""))
        elif kind == 6 and not flags & 1:
            tls.sendall(frame(6, 1, 0, body))
        elif kind == 0 and flags & 1:
            answer = frame(1, 4, stream, b"\x88" + field(b"content-type", b"application/grpc"))
            answer += frame(0, 0, stream, b"\0" + (5).to_bytes(4, "big") + b"hello")
            tls.sendall(answer + frame(1, 5, stream, field(b"grpc-status", b"0")))


def message(kind: bytes, body: bytes) -> bytes:
    """One message of PostgreSQL's protocol, version 3."""
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def speak_postgres(tls: ssl.SSLSocket) -> None:
    """Let anybody in and answer every SELECT with one row."""
    read_exactly(tls, int.from_bytes(read_exactly(tls, 4), "big") - 4)
    ready = message(b"Z", b"I")
    answer = message(b"R", bytes(4))
    for name, value in (
        ("server_version", "16.0"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ):
        answer += message(b"S", f"{name}\0{value}\0".encode())
    tls.sendall(answer + message(b"K", bytes(8)) + ready)
    while True:
        kind = read_exactly(tls, 1)
        body = read_exactly(tls, int.from_bytes(read_exactly(tls, 4), "big") - 4)
        if kind == b"X":
            return
        if kind == b"Q" and body.upper().startswith(b"SELECT"):
            columns = struct.pack("!H", 1) + b"word\0" + struct.pack("!IHIhiH", 0, 0, 25, -1, -1, 0)
            row = struct.pack("!HI", 1, 5) + b"hello"
            tls.sendall(message(b"T", columns) + message(b"D", row) + message(b"C", b"SELECT 1\0") + ready)
        else:
            tls.sendall(message(b"C", b"SET\0") + ready)


def serve(context: ssl.SSLContext, tcp: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError), tcp:
        tcp.settimeout(60)
        is_postgres = tcp.recv(len(SSL_REQUEST), socket.MSG_PEEK | socket.MSG_WAITALL) == SSL_REQUEST
        if is_postgres:
            tcp.recv(len(SSL_REQUEST))
            tcp.sendall(b"S")
        with context.wrap_socket(tcp, server_side=True) as tls:
            if is_postgres:
                speak_postgres(tls)
            elif tls.selected_alpn_protocol() == "h2":
                speak_grpc(tls)
            else:
                speak_http(tls)


def end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    context.set_alpn_protocols(["h2", "http/1.1"])
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    while True:
        tcp, _ = listener.accept()
        threading.Thread(target=serve, args=(context, tcp), daemon=True).start()


if __name__ == "__main__":
    main()
