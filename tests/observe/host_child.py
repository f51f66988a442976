"""Run as a program by the tests: a TLS server for several names, or a client that says who it is by its SNI."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

PORT = 443
# How long a connection lasts beside its handshake: with a server some way off, two round trips.
HOLD_S = float(os.environ.get("HOLD_S", "0"))


def serve(folder: str) -> None:
    """Answer every client, of IPv4 and IPv6, until standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/chain.pem", f"{folder}/key.pem")
    listener = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=100)

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # short lives: the hard case
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.sendall(b"hello")
                tls.recv(1)

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def tunnel(proxy_port: int, name: str, folder: str, count: int) -> None:
    """Make connections through a proxy on loopback."""
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", proxy_port), timeout=20) as tcp:
            tcp.sendall(b"CONNECT %b:443 HTTP/1.1\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n" % name.encode())
            while not tcp.recv(1000).endswith(b"\r\n\r\n"):
                pass
            with context.wrap_socket(tcp, server_hostname=name) as tls:
                tls.recv(5)
                time.sleep(HOLD_S)


def speak_plainly(address: str) -> None:
    """Make a connection that is no TLS."""
    with contextlib.suppress(ConnectionResetError), socket.create_connection((address, PORT), timeout=20) as tcp:
        tcp.sendall(b"GET / HTTP/1.1\r\n\r\n")
        tcp.recv(1)


def connect(name: str, address: str, folder: str, count: int) -> int:
    """Make connections one after the other, until standard input ends if `count` is 0; return how many."""
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    made = 0
    ended = threading.Event()
    if not count:

        def wait() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=wait, daemon=True).start()
    while made < count if count else not ended.is_set():
        if address.startswith("::ffff:"):
            tcp = socket.socket(socket.AF_INET6)
            tcp.connect((address, PORT))
        else:
            tcp = socket.create_connection((address, PORT), timeout=20)
        with tcp, context.wrap_socket(tcp, server_hostname=name) as tls:
            tls.recv(5)
            time.sleep(HOLD_S)
        made += 1
    return made


def beget(how: str, name: str, address: str, folder: str, count: int) -> None:
    """Have a grandchild make the connections, whose parent is gone and who lives in a session of its own."""
    command = [sys.executable, __file__, "connect", name, address, folder, str(count)]
    environment: dict[str, str] | None = {} if how == "without-environment" else None
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.setsid()
        subprocess.Popen(command, env=environment, pass_fds=(writer,), stdin=subprocess.DEVNULL)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    os.read(reader, 1)  # until the grandchild has ended


if __name__ == "__main__":
    mode, *words = sys.argv[1:]
    if mode == "serve":
        serve(words[0])
    elif mode == "tunnel":
        tunnel(int(words[0]), words[1], words[2], int(words[3]))
    elif mode == "plain":
        speak_plainly(words[0])
    elif mode == "connect":
        print(connect(words[0], words[1], words[2], int(words[3])))
    else:
        beget(mode, words[0], words[1], words[2], int(words[3]))
