"""Runs in an environment under test: TLS stacks and the standard `ssl` by turns in one process, each for real.

Its argument is JSON: "stacks", "order" ("ssl-first" or "stack-first"), "ports" by name, "ca". It prints JSON: what each
step received, or its error, and which libraries are mapped at the end; then it ends as every program does, so that a
crash on the way out is seen. It is run by path and imports nothing that the stack under test would import itself.
"""

from __future__ import annotations

import importlib
import json
import socket
import sys
from collections.abc import Callable
from typing import Any

HOST = "server.example"
REQUEST = b"GET / HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n\r\n"
ROUNDS = 2
TIMEOUT_S = 20


def load(name: str) -> Any:
    """Import what type checkers need not know."""
    return importlib.import_module(name)


def body_of(answer: bytes) -> str:
    return answer.rpartition(b"\r\n\r\n")[2].decode()


def use_ssl(port: int, ca: str) -> str:
    import ssl

    context = ssl.create_default_context(cafile=ca)
    tcp = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    with tcp, context.wrap_socket(tcp, server_hostname=HOST) as tls:
        tls.sendall(REQUEST)
        return body_of(tls.recv(4096))


def use_cryptography(port: int, ca: str) -> str:
    """Drive the OpenSSL inside cryptography by its bindings, through memory BIOs and a socket."""
    binding = load("cryptography.hazmat.bindings.openssl.binding").Binding
    lib, ffi = binding.lib, binding.ffi
    context = lib.SSL_CTX_new(lib.TLS_method())
    assert lib.SSL_CTX_load_verify_locations(context, ca.encode(), ffi.NULL) == 1
    lib.SSL_CTX_set_verify(context, lib.SSL_VERIFY_PEER, ffi.NULL)
    tls = lib.SSL_new(context)
    incoming, outgoing = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
    lib.SSL_set_bio(tls, incoming, outgoing)
    lib.SSL_set_connect_state(tls)
    room = ffi.new("char[]", 65_536)

    def call(tcp: socket.socket, function: Callable[[], int]) -> int:
        """Call until it is done, carrying bytes between its BIOs and the socket."""
        while True:
            code = function()
            while (size := lib.BIO_read(outgoing, room, 65_536)) > 0:
                tcp.sendall(bytes(ffi.buffer(room, size)))
            if code > 0:
                return code
            if lib.SSL_get_error(tls, code) != lib.SSL_ERROR_WANT_READ:
                found = lib.ERR_get_error()
                raise OSError(ffi.string(lib.ERR_reason_error_string(found)).decode() if found else "no reason")
            data = tcp.recv(65_536)
            if not data:
                raise EOFError
            lib.BIO_write(incoming, data, len(data))

    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as tcp:
        call(tcp, lambda: int(lib.SSL_do_handshake(tls)))
        call(tcp, lambda: int(lib.SSL_write(tls, REQUEST, len(REQUEST))))
        size = call(tcp, lambda: int(lib.SSL_read(tls, room, 65_536)))
        answer = bytes(ffi.buffer(room, size))
    lib.SSL_free(tls)
    lib.SSL_CTX_free(context)
    return body_of(answer)


def use_pyopenssl(port: int, ca: str) -> str:
    module = load("OpenSSL.SSL")
    context = module.Context(module.TLS_METHOD)
    context.load_verify_locations(ca)
    context.set_verify(module.VERIFY_PEER)
    with socket.create_connection(("127.0.0.1", port)) as tcp:  # blocking: pyOpenSSL knows no timeouts
        tls = module.Connection(context, tcp)
        tls.set_tlsext_host_name(HOST.encode())
        tls.set_connect_state()
        tls.do_handshake()
        tls.sendall(REQUEST)
        answer: bytes = tls.recv(4096)
        return body_of(answer)


def use_psycopg(port: int, ca: str) -> str:
    return use_libpq(load("psycopg").connect, port, ca)


def use_psycopg2(port: int, ca: str) -> str:
    return use_libpq(load("psycopg2").connect, port, ca)


def use_libpq(connect: Any, port: int, ca: str) -> str:
    connection = connect(
        f"host=127.0.0.1 port={port} user=u dbname=d connect_timeout={TIMEOUT_S} "
        f"sslmode=verify-full sslrootcert={ca} gssencmode=disable"
    )
    try:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT word")
        return str(cursor.fetchone()[0])
    finally:
        connection.close()


def use_pycurl(port: int, ca: str) -> str:
    module = load("pycurl")
    client, received = module.Curl(), bytearray()
    for name, value in (
        ("URL", f"https://{HOST}:{port}/"),
        ("PROXY", ""),
        ("NOSIGNAL", 1),
        ("TIMEOUT", TIMEOUT_S),
        ("CAINFO", ca),
        ("HTTP_VERSION", module.CURL_HTTP_VERSION_1_1),
        ("RESOLVE", [f"{HOST}:{port}:127.0.0.1"]),
        ("WRITEFUNCTION", received.extend),
    ):
        client.setopt(getattr(module, name), value)
    try:
        client.perform()
    finally:
        client.close()
    return received.decode()


def use_grpcio(port: int, ca: str) -> str:
    grpc = load("grpc")
    with open(ca, "rb") as file:  # noqa: PTH123 - no import that the stack has not made
        trust = file.read()
    options = [("grpc.ssl_target_name_override", HOST), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(trust), options) as channel:
        call = channel.unary_unary("/test/Hello")
        answer: bytes = call(b"", timeout=TIMEOUT_S)
        return answer.decode()


def use_awscrt(port: int, ca: str) -> str:
    http, io = load("awscrt.http"), load("awscrt.io")
    options = io.TlsContextOptions()
    with open(ca, "rb") as file:  # noqa: PTH123
        options.override_default_trust_store(file.read())
    tls = io.ClientTlsContext(options).new_connection_options()
    tls.set_server_name(HOST)
    group = io.EventLoopGroup(1)
    bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
    connection = http.HttpClientConnection.new("127.0.0.1", port, bootstrap, tls_connection_options=tls).result(
        TIMEOUT_S
    )
    received = bytearray()
    stream = connection.request(
        http.HttpRequest("GET", "/", http.HttpHeaders([("Host", HOST)])),
        on_body=lambda http_stream, chunk, **_: received.extend(chunk),
    )
    stream.activate()
    stream.completion_future.result(TIMEOUT_S)
    connection.close().result(TIMEOUT_S)
    return received.decode()


def use_uvloop(port: int, ca: str) -> str:
    import asyncio
    import ssl

    async def ask() -> bytes:
        context = ssl.create_default_context(cafile=ca)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
        writer.write(REQUEST)
        answer = await reader.read(4096)
        writer.close()
        await writer.wait_closed()
        return answer

    loop = load("uvloop").new_event_loop()
    try:
        answer: bytes = loop.run_until_complete(asyncio.wait_for(ask(), TIMEOUT_S))
        return body_of(answer)
    finally:
        loop.close()


def use_gevent(port: int, ca: str) -> str:
    """One connection in each of two greenlets at once."""
    gevent, sockets, tls = load("gevent"), load("gevent.socket"), load("gevent.ssl")

    def ask() -> str:
        context = tls.create_default_context(cafile=ca)
        tcp = sockets.create_connection(("127.0.0.1", port), TIMEOUT_S)
        with tcp, context.wrap_socket(tcp, server_hostname=HOST) as connection:
            connection.sendall(REQUEST)
            return body_of(connection.recv(4096))

    greenlets = [gevent.spawn(ask) for _ in range(2)]
    gevent.joinall(greenlets)  # one that fails must not leave the other half-way
    return " ".join({greenlet.get(timeout=TIMEOUT_S) for greenlet in greenlets})


USES = {
    "ssl": use_ssl,
    "cryptography": use_cryptography,
    "pyOpenSSL": use_pyopenssl,
    "psycopg": use_psycopg,
    "psycopg2": use_psycopg2,
    "pycurl": use_pycurl,
    "grpcio": use_grpcio,
    "awscrt": use_awscrt,
    "uvloop": use_uvloop,
    "gevent": use_gevent,
}


def mapped_libraries() -> list[str]:
    found = set()
    with open("/proc/self/maps") as lines:  # noqa: PTH123
        for line in lines:
            path = line.rstrip("\n").partition("/")
            if "libssl" in path[2] or "libcrypto" in path[2]:
                found.add("/" + path[2])
    return sorted(found)


def main() -> None:
    given = json.loads(sys.argv[1])
    order = ["ssl", *given["stacks"]] if given["order"] == "ssl-first" else [*given["stacks"], "ssl"]
    steps = []
    for _ in range(ROUNDS):
        for name in order:
            step = {"name": name, "got": "", "error": ""}
            try:
                step["got"] = USES[name](given["ports"][name], given["ca"])
            except Exception as error:  # noqa: BLE001 - it is the answer
                step["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            steps.append(step)
    print(json.dumps({"steps": steps, "mapped": mapped_libraries()}), flush=True)


if __name__ == "__main__":
    main()
