"""How connections end badly on blocking sockets, and what Python raises then; printed as JSON.

`python socket_events.py SERVER_PEM CA [INJECT]`: with INJECT, its socket_errors.py is installed first. With
GEVENT=1 in the environment everything goes through gevent.
"""

# mypy: ignore-errors
# ruff: noqa: B023

import os
import sys

if os.environ.get("GEVENT"):
    sys.path[:0] = os.environ["GEVENT_PATH"].split(":")
    from gevent import monkey

    monkey.patch_all()

import json
import socket
import ssl
import struct
import threading
import time

if len(sys.argv) > 3:
    sys.path.insert(0, sys.argv[3])
    import socket_errors

    socket_errors.install(ssl)
    socket_errors.install(ssl)

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(sys.argv[1])
client_context = ssl.create_default_context(cafile=sys.argv[2])


def connected(family):
    if family == "unix":
        near, far = socket.socketpair()
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        listener.close()
    near.settimeout(10)
    far.settimeout(10)
    return near, far


def pair(family, finish=True):
    near, far = connected(family)
    if not finish:
        return (
            client_context.wrap_socket(near, server_hostname="server.example", do_handshake_on_connect=False),
            server_context.wrap_socket(far, server_side=True, do_handshake_on_connect=False),
        )
    ends = []
    thread = threading.Thread(target=lambda: ends.append(server_context.wrap_socket(far, server_side=True)))
    thread.start()
    client = client_context.wrap_socket(near, server_hostname="server.example")
    thread.join()
    return client, ends[0]


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def write_twice(sock):
    sock.send(b"x")
    time.sleep(0.02)
    sock.send(b"x")


OPERATIONS = {
    "read": lambda sock: sock.recv(10),
    "recv_into": lambda sock: sock.recv_into(bytearray(5)),
    "write": lambda sock: sock.sendall(b"x"),
    "write_twice": write_twice,
    "unwrap": lambda sock: sock.unwrap() and "a socket",
    "handshake": lambda sock: sock.do_handshake(),
}


def tell(call):
    try:
        return repr(call())
    except OSError as error:
        return type(error).__name__


answer = {"openssl": ssl.OPENSSL_VERSION}
for family in ("tcp", "unix"):
    for who in ("client", "server"):
        for ending in (reset, socket.socket.close):
            for name, operation in OPERATIONS.items():
                client, server = pair(family, name != "handshake")
                ours, theirs = (client, server) if who == "client" else (server, client)
                ending(theirs)
                time.sleep(0.02)
                key = " ".join((family, who, ending.__name__, name))
                answer[key] = [tell(lambda: operation(ours)), tell(lambda: ours.recv(5))]
                ours.close()
if len(sys.argv) > 3:
    answer["mended"] = sorted(kind.__module__ for kind in ssl._pqtls_socket_errors)
print(json.dumps(answer))
