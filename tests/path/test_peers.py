"""Real servers of other making are healthy, with all experiments; and the real faulty things of F04 and F07.

In part skipped where they are not installed, by name; `make test-peers` installs what Debian has, and skips nothing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12
from cryptography.x509 import load_pem_x509_certificates

from pqtls.path.diagnosis import Diagnosis
from pqtls.path.examine import examine
from pqtls.path.plan import PlanOptions
from pqtls.probe.run import Prober
from tests.path import real_servers as real
from tests.path.test_real import FastNetwork

NEEDS_ALL = "PQTLS_NEED_PEERS" in os.environ

GO_SERVER = """package main

import (
	"crypto/tls"
	"os"
)

func main() {
	pair, err := tls.LoadX509KeyPair(os.Args[1], os.Args[1])
	if err != nil {
		panic(err)
	}
	listener, err := tls.Listen("tcp", os.Args[2], &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer connection.Close()
			connection.Read(make([]byte, 1))
		}()
	}
}
"""

JAVA_SERVER = """import java.io.FileInputStream;
import java.net.InetAddress;
import java.security.KeyStore;
import javax.net.ssl.*;

public class Server {
    public static void main(String[] arguments) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(new FileInputStream(arguments[0]), "secret".toCharArray());
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, "secret".toCharArray());
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(
            Integer.parseInt(arguments[1]), 64, InetAddress.getLoopbackAddress());
        while (true) {
            SSLSocket connection = (SSLSocket) listener.accept();
            new Thread(() -> {
                try (connection) {
                    connection.getInputStream().read();
                } catch (Exception gone) {
                }
            }).start();
        }
    }
}
"""


def need(program: str, where: str = "") -> str:
    """Return a program's path; skip where it is not installed, fail where all must be."""
    found = where if where and Path(where).exists() else shutil.which(program)
    if found is None or (where and not Path(where).exists()):
        if NEEDS_ALL:
            pytest.fail(f"{where or program} is not here, and make test-peers promised that it would be")
        pytest.skip(f"{where or program} is not here")
    return found


def need_the_target(what: str) -> None:
    """Skip what has to be compiled first: only make test-peers takes that time."""
    if not NEEDS_ALL:
        pytest.skip(f"{what} is compiled by make test-peers")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def look(port: int, *, is_full: bool = False) -> Diagnosis:
    network = FastNetwork(socket.AF_INET, ("127.0.0.1", port))
    return examine(Prober(network, real.NAME), network, PlanOptions(is_full=is_full))


def wait_for(port: int, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the server did not start")


def examine_process(command: list[str], port: int, environment: dict[str, str] | None = None) -> Diagnosis:
    with real.run_process(command, environment):
        wait_for(port, 30.0)
        return look(port, is_full=True)


def test_gnutls(pem: Path) -> None:
    port, program = free_port(), need("gnutls-serv")
    files = [f"--x509keyfile={pem}", f"--x509certfile={pem}"]
    found = examine_process([program, f"--port={port}", "--quiet", "--echo", *files], port)
    assert (found.verdict, found.faults) == ("healthy", ())


def test_nginx(pem: Path, hybrid_environment: dict[str, str], tmp_path: Path) -> None:
    port, program = free_port(), need("nginx")
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/log;\nevents {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;"
        f" fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};"
        f" ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:prime256v1; }} }}\n",
        encoding="utf-8",
    )
    found = examine_process([program, "-c", str(conf)], port, hybrid_environment)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ())


@pytest.mark.parametrize("module", ["gnutls", "mbedtls", "openssl", "wolfssl"])
def test_lighttpd_with_each_library(module: str, pem: Path, tmp_path: Path) -> None:
    """One server, four TLS libraries. Debian 12's Mbed TLS is the real faulty thing of F07 (Mbed-TLS/mbedtls#9269)."""
    port, program = free_port(), need("lighttpd")
    need("", f"/usr/lib/lighttpd/mod_{module}.so")
    conf = tmp_path / "lighttpd.conf"
    conf.write_text(
        f'server.modules = ("mod_{module}")\nserver.document-root = "{tmp_path}"\nserver.bind = "127.0.0.1"\n'
        f'server.port = {port}\nssl.engine = "enable"\nssl.pemfile = "{pem}"\n',
        encoding="utf-8",
    )
    found = examine_process([program, "-D", "-f", str(conf)], port)
    assert found.fault_ids == ({"F07"} if module == "mbedtls" else set()), found.answer
    assert found.verdict == ("fault" if module == "mbedtls" else "healthy")
    assert found.server_state in ("classical", "tls12"), "none of Debian 12's has ML-KEM"


@pytest.mark.parametrize(("variable", "state"), [("", "classical"), ("PQTLS_NEW_GO", "preferred")])
def test_go(variable: str, state: str, pem: Path, tmp_path: Path) -> None:
    """Debian 12's, which is classical; and one with X25519MLKEM768, from 1.24 on."""
    need_the_target("a server in Go")
    program = need("go", os.environ.get(variable, "PQTLS_NEW_GO, a Go of 1.24 or newer,") if variable else "")
    (tmp_path / "server.go").write_text(GO_SERVER, encoding="utf-8")
    built = tmp_path / "server"
    subprocess.run([program, "build", "-o", str(built), str(tmp_path / "server.go")], check=True, cwd=tmp_path)
    port = free_port()
    found = examine_process([str(built), str(pem), f"127.0.0.1:{port}"], port)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", state, ()), found.answer


def test_java(pem: Path, tmp_path: Path) -> None:
    """JSSE."""
    need_the_target("a server in Java")
    program, port = need("java"), free_port()
    key = load_pem_private_key(pem.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    leaf, *chain = load_pem_x509_certificates(pem.read_bytes())
    store = tmp_path / "keys.p12"
    secret = BestAvailableEncryption(b"secret")
    store.write_bytes(pkcs12.serialize_key_and_certificates(b"server", key, leaf, chain, secret))
    (tmp_path / "Server.java").write_text(JAVA_SERVER, encoding="utf-8")
    found = examine_process([program, str(tmp_path / "Server.java"), str(store), str(port)], port)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ()), found.answer


@pytest.mark.parametrize("waits", [False, True])
def test_haproxy_with_and_without_inspect_delay(waits: bool, hybrid_port: int, tmp_path: Path) -> None:
    """The real faulty thing of F04 (haproxy#3148), and its documented cure."""
    port, program = free_port(), need("haproxy")
    rules = "  tcp-request inspect-delay 5s\n  tcp-request content accept if { req.ssl_hello_type 1 }\n"
    reject = "  tcp-request content reject unless { req.ssl_sni -m found }\n"
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"
        f"frontend f\n  bind 127.0.0.1:{port} defer-accept\n{rules if waits else ''}{reject}  default_backend b\n"
        f"backend b\n  server s 127.0.0.1:{hybrid_port}\n",
        encoding="utf-8",
    )
    subprocess.run([program, "-c", "-q", "-f", str(conf)], check=True)
    with real.run_process([program, "-db", "-f", str(conf)]):
        wait_for(port)
        found = look(port)
    if waits:
        assert (found.verdict, found.server_state) == ("healthy", "preferred")
    else:
        # Without defer-accept it decides before it has read anything, and refuses small hellos at random too.
        assert found.fault_ids == {"F01", "F04"}, found.answer
