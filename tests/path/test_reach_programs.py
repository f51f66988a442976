"""Real servers that begin in plain text, and real proxies. aiosmtpd runs always; `make test-reach` wants them all."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pqtls.path.reach import Reach
from pqtls.probe.http_proxy import Proxy
from tests.path import before_tls as before
from tests.path import real_servers as real
from tests.path.reaching import HOST, look
from tests.path.test_peers import wait_for

NEEDS_ALL = bool(os.environ.get("PQTLS_NEED_SERVERS"))

SMTP_SERVER = """
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    option = sys.argv[2] if len(sys.argv) > 2 else ""
    has_tls, port = option != "no TLS", int(option) if option.isdigit() else 0
    new = lambda: SMTP(object(), hostname="mail.example", tls_context=context if has_tls else None)
    server = await asyncio.get_running_loop().create_server(new, None if port else "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@contextlib.contextmanager
def run_smtp(pem: Path, environment: dict[str, str], *options: str) -> Iterator[int]:
    command = [sys.executable, "-I", "-c", SMTP_SERVER, str(pem), *options]
    with real.run_process(command, environment) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def test_aiosmtpd(pem: Path, hybrid_environment: dict[str, str]) -> None:
    with run_smtp(pem, hybrid_environment) as port:
        found = look(port, Reach(starttls="smtp"), is_full=NEEDS_ALL)
    assert (found.verdict, found.server_state) == ("healthy", "preferred"), found.answer


def test_aiosmtpd_without_tls(pem: Path, hybrid_environment: dict[str, str]) -> None:
    with run_smtp(pem, hybrid_environment, "no TLS") as port:
        found = look(port, Reach(starttls="smtp"))
    assert found.verdict == "inconclusive"
    assert "does not offer STARTTLS" in found.answer


# What Debian has.


# Where Debian puts servers that are not on a user's PATH.
PLACES = os.pathsep.join(("/usr/sbin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)))


def program(name: str) -> str:
    """Return where a program is; without PQTLS_NEED_SERVERS these tests, which start databases, are left out."""
    if not NEEDS_ALL:
        pytest.skip("make test-reach")
    found = shutil.which(name) or shutil.which(name, path=PLACES)
    assert found, f"{name} is not installed"
    return found


@pytest.fixture
def folder(pem: Path) -> Iterator[Path]:
    """A folder that daemons may enter after they have given up root, with the certificate in it."""
    with tempfile.TemporaryDirectory(prefix="pqtls-servers-") as name:
        path = Path(name)
        path.chmod(0o755)
        shutil.copy(pem, path / "server.pem")
        yield path


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def give_to(user: str, path: Path) -> None:
    path.chmod(0o700 if path.is_dir() else 0o600)
    os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)


@contextlib.contextmanager
def run_daemon(command: list[str], port: int, user: str | None = None) -> Iterator[int]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, user=user, group=user, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def run_postgres(folder: Path, *, has_tls: bool) -> Iterator[int]:
    postgres, initdb = program("postgres"), program("initdb")
    data, pem, port = folder / "data", folder / "server.pem", free_port()
    data.mkdir()
    for path in (data, pem):
        give_to("postgres", path)
    subprocess.run([initdb, "-N", "-D", str(data)], user="postgres", cwd=folder, check=True, capture_output=True)
    settings = [f"port={port}", f"unix_socket_directories={data}", "fsync=off"]
    if has_tls:
        settings += ["ssl=on", f"ssl_cert_file={pem}", f"ssl_key_file={pem}"]
    command = [postgres, "-D", str(data), *(word for setting in settings for word in ("-c", setting))]
    with run_daemon(command, port, "postgres"):
        yield port


@pytest.mark.parametrize("has_tls", [True, False])
def test_postgres(folder: Path, has_tls: bool) -> None:
    with run_postgres(folder, has_tls=has_tls) as port:
        found = look(port, Reach(starttls="postgres"), is_full=True)
    if has_tls:
        assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ()), found.answer
    else:
        assert (found.verdict, len(found.attempts)) == ("inconclusive", 1)
        assert "TLS switched off" in found.answer


@pytest.mark.parametrize("has_tls", [True, False])
def test_mariadb(folder: Path, has_tls: bool) -> None:
    mariadbd, port, data = program("mariadbd"), free_port(), folder / "data"
    data.mkdir()
    for path in (data, folder / "server.pem"):
        give_to("mysql", path)
    install = [program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--user=mysql", "--skip-test-db"]
    subprocess.run(install, check=True, capture_output=True)
    options = [f"--datadir={data}", f"--port={port}", f"--bind-address={HOST}", f"--socket={data}/socket"]
    if has_tls:
        options += [f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.pem"]
    with run_daemon([mariadbd, "--no-defaults", f"--pid-file={data}/pid", *options], port, "mysql"):
        found = look(port, Reach(starttls="mysql"), is_full=True)
    if has_tls:
        assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ()), found.answer
    else:
        assert "has no TLS" in found.answer


def test_dovecot(folder: Path) -> None:
    dovecot, port = program("dovecot"), free_port()
    conf = folder / "dovecot.conf"
    conf.write_text(
        f"protocols = imap\nbase_dir = {folder}/run\nstate_dir = {folder}/state\nlog_path = {folder}/log\n"
        f"ssl = yes\nssl_cert = <{folder}/server.pem\nssl_key = <{folder}/server.pem\n"
        f"service imap-login {{\n inet_listener imap {{\n address = {HOST}\n port = {port}\n }}\n"
        " inet_listener imaps {\n port = 0\n }\n}\n"
        "passdb {\n driver = static\n args = nopassword=y\n}\n"
        "userdb {\n driver = static\n args = uid=65534 gid=65534\n}\n"
    )
    with run_daemon([dovecot, "-F", "-c", str(conf)], port):
        found = look(port, Reach(starttls="imap"), is_full=True)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ()), found.answer


def test_exim(folder: Path) -> None:
    """Debian's is linked to GnuTLS."""
    exim, port = program("exim4"), free_port()
    (folder / "spool").mkdir()
    shutil.chown(folder / "spool", "Debian-exim", "Debian-exim")
    shutil.chown(folder / "server.pem", "Debian-exim", "Debian-exim")
    conf = folder / "exim.conf"
    conf.write_text(
        f"spool_directory = {folder}/spool\nlog_file_path = {folder}/spool/%slog\npid_file_path = {folder}/spool/pid\n"
        f"local_interfaces = {HOST}\ndaemon_smtp_ports = {port}\nprimary_hostname = mail.example\n"
        f"tls_advertise_hosts = *\ntls_certificate = {folder}/server.pem\ntls_privatekey = {folder}/server.pem\n"
        "smtp_accept_max = 100\nacl_smtp_rcpt = refuse\nbegin acl\nrefuse:\n  deny\nbegin routers\nbegin transports\n"
    )
    with run_daemon([exim, "-C", str(conf), "-bdf"], port):
        found = look(port, Reach(starttls="smtp"), is_full=True)
    assert (found.verdict, found.server_state, found.faults) == ("healthy", "classical", ()), found.answer


@contextlib.contextmanager
def run_proxy(name: str, folder: Path) -> Iterator[int]:
    path, port, conf = program(name), free_port(), folder / f"{name}.conf"
    if name == "tinyproxy":
        conf.write_text(
            f"Port {port}\nListen {HOST}\nMaxClients 50\nTimeout 60\nBasicAuth user s3cret\nLogLevel Error\n"
        )
        command = [path, "-d", "-c", str(conf)]
    else:
        conf.write_text(
            f"http_port {HOST}:{port}\nhttp_access allow all\npid_filename none\ncache deny all\naccess_log none\n"
            f"cache_log {folder}/squid.log\ncoredump_dir {folder}\nshutdown_lifetime 0 seconds\n"
            "max_filedescriptors 1024\n"
        )
        command = [path, "-N", "-f", str(conf)]
    with run_daemon(command, port):
        yield port


@pytest.mark.parametrize("name", ["tinyproxy", "squid"])
def test_real_proxies(name: str, folder: Path, hybrid_port: int) -> None:
    with run_proxy(name, folder) as port, real.Proxy(hybrid_port, real.read_once) as once:
        reach = Reach(Proxy(HOST, port, "user:s3cret"))
        healthy = look(hybrid_port, reach, is_full=True)
        faulty = look(once.port, reach)
        closed = look(free_port(), reach)
        refused = look(hybrid_port, Reach(Proxy(HOST, port, "user:wrong")))
        uncredited = look(hybrid_port, Reach(Proxy(HOST, port)))
    assert (healthy.verdict, healthy.server_state) == ("healthy", "preferred"), healthy.answer
    assert faulty.fault_ids == {"F01"}, faulty.answer
    assert closed.verdict == "inconclusive"
    assert "made no connection to" in closed.answer
    if name == "tinyproxy":
        assert "does not take these credentials (401)" in refused.answer
        assert "wants credentials (407)" in uncredited.answer


def test_starttls_through_a_real_proxy(folder: Path, hybrid_port: int) -> None:
    server = real.Proxy(hybrid_port, before.after(before.smtp, real.read_whole))
    with run_proxy("squid", folder) as port, server:
        found = look(server.port, Reach(Proxy(HOST, port), "smtp"))
    assert (found.verdict, found.server_state) == ("healthy", "preferred"), found.answer
