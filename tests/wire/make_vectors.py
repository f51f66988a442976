"""Make the real handshakes under tests/wire/vectors: `python tests/wire/make_vectors.py` (needs pqtls[all,dev]).

Each is a handshake in memory between two contexts of Python's ssl on OpenSSL 3.5 (on the machine's own where the
scenario says so), with both directions' bytes as they left and the messages as each side's callback saw them.
Certificates are throwaway ones of trustme. Groups are set through SSL_CTX_set1_groups_list by ctypes, which the
product never does: here a wrong guess of the layout would be seen at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import trustme

HOST = "server.example"
FOLDER = Path(__file__).parent / "vectors"

# name: (client groups, server groups, options); "" leaves OpenSSL's own list.
SCENARIOS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "hybrid": ("", "", {}),
    "hybrid-after-retry": ("x25519:X25519MLKEM768", "X25519MLKEM768", {}),
    "classical-chosen": ("", "x25519", {}),
    "classical-only": ("x25519:secp256r1", "", {}),
    "secp256r1": ("secp256r1", "", {}),
    "secp256r1mlkem768": ("SecP256r1MLKEM768", "SecP256r1MLKEM768", {}),
    "secp384r1mlkem1024": ("SecP384r1MLKEM1024", "SecP384r1MLKEM1024", {}),
    "mlkem1024": ("MLKEM1024", "MLKEM1024", {}),
    "sha256-suite": ("", "", {"suite": "TLS_AES_128_GCM_SHA256"}),
    "tls12-ecdhe": ("", "", {"version": "TLSv1_2", "cipher": "ECDHE-ECDSA-AES128-GCM-SHA256"}),
    "tls12-dhe": ("", "", {"version": "TLSv1_2", "cipher": "DHE-RSA-AES128-GCM-SHA256"}),
    "tls12-rsa": ("", "", {"version": "TLSv1_2", "cipher": "AES128-GCM-SHA256"}),
    "tls12-resumed": ("", "", {"version": "TLSv1_2", "cipher": "ECDHE-ECDSA-AES128-GCM-SHA256", "resume": True}),
    "resumed": ("", "", {"resume": True}),
    "certificate-refused": ("", "", {"trust": False}),
    "client-certificate": ("", "", {"mtls": True}),
    "no-common-group": ("X25519MLKEM768", "x25519", {}),
    "not-offered-3.0": ("", "", {"system": True}),
}


def set_groups(context: ssl.SSLContext, groups: str) -> None:
    if not groups:
        return
    library = ctypes.CDLL("libssl.so.3")
    library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    pointer = ctypes.c_void_p.from_address(id(context) + 16)
    assert library.SSL_CTX_ctrl(pointer, 92, 0, groups.encode()) == 1, groups


def make_contexts(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    client_groups, server_groups, options = SCENARIOS[name]
    ca = trustme.CA()
    cipher = options.get("cipher", "")
    rsa = "RSA" in cipher or cipher.startswith("AES")
    kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(HOST, key_type=kind).configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.get("trust", True):
        ca.configure_trust(client)
    if options.get("mtls"):
        ca.issue_cert("client.example").configure_cert(client)
        ca.configure_trust(server)
        server.verify_mode = ssl.CERT_REQUIRED
    if "version" in options:
        server.maximum_version = ssl.TLSVersion[options["version"]]
        server.set_ciphers(cipher)
        client.set_ciphers("ALL:@SECLEVEL=2")
    if cipher.startswith("DHE"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dh.pem"
            arguments = ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"]
            path.write_bytes(subprocess.run(arguments, check=True, capture_output=True).stdout)
            server.load_dh_params(str(path))
    if "suite" in options:
        library = ctypes.CDLL("libssl.so.3")
        library.SSL_CTX_set_ciphersuites.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        pointer = ctypes.c_void_p.from_address(id(server) + 16)
        assert library.SSL_CTX_set_ciphersuites(pointer, options["suite"].encode()) == 1
    set_groups(client, client_groups)
    set_groups(server, server_groups)
    return client, server


def watch(context: Any, side: str, messages: list[Any]) -> None:
    def see(_conn: Any, direction: str, _version: Any, content: int, kind: int, data: bytes) -> None:
        sender = side if direction == "write" else {"client": "server", "server": "client"}[side]
        if content == 21 or (content == 22 and kind in (1, 2, 8, 12)):
            messages.append([sender, int(content), int(kind), data.hex()])
        elif content == 22:
            messages.append([sender, int(content), int(kind), None])

    context._msg_callback = see


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None) -> dict[str, Any]:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    from_client, from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    messages: dict[str, list[Any]] = {"client": [], "server": []}
    watch(client, "client", messages["client"])
    watch(server, "server", messages["server"])
    ends = {
        "client": client.wrap_bio(to_client, from_client, server_hostname=HOST, session=session),
        "server": server.wrap_bio(to_server, from_server, server_side=True),
    }
    outgoing = {"client": (from_client, to_server), "server": (from_server, to_client)}
    flights: list[list[str]] = []
    over: set[str] = set()
    for _ in range(12):
        for side, end in ends.items():
            if side not in over:
                try:
                    end.do_handshake()
                    over.add(side)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    over.add(side)
            data = outgoing[side][0].read()
            if data:
                flights.append([side, data.hex()])
                outgoing[side][1].write(data)
    with contextlib.suppress(ssl.SSLError, ValueError):
        ends["client"].read(1)  # takes the session tickets in
    return {"flights": flights, "messages": messages, "client": ends["client"]}


def make(name: str) -> dict[str, Any]:
    client, server = make_contexts(name)
    result = handshake(client, server, None)
    if SCENARIOS[name][2].get("resume"):
        result = handshake(client, server, result["client"].session)
    del result["client"]
    return {"name": name, "openssl": ssl.OPENSSL_VERSION, **result}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(make(sys.argv[1])))
        return
    from pqtls.openssl.graft import make_graft
    from pqtls.openssl.interpreter import inspect_interpreter
    from pqtls.openssl.sources import find_sources

    interpreter = inspect_interpreter(sys.executable)
    grafted = make_graft(find_sources(interpreter)[0], interpreter).apply({"PATH": os.environ["PATH"]})
    FOLDER.mkdir(exist_ok=True)
    for name, (_, _, options) in SCENARIOS.items():
        environment = {"PATH": os.environ["PATH"]} if options.get("system") else grafted
        done = subprocess.run([sys.executable, __file__, name], env=environment, check=True, stdout=subprocess.PIPE)
        (FOLDER / f"{name}.json").write_bytes(json.dumps(json.loads(done.stdout), indent=0).encode() + b"\n")
        print(name, json.loads(done.stdout)["openssl"])


if __name__ == "__main__":
    main()
