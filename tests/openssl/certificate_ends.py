"""A server or a client of the standard library, for tests that run it in plain and enabled environments.

`python certificate_ends.py serve FOLDER CLIENT_CA NAME ...` serves each NAME.pem on a port of its own, prints
`{NAME: port}`, and at each line "NAME" of its input the fate of the next connection to that port. CLIENT_CA "-" asks
for no client certificate.
`python certificate_ends.py connect JSON` goes through a list of connections and prints what became of each.
"""

import asyncio
import contextlib
import json
import queue
import socket
import ssl
import sys
import threading
import urllib.request
from typing import Any

SECRET = b"GET / HTTP/1.0\r\nX-Secret: 1\r\n\r\n"
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"


def describe(error: BaseException) -> dict[str, Any]:
    """Class, its bases as an `except` sees them, and what OpenSSL said of the certificate."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):  # urllib's URLError
        return {**describe(inner), "within": type(error).__name__}
    kind = type(error)
    return {
        "error": f"{kind.__module__}.{kind.__qualname__}",
        "bases": [each.__name__ for each in kind.__mro__],
        "verify_code": getattr(error, "verify_code", None),
        "reason": getattr(error, "reason", None),
        "library": getattr(error, "library", None),
        "verify_message": getattr(error, "verify_message", None),
        "text": str(error),
    }


def serve(folder: str, client_ca: str, names: list[str]) -> None:
    ports, fates = {}, {}
    for name in names:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # a server may present what it likes
        crl = name.partition("@")[2]
        context.load_cert_chain(f"{folder}/{name.partition('@')[0]}.pem")
        if client_ca != "-":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
            context.load_cert_chain(f"{folder}/{name.partition('@')[0]}.pem")
            context.verify_mode = ssl.CERT_REQUIRED
            check_revocation(context, crl, folder)
        listener = socket.create_server(("127.0.0.1", 0))
        ports[name], fates[name] = listener.getsockname()[1], queue.Queue[Any]()
        threading.Thread(target=accept, args=(listener, context, fates[name]), daemon=True).start()
    print(json.dumps({"ports": ports, "openssl": ssl.OPENSSL_VERSION}), flush=True)
    for line in sys.stdin:
        print(json.dumps(fates[line.strip()].get(timeout=20)), flush=True)


def accept(listener: socket.socket, context: ssl.SSLContext, fates: "queue.Queue[Any]") -> None:
    while True:
        tcp, _ = listener.accept()
        fate: dict[str, Any] = {"handshake": False, "received": 0, "failure": None}
        try:
            tcp.settimeout(10)
            with context.wrap_socket(tcp, server_side=True) as tls:
                fate["handshake"] = True
                request = b""
                while b"\r\n\r\n" not in request and (data := tls.recv(1000)):
                    request += data
                    fate["received"] = len(request)
                tls.sendall(ANSWER)
        except OSError as error:
            fate["failure"] = describe(error)
        finally:
            tcp.close()
        fates.put(fate)


def check_revocation(context: ssl.SSLContext, crl: str, folder: str) -> None:
    if crl:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if crl != "none":
            context.load_verify_locations(f"{folder}/{crl}.pem")


def connect(plan: dict[str, Any]) -> None:
    results = []
    for each in plan["connections"]:
        context = ssl.create_default_context(cafile=plan["ca"])
        check_revocation(context, each.get("crl", ""), plan["folder"])
        if each.get("tls12"):
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if each.get("present"):
            # What is presented is for the other end to judge.
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.load_cert_chain(f"{plan['folder']}/{each['present']}.pem")
        try:
            results.append({"answer": WAYS[each["way"]](each["port"], context), "error": None})
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            results.append(describe(error))
    print(json.dumps({"openssl": ssl.OPENSSL_VERSION, "results": results}))


def by_socket(port: int, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as tcp,
        context.wrap_socket(tcp, server_hostname="localhost") as tls,
    ):
        tls.sendall(SECRET)
        return tls.makefile("rb").read(200).decode()[-2:]


def by_late_handshake(port: int, context: ssl.SSLContext) -> str:
    """The first thing that it does with the connection is to send."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as tcp,
        context.wrap_socket(tcp, server_hostname="localhost", do_handshake_on_connect=False) as tls,
    ):
        tls.send(SECRET)
        return tls.makefile("rb").read(200).decode()[-2:]


def by_asyncio(port: int, context: ssl.SSLContext) -> str:
    async def main() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(SECRET)
        data = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return data.decode()[-2:]

    return asyncio.run(main())


def by_urllib(port: int, context: ssl.SSLContext) -> str:
    with urllib.request.urlopen(f"https://localhost:{port}/", timeout=10, context=context) as answer:
        body: bytes = answer.read()
    return body.decode()


WAYS = {"socket": by_socket, "late": by_late_handshake, "asyncio": by_asyncio, "urllib": by_urllib}

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        connect(json.loads(sys.argv[2]))
