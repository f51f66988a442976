"""A process under test: it may install the guard, then uses TLS in every way that Python has, and says what came out.

`python guarded.py INJECT MODE PORT CA CLIENT_PEM SERVER_PEM [WAY ...]`; MODE is none, guard, or conf (the
settings of OpenSSL and the guard). Outcomes are one JSON object: way -> "refused", "got hello" or what was raised.
"""

# mypy: ignore-errors
# ruff: noqa: BLE001, PTH118, S605, S607, SIM105, TRY300, UP031

import asyncio
import importlib.util
import json
import os
import select
import socket
import ssl
import sys
import tempfile

inject, mode, port, ca, client_pem, server_pem = sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:7]
HOST = "server.example"
errors = []


def load(name):
    spec = importlib.util.spec_from_file_location("injected_" + name, os.path.join(inject, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


before = dict(os.environ)
settings = {"groups": "X25519MLKEM768:SecP256r1MLKEM768", "codes": [0x11EC, 0x11EB], "require": True}
if mode == "conf":
    load("openssl_settings").install(ssl, settings)
if mode != "none":
    load("guard").install(ssl, settings)
    load("guard").install(ssl, settings)  # a second copy changes nothing
    load("socket_errors").install(ssl, settings)
NotPostQuantum = ssl._pqtls_guard.error if mode != "none" else ()


def context():
    return ssl.create_default_context(cafile=ca)


def tcp():
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def lazy(made=None):
    return (made or context()).wrap_socket(tcp(), server_hostname=HOST, do_handshake_on_connect=False)


def first(call):
    """A socket's first use, with no handshake before it; then what it gets."""

    def use():
        with lazy() as tls:
            call(tls)
            return tls.recv(100)

    return use


def immediate():
    with context().wrap_socket(tcp(), server_hostname=HOST) as tls:
        tls.sendall(b"SECRET")
        return tls.recv(100)


def connect_after_wrap():
    with context().wrap_socket(socket.socket(), server_hostname=HOST) as tls:
        tls.settimeout(10)
        tls.connect(("127.0.0.1", port))
        tls.sendall(b"SECRET")
        return tls.recv(100)


def recv_into_first():
    with lazy() as tls:
        buffer = bytearray(5)
        size = tls.recv_into(buffer)
        tls.sendall(b"SECRET")
        return bytes(buffer[:size])


def read_first():
    with lazy() as tls:
        data = tls.read(100)
        tls.write(b"SECRET")
        return data


def recv_first():
    with lazy() as tls:
        data = tls.recv(100)
        tls.send(b"SECRET")
        return data


def sendfile(tls):
    with tempfile.TemporaryFile() as file:
        file.write(b"SECRET")
        file.seek(0)
        tls.sendfile(file)


def makefile_write(tls):
    with tls.makefile("wb") as file:
        file.write(b"SECRET")


def makefile_read():
    with lazy() as tls, tls.makefile("rb") as file:
        data = file.read(5)
        tls.sendall(b"SECRET")
        return data


def sticky(*calls):
    """After a refusal nothing but refusals; without one, as usual."""

    def use():
        with lazy() as tls:
            try:
                tls.do_handshake()
            except NotPostQuantum:
                for call in calls:
                    try:
                        call(tls)
                    except NotPostQuantum:
                        continue
                    except OSError as error:  # the connection is shut down
                        if isinstance(error, ssl.SSLError):
                            raise
                        continue
                    return b"went on after a refusal"
                raise
            tls.sendall(b"SECRET")
            return tls.recv(100)

    return use


def plain_after_shutdown(tls):
    try:
        tls.shutdown(socket.SHUT_RD)
    finally:
        tls.sendall(b"PLAIN")


def plain_on_descriptor(tls):
    os.write(tls.fileno(), b"PLAIN")


def nonblocking():
    with lazy() as tls:
        tls.setblocking(False)
        for _ in range(100):
            try:
                tls.send(b"SECRET")
                break
            except ssl.SSLWantReadError:
                select.select([tls], [], [], 10)
            except ssl.SSLWantWriteError:
                select.select([], [tls], [], 10)
        tls.setblocking(True)
        return tls.recv(100)


def bio(call_first="do_handshake"):
    def use():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context().wrap_bio(incoming, outgoing, server_hostname=HOST)
        with tcp() as sock:

            def pump(call):
                while True:
                    try:
                        result = call()
                        sock.sendall(outgoing.read())
                        return result
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        data = sock.recv(10000)
                        if not data:
                            incoming.write_eof()
                        incoming.write(data)
                    except ssl.SSLError:
                        # As a careless program would: send on what there is.
                        left = outgoing.read()
                        if mode != "none" and left and left[0] != 21:
                            errors.append("something was left to send: %r" % left[:20])
                        raise

            if call_first == "do_handshake":
                pump(tls.do_handshake)
            pump(lambda: tls.write(b"SECRET"))
            return pump(lambda: tls.read(100))

    return use


def aio(use):
    def run():
        async def main():
            return await asyncio.wait_for(use(), 20)

        return asyncio.run(main())

    return run


async def open_connection():
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context(), server_hostname=HOST)
    writer.write(b"SECRET")
    data = await reader.read(100)
    writer.close()
    return data


async def start_tls():
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"STARTTLS")
    assert await reader.read(2) == b"GO"
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    writer.transport.set_protocol(protocol)
    transport = await loop.start_tls(writer.transport, protocol, context(), server_hostname=HOST)
    transport.write(b"SECRET")
    await asyncio.sleep(0.1)
    transport.close()
    return b"hello"


def client_certificate():
    made = context()
    made.load_cert_chain(client_pem)
    with made.wrap_socket(tcp(), server_hostname=HOST) as tls:
        tls.sendall(b"SECRET")
        return tls.recv(100)


def address_only():
    with context().wrap_socket(tcp(), server_hostname="127.0.0.1") as tls:
        tls.sendall(b"SECRET")
        return tls.recv(100)


def no_name():
    made = context()
    made.check_hostname = False
    with made.wrap_socket(tcp()) as tls:
        tls.sendall(b"SECRET")
        return tls.recv(100)


def http():
    import http.client

    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context(), timeout=10)
    try:
        connection.request("GET", "/")
        return connection.sock.recv(100)
    finally:
        connection.close()


def own_callback():
    """A program's own message callback does not put the guard aside, before or after the connection is made."""
    seen = []
    made = context()
    made._msg_callback = lambda *arguments: seen.append(arguments)
    tls = lazy(made)
    made._msg_callback = lambda *arguments: seen.append(arguments)
    with tls:
        tls.sendall(b"SECRET")
        assert seen
        return tls.recv(100)


def classical_by_choice():
    """The program asks for a classical curve itself, which puts OpenSSL's own enforcement aside."""
    made = context()
    made.set_ecdh_curve("prime256v1")
    with made.wrap_socket(tcp(), server_hostname=HOST) as tls:
        tls.sendall(b"SECRET")
        return tls.recv(100)


def tls12_by_choice():
    made = context()
    made.options &= ~ssl.OP_NO_TLSv1_2
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    with made.wrap_socket(tcp(), server_hostname=HOST) as tls:
        tls.sendall(b"SECRET")
        return tls.recv(100)


def resumed():
    made = context()
    with made.wrap_socket(tcp(), server_hostname=HOST) as tls:
        tls.sendall(b"SECRET")
        tls.recv(100)
        session = tls.session
    with made.wrap_socket(tcp(), server_hostname=HOST, session=session) as tls:
        tls.sendall(b"SECRET")
        assert tls.session_reused
        return tls.recv(100)


def unwrap():
    with lazy() as tls:
        tls.do_handshake()
        tls.sendall(b"SECRET")
        data = tls.recv(100)
        try:
            tls.unwrap()
        except OSError:
            pass
        return data


CLIENTS = {
    "immediate": immediate,
    "connect_after_wrap": connect_after_wrap,
    "send": first(lambda tls: tls.send(b"SECRET")),
    "sendall": first(lambda tls: tls.sendall(b"SECRET")),
    "write": first(lambda tls: tls.write(b"SECRET")),
    "sendfile": first(sendfile),
    "makefile_write": first(makefile_write),
    "makefile_read": makefile_read,
    "recv": recv_first,
    "read": read_first,
    "recv_into": recv_into_first,
    "retry": sticky(lambda tls: tls.do_handshake(), lambda tls: tls.send(b"SECRET"), lambda tls: tls.recv(10)),
    "unwrap_after": sticky(lambda tls: tls.unwrap()),
    "plain_after_shutdown": sticky(plain_after_shutdown),
    "plain_on_descriptor": sticky(plain_on_descriptor),
    "nonblocking": nonblocking,
    "bio": bio(),
    "bio_write_first": bio("write"),
    "open_connection": aio(open_connection),
    "start_tls": aio(start_tls),
    "client_certificate": client_certificate,
    "address_only": address_only,
    "no_name": no_name,
    "http": http,
    "own_callback": own_callback,
    "classical_by_choice": classical_by_choice,
    "tls12_by_choice": tls12_by_choice,
    "resumed": resumed,
    "unwrap": unwrap,
}


def serving(use):
    """Be the server of one connection that the peer makes when asked."""

    def run():
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(server_pem)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            print(json.dumps({"dial": listener.getsockname()[1]}), flush=True)
            return use(made, listener)

    return run


def serve_immediate(made, listener):
    sock, _ = listener.accept()
    sock.settimeout(10)
    with made.wrap_socket(sock, server_side=True) as tls:
        tls.sendall(b"ANSWER")
        return tls.recv(100)


def serve_lazy(made, listener):
    sock, _ = listener.accept()
    sock.settimeout(10)
    with made.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as tls:
        tls.send(b"ANSWER")
        return tls.recv(100)


def serve_wrapped_listener(made, listener):
    with made.wrap_socket(listener, server_side=True) as wrapped:
        tls, _ = wrapped.accept()
        with tls:
            tls.settimeout(10)
            tls.sendall(b"ANSWER")
            return tls.recv(100)


def serve_other_context(made, listener):
    """The SNI callback puts another context in place, which the guard has not seen before."""
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(server_pem)

    def choose(sock, _name, _context):
        sock.context = other

    made.sni_callback = choose
    return serve_immediate(made, listener)


def serve_asyncio(made, listener):
    got = []

    async def main():
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, told: (failures.append(told.get("exception")), done.set()))

        async def answer(reader, writer):
            writer.write(b"ANSWER")
            got.append(await reader.read(100))
            writer.close()
            done.set()

        failures = []
        server = await asyncio.start_server(answer, sock=listener, ssl=made)
        try:
            await asyncio.wait_for(done.wait(), 0.7)
        except asyncio.TimeoutError:
            pass
        server.close()
        return failures

    failures = asyncio.run(main())
    for failure in failures:
        if failure is not None:
            raise failure
    return b"".join(got) or b"NOTHING"


SERVERS = {
    "serve_immediate": serving(serve_immediate),
    "serve_lazy": serving(serve_lazy),
    "serve_wrapped_listener": serving(serve_wrapped_listener),
    "serve_other_context": serving(serve_other_context),
    "serve_asyncio": serving(serve_asyncio),
}


def outcome(use):
    try:
        return "got " + use().decode()
    except NotPostQuantum as error:
        told.append([error.host, error.group, error.version, error.server_side, str(error)])
        return "refused"
    except Exception as error:
        return "%s %s %s" % (type(error).__name__, getattr(error, "reason", ""), error)


told = []
wanted = sys.argv[7:] or [*CLIENTS, *SERVERS]
answer = {name: outcome({**CLIENTS, **SERVERS}[name]) for name in wanted}
answer["told"] = told
answer["errors"] = errors
answer["same_environment"] = dict(os.environ) == before
child = os.popen("env").read() if mode == "conf" else ""
answer["openssl_in_child"] = "OPENSSL_CONF" in child
answer["openssl"] = ssl.OPENSSL_VERSION
print(json.dumps(answer), flush=True)
