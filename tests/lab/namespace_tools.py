"""What the tests of the lab's namespaces share: programs to run inside, and a reader of raw frames."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pqtls.lab.namespace import find_namespace_obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pqtls.lab.namespace import NamespacedLab, Side

SERVER = """
import socket, ssl, sys, threading
address, chain, key, words = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(chain, key)
listener = socket.create_server((address, 443))
print("ready", flush=True)
def serve(connection):
    try:
        with connection, context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(words.encode())
            tls.recv(1)
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

# The last argument is how many bytes of ALPN names to send, for a ClientHello of the length that is wanted.
CLIENT = """
import socket, ssl, sys
host, bundle, padding = sys.argv[1:]
context = ssl.create_default_context(cafile=bundle)
if int(padding):
    context.set_alpn_protocols([f"pad{n:06}" for n in range(int(padding) // 10)])
with socket.create_connection((host, 443), timeout=10) as plain:
    with context.wrap_socket(plain, server_hostname=host) as tls:
        print(tls.recv(100).decode(), tls.getpeername()[0])
"""


def require_namespaces() -> None:
    obstacle = find_namespace_obstacle()
    if obstacle:
        pytest.skip(f"no namespaces for the lab: {obstacle}")


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def run(
    lab: NamespacedLab, command: Sequence[str], side: Side = "client", hosts: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.wrap(command, side, hosts=hosts), capture_output=True, text=True, timeout=30, check=False)


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says "ready" until leaving the context."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def tls_server(lab: NamespacedLab, folder: Path, address: str, words: str) -> Iterator[Path]:
    """Serve for all of the lab's names; yields the authority's bundle."""
    from pqtls.lab.ca import LabCA
    from pqtls.lab.names import LAB_NAMES

    ca = LabCA(folder / "ca")
    certificate = ca.issue(*LAB_NAMES, folder=folder)
    command = python(SERVER, address, str(certificate.chain), str(certificate.key), words)
    with running(lab.wrap(command, side="server")):
        yield ca.bundle


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@dataclass(frozen=True, slots=True)
class Packet:
    """One TCP packet, with what its checksums add up to: 0 where they are right."""

    source: str
    length: int
    sequence: int
    payload: bytes
    ip_sum: int
    tcp_sum: int


def read_tcp_packets(capture: socket.socket, quiet_s: float = 0.3) -> list[Packet]:
    """Return what was captured, once nothing more has come for a while."""
    capture.settimeout(quiet_s)
    packets: list[Packet] = []
    with contextlib.suppress(TimeoutError):
        while True:
            frame = capture.recv(262_144)
            kind, version, protocol = frame[12:14], frame[14] >> 4, frame[23]
            if kind == b"\x08\x00" and version == 4 and protocol == socket.IPPROTO_TCP:
                packets.append(_parse(frame[14:]))
    return packets


def _parse(ip: bytes) -> Packet:
    header = 4 * (ip[0] & 0xF)
    length: int = struct.unpack_from("!H", ip, 2)[0]
    assert len(ip) == length, "a frame of another length than its packet"
    tcp = ip[header:]
    pseudo = ip[12:20] + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
    return Packet(
        source=socket.inet_ntoa(ip[12:16]),
        length=length,
        sequence=struct.unpack_from("!I", tcp, 4)[0],
        payload=tcp[4 * (tcp[12] >> 4) :],
        ip_sum=internet_checksum(ip[:header]),
        tcp_sum=internet_checksum(pseudo + tcp),
    )


def internet_checksum(data: bytes) -> int:
    """RFC 1071; 0 for data that contains its own right checksum."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
