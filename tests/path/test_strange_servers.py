"""What was met when others' products stood in front: a small stand-in of each, and the right answer."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import NameOID

from pqtls.probe.model import HYBRID
from tests.path import real_servers as real
from tests.path.servers_model import read_hello
from tests.path.test_real import look

PAGE = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<html>Blocked by policy</html>"
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
KEYS: dict[str, Callable[[], Key]] = {
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


def write_certificate_of(key: Key, folder: Path) -> Path:
    """Write a self-signed certificate of a key, and the key; return the file."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, real.NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(real.NAME)]), critical=False)
        .sign(key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None)
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return pem


@pytest.mark.parametrize("kind", KEYS)
def test_a_server_of_any_kind_of_certificate_is_healthy(
    kind: str, hybrid_environment: dict[str, str], tmp_path: Path
) -> None:
    """Also the compact hellos announce its signatures: a refusal of these would be a fault of ours."""
    pem = write_certificate_of(KEYS[kind](), tmp_path)
    with real.run_server(pem, hybrid_environment, "x25519:secp256r1") as port:
        found = look(port)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ()), found.answer


def test_a_page_instead_of_an_answer_is_a_refusal(hybrid_port: int) -> None:
    """A box that acts on 0x11EC and says so in HTML, not in TLS."""
    with real.Proxy(hybrid_port, real.refuse(lambda hello: HYBRID in hello.supported_groups, PAGE)) as proxy:
        found = look(proxy.port)
    assert found.fault_ids == {"F23"}, found.answer


def test_an_inspecting_box_with_a_fault_of_its_own_is_told_as_both() -> None:
    """sslsplit refuses hellos in two records; that its certificates are made to order must not get lost beside that."""
    with real.run_minting_server() as port, real.Proxy(port, real.first_record_only) as proxy:
        found = look(proxy.port, is_full=True)
    assert found.fault_ids == {"F07"}, found.answer
    assert any("made to order" in note for note in found.notes), found.notes


def test_a_router_that_looks_for_the_name_in_the_first_record(
    hybrid_port: int, hybrid_environment: dict[str, str], tmp_path: Path
) -> None:
    """HAProxy's req.ssl_sni: a hello whose name is in the second record goes to the default server."""
    other = real.write_certificate(tmp_path, "default.invalid")

    class Router(real.Proxy):
        def _choose_upstream(self, data: bytes) -> int:
            first_record = data[: 5 + int.from_bytes(data[3:5], "big")]
            return hybrid_port if real.NAME.encode() in first_record else default_port

    with real.run_server(other, hybrid_environment) as default_port, Router(hybrid_port, real.read_whole) as proxy:
        found = look(proxy.port, is_full=True)
    assert found.fault_ids == {"F07"}, found.answer
    assert "first record" in found.answer


def test_a_router_that_waits_for_the_first_record_only(hybrid_port: int) -> None:
    """Go's usual way: peek at one record's length, take what is buffered; a second record may have come with it."""

    def judge(connection: socket.socket) -> bytes | None:
        data = b""
        while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
            piece = connection.recv(65_536)
            if not piece:
                return None
            data += piece
        return data if read_hello(data) is not None else None

    with real.Proxy(hybrid_port, judge) as proxy:
        found = look(proxy.port, is_full=True)
    assert found.fault_ids == {"F07"}, found.answer


def test_a_server_of_little_patience_is_not_told_from_one_that_reads_once(hybrid_port: int) -> None:
    """It would have taken the rest within 0.15 s; the pause of our experiments is longer."""

    def judge(connection: socket.socket) -> bytes | None:
        connection.settimeout(0.15)
        try:
            data = real.read_whole(connection)
        except TimeoutError:
            return None
        connection.settimeout(15)
        return data

    with real.Proxy(hybrid_port, judge) as proxy:
        found = look(proxy.port)
    assert found.fault_ids == {"F01", "F04"}, found.answer
    assert "F05" in found.also_fits


def test_a_buffer_for_the_biggest_hello_hides_no_other_fault(hybrid_port: int) -> None:
    """sniproxy: 4,096 bytes, and one record; today's hybrids fit the one, and only cut ones meet the other."""

    def judge(connection: socket.socket) -> bytes | None:
        data = real.read_whole(connection)
        if len(data) > 4096 or len(data) > 5 + int.from_bytes(data[3:5], "big"):
            connection.sendall(real.ALERT_40)
            return None
        return data

    with real.Proxy(hybrid_port, judge) as proxy:
        found = look(proxy.port, is_full=True)
    assert found.fault_ids == {"F07"}, found.answer
    assert any("5500 bytes" in note for note in found.notes)
