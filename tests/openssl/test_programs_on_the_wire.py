"""`pqtls run -- PROGRAM`, proved by what the program says on the wire; the same without pqtls is the control.

A program that is not installed is skipped by name; `make test-programs` installs them all and skips none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from pqtls.evidence import Finding, is_post_quantum_group, judge
from pqtls.openssl.graft import Graft
from pqtls.openssl.program_tls import examine_program
from pqtls.wire.facts import ClientHelloFacts
from pqtls.wire.groups import group_name
from tests.openssl.handshakes import TIMEOUT_S, FirstFlight, free_port, relay_to, wait_for_port

PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
HOST = "server.example"
NEED_ALL = os.environ.get("PQTLS_NEED_PROGRAMS") == "1"

RUBY = "s = OpenSSL::SSL::SSLSocket.new(TCPSocket.new('127.0.0.1', ARGV[0].to_i)); s.connect"
PERL = "IO::Socket::SSL->new(PeerAddr => '127.0.0.1', PeerPort => $ARGV[0], SSL_verify_mode => 0) or exit 1"
PYTHON = (
    "import socket, ssl, sys\n"
    "context = ssl.create_default_context()\n"
    "context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n"
    "context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))))\n"
)
NODE = (
    "require('tls').connect({host: '127.0.0.1', port: process.argv[1], rejectUnauthorized: false}).on('error', x => 0)"
)

CLIENTS = {
    "python3": ["-I", "-c", PYTHON, "PORT"],
    "curl": ["-sk", "https://127.0.0.1:PORT/"],
    "psql": ["host=127.0.0.1 port=PORT sslmode=require user=x dbname=x connect_timeout=10", "-c", "select 1"],
    "redis-cli": ["--tls", "--insecure", "-h", "127.0.0.1", "-p", "PORT", "PING"],
    "ruby": ["-ropenssl", "-rsocket", "-e", RUBY, "PORT"],
    "perl": ["-MIO::Socket::SSL", "-e", PERL, "PORT"],
}
"""Clients that a graft reaches."""

OTHERS = {
    "wget": (["-q", "--no-check-certificate", "-t1", "-T10", "-O-", "https://127.0.0.1:PORT/"], "GnuTLS"),
    "git": (["ls-remote", "https://127.0.0.1:PORT/x"], "git-remote-https"),
    "node": (["-e", NODE, "PORT"], "inside, linked statically"),
    "socat": (["-", "openssl:127.0.0.1:PORT,verify=0"], "sets its own groups"),
}
"""Clients that it does not reach, with what must be said of them."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program said: to the listener, and to the person."""

    hello: ClientHelloFacts
    stderr: str

    @property
    def groups(self) -> list[str]:
        return [group_name(code) for code in self.hello.groups]

    @property
    def is_hybrid(self) -> bool:
        """Offered, with a key share."""
        shares = [share.group for share in self.hello.key_shares]
        return any(map(is_post_quantum_group, self.hello.groups)) and any(map(is_post_quantum_group, shares))


def environment() -> dict[str, str]:
    return {
        "PATH": PATH,
        "HOME": str(Path.home()),
        "LANG": "C.UTF-8",
        "GIT_SSL_NO_VERIFY": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def need(name: str) -> str:
    program = shutil.which(name, path=PATH)
    if program is None or (name == "perl" and not _loads(["perl", "-MIO::Socket::SSL", "-e1"])):
        if NEED_ALL:
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return program


def _loads(command: list[str]) -> bool:
    return subprocess.run(command, env=environment(), capture_output=True, check=False).returncode == 0


def offer(name: str, arguments: list[str], before: list[str]) -> Said:
    """Let a client speak to a loopback listener."""
    with FirstFlight() as listener, tempfile.TemporaryFile() as stderr:
        command = [*before, name, *(each.replace("PORT", str(listener.port)) for each in arguments)]
        process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            hello = listener.wait()
        finally:
            process.kill()  # redis-cli would wait for ever for an answer
            process.wait()
        stderr.seek(0)
        return Said(hello, stderr.read().decode("utf-8", "replace"))


RUN = [*PQTLS, "run", "--openssl", "graft", "--"]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_that_is_reached_offers_ml_kem(name: str, graft: Graft) -> None:
    need(name)
    found = examine_program([name], graft.apply(environment()))
    assert found.kind in ("openssl", "python"), found
    with_it = offer(name, CLIENTS[name], RUN)
    assert with_it.is_hybrid, with_it.groups
    assert "pqtls:" not in with_it.stderr
    control = offer(name, CLIENTS[name], [])
    if examine_program([name], environment()).is_reached:
        pytest.skip(f"the OpenSSL of this machine's {name} has ML-KEM by itself")
    assert not control.is_hybrid, control.groups


@pytest.mark.parametrize("name", OTHERS)
def test_a_client_that_is_not_reached_is_named_and_stays_classical(name: str, graft: Graft) -> None:
    need(name)
    arguments, word = OTHERS[name]
    found = examine_program([name], graft.apply(environment()))
    with_it = offer(name, arguments, RUN)
    if found.is_reached:  # another distribution's, as Debian's node: then what the files say must hold as well
        assert with_it.is_hybrid, with_it.groups
        return
    assert found.is_reached is False
    assert with_it.stderr.startswith(f"pqtls: {name}"), with_it.stderr
    assert word in with_it.stderr.splitlines()[0]
    control = offer(name, arguments, [])
    assert "pqtls:" not in control.stderr
    assert with_it.groups == control.groups, "pqtls changed nothing on the wire"
    if found.kind == "own-groups" or "OpenSSL 3.5" not in found.library:
        assert not with_it.is_hybrid, with_it.groups


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, chain.pem, key.pem and both.pem."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert(HOST)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "chain.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    folder.chmod(0o755)
    return folder


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}/chain.pem;
    ssl_certificate_key {certificate}/key.pem; ssl_protocols TLSv1.2 TLSv1.3; return 200 "hello"; }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend f
  bind 127.0.0.1:{port} ssl crt {certificate}/both.pem
  http-request return status 200 content-type text/plain string hello
"""
CLIENT = (
    "import socket, ssl, sys\n"
    "context = ssl.create_default_context(cafile=sys.argv[2])\n"
    "with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20) as plain:\n"
    f"    with context.wrap_socket(plain, server_hostname='{HOST}') as tls:\n"
    f"        tls.sendall(b'GET / HTTP/1.1\\r\\nHost: {HOST}\\r\\nConnection: close\\r\\n\\r\\n')\n"
    "        print(tls.recv(100)[:12])\n"
)


@contextlib.contextmanager
def serving(name: str, folder: Path, certificate: Path, before: list[str]) -> Iterator[int]:
    """Run a TLS server on loopback."""
    port = free_port()
    conf = folder / f"{name}.conf"
    text = {"nginx": NGINX, "haproxy": HAPROXY}.get(name, "")
    conf.write_text(text.format(folder=folder, port=port, certificate=certificate))
    listen = f"openssl-listen:{port},bind=127.0.0.1,reuseaddr,fork,cert={certificate}/both.pem,verify=0"
    arguments = {
        "nginx": ["-p", str(folder), "-c", str(conf)],
        "haproxy": ["-db", "-q", "-f", str(conf)],
        "socat": [listen, "system:'read line; echo HTTP/1.1 200 OK'"],
    }[name]
    process = subprocess.Popen([*before, name, *arguments], env=environment(), stderr=(folder / "stderr").open("wb"))
    try:
        wait_for_port(port, lambda: process.poll() is None)
        yield port
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def answer_of(name: str, folder: Path, certificate: Path, before: list[str], graft: Graft) -> Finding:
    """Let a hybrid client shake hands with a server, and judge what was seen between them."""
    with serving(name, folder, certificate, before) as port, relay_to(port) as (relay, result):
        done = subprocess.run(
            [sys.executable, "-I", "-c", CLIENT, str(relay), str(certificate / "ca.pem")],
            env=graft.apply({}),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert b"HTTP/1.1 200" in done.stdout, (done.stderr, (folder / "stderr").read_text())
        handshake = result()
    assert any(is_post_quantum_group(code) for code in handshake.client_hellos[0].groups), "the client offered it"
    return judge(handshake)


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_a_server_that_is_reached_chooses_ml_kem(name: str, graft: Graft, certificate: Path, tmp_path: Path) -> None:
    need(name)
    found = answer_of(name, tmp_path, certificate, RUN, graft)
    assert (found.verdict, found.reason) == ("post-quantum", "negotiated-hybrid"), found.detail
    assert "pqtls:" not in (tmp_path / "stderr").read_text()
    control = answer_of(name, tmp_path, certificate, [], graft)
    if examine_program([name], environment()).is_reached:
        pytest.skip(f"the OpenSSL of this machine's {name} has ML-KEM by itself")
    assert (control.verdict, control.reason) == ("not-post-quantum", "server-chose-classical"), control.detail


def test_a_server_with_groups_of_its_own_stays_classical(graft: Graft, certificate: Path, tmp_path: Path) -> None:
    need("socat")
    found = answer_of("socat", tmp_path, certificate, RUN, graft)
    assert (found.verdict, found.reason) == ("not-post-quantum", "server-chose-classical"), found.detail
    assert (tmp_path / "stderr").read_text().startswith("pqtls: socat sets its own groups")


def test_what_breaks_is_told_before() -> None:
    """Debian 12's `openssl` ends in a segmentation fault at `req -addext` on a newer library."""
    program = need("openssl")
    version = subprocess.run([program, "version"], env=environment(), capture_output=True, text=True, check=True)
    if not version.stdout.startswith("OpenSSL 3.0."):
        pytest.skip("this machine's openssl was built for a newer one")
    told = subprocess.run([*RUN, "openssl", "version"], env=environment(), capture_output=True, text=True, check=True)
    assert told.stderr.startswith("pqtls: openssl was built for an OpenSSL before 3.3"), told.stderr
    assert "(Library: OpenSSL 3.0" not in told.stdout, "it runs all the same, on the graft"
    need("curl")
    control = subprocess.run([*RUN, "curl", "--version"], env=environment(), capture_output=True, text=True, check=True)
    assert control.stderr == ""
