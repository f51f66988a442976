from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pqtls.errors import BugError, UsageError
from pqtls.lab.names import AWS_HOSTS
from pqtls.lab.server import LabServers
from tests.lab.conftest import child_environment

if TYPE_CHECKING:
    from pqtls.lab.ca import LabCA
    from pqtls.lab.messages import ListenerName


def connect(servers: LabServers, ca: LabCA, name: ListenerName = "good", **versions: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(ca.bundle))
    for attribute, version in versions.items():
        setattr(context, attribute, version)
    plain = socket.create_connection(servers.address(name), timeout=10)
    return context.wrap_socket(plain, server_hostname=AWS_HOSTS[0])


def ask(tls: ssl.SSLSocket, *requests: str, host: str = AWS_HOSTS[0]) -> list[tuple[int, bytes]]:
    """Send requests over one connection, without a proxy or a pool in between."""
    connection = http.client.HTTPConnection(host)
    connection.sock = tls
    answers = []
    for path in requests:
        connection.request("GET", path)
        answer = connection.getresponse()
        answers.append((answer.status, answer.read()))
    return answers


def test_ping_answers_as_aws_does_and_the_connection_is_kept(servers: LabServers, ca: LabCA) -> None:
    before = servers.stats()["good"]
    with connect(servers, ca) as tls:
        assert ask(tls, "/ping", "/ping") == [(200, b"healthy"), (200, b"healthy")]
    after = servers.stats()["good"]
    assert after.accepted - before.accepted == 1
    assert after.handshakes - before.handshakes == 1
    assert after.requests - before.requests == 2


def test_a_host_that_is_not_of_aws_gets_no_aws(servers: LabServers, ca: LabCA) -> None:
    with connect(servers, ca) as tls:
        assert ask(tls, "/", host="localhost")[0][0] == 404


@pytest.mark.parametrize("name", ["wrong-name", "wrong-ca"])
def test_a_refused_certificate_means_no_request(servers: LabServers, ca: LabCA, name: ListenerName) -> None:
    before = servers.stats()[name]
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(servers, ca, name)
    after = servers.stats()[name]
    assert after.accepted - before.accepted == 1
    assert after.requests == before.requests


def test_silence_and_garbage_disturb_nobody(servers: LabServers, ca: LabCA) -> None:
    address = servers.address("good")
    silent = [socket.create_connection(address) for _ in range(20)]
    with socket.create_connection(address, timeout=10) as garbage:
        garbage.sendall(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        began = time.monotonic()
        with connect(servers, ca) as tls:
            assert ask(tls, "/ping") == [(200, b"healthy")]
        assert time.monotonic() - began < 5
    for each in silent:
        each.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n", b"400"),
        (b"nonsense\r\n", b"400"),
    ],
)
def test_requests_that_it_does_not_take(servers: LabServers, ca: LabCA, head: bytes, status: bytes) -> None:
    before = servers.stats()["good"].requests
    with connect(servers, ca) as tls:
        tls.sendall(head + b"\r\n")
        assert status in tls.recv(4096)
    assert servers.stats()["good"].requests - before >= 1


def test_a_server_held_to_tls_1_2(ca: LabCA) -> None:
    with LabServers(ca, sys.executable, child_environment(), maximum_version="TLSv1.2") as servers:
        with connect(servers, ca) as tls:
            assert tls.version() == "TLSv1.2"
            assert ask(tls, "/ping") == [(200, b"healthy")]
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            connect(servers, ca, minimum_version=ssl.TLSVersion.TLSv1_3)


def test_the_groups_are_those_of_openssl_conf(ca: LabCA, tmp_path: Path) -> None:
    conf = tmp_path / "openssl.cnf"
    conf.write_text(
        "openssl_conf = i\n[i]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\nGroups = P-256\n", encoding="utf-8"
    )
    context = ssl.create_default_context(cafile=str(ca.bundle))
    context.set_ecdh_curve("secp384r1")
    environment = {**child_environment(), "OPENSSL_CONF": str(conf)}
    with LabServers(ca, sys.executable, environment) as servers:
        with connect(servers, ca) as tls:  # the control: it serves clients that have P-256
            assert ask(tls, "/ping") == [(200, b"healthy")]
        plain = socket.create_connection(servers.address("good"), timeout=10)
        with closing(plain), pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            context.wrap_socket(plain, server_hostname=AWS_HOSTS[0])


def test_counts_can_be_asked_for_from_several_threads(servers: LabServers) -> None:
    failures: list[Exception] = []

    def ask_often() -> None:
        try:
            for _ in range(50):
                assert set(servers.stats()) == {"good", "wrong-name", "wrong-ca"}
        except Exception as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=ask_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_without_moto_it_says_what_to_install(ca: LabCA, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['moto'] = None\n", encoding="utf-8")
    environment = {**child_environment(), "PYTHONPATH": str(tmp_path)}
    with pytest.raises(UsageError) as raised, LabServers(ca, sys.executable, environment):
        pass
    assert str(raised.value) == (
        "The local lab needs moto, which is not installed. Run: pip install 'pqtls[suite,aws]'."
    )


def test_a_child_that_fails_is_told_with_its_last_words(ca: LabCA, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, b'no luck\\n'); os._exit(9)\n", encoding="utf-8")
    environment = {**child_environment(), "PYTHONPATH": str(tmp_path)}
    with pytest.raises(BugError, match="no luck"), LabServers(ca, sys.executable, environment):
        pass


def test_nothing_is_left_after_an_exception(ca: LabCA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptors = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing itself opens one
    threads = set(threading.enumerate())
    servers = LabServers(ca, sys.executable, child_environment())
    with pytest.raises(KeyboardInterrupt), servers:  # noqa: PT012 - what is left is the point
        assert list(tmp_path.iterdir()) == []  # the keys are gone once they are loaded
        raise KeyboardInterrupt
    assert not Path(f"/proc/{servers.pid}").exists()
    assert set(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    assert set(threading.enumerate()) == threads


def test_the_users_aws_settings_have_no_part_in_it(ca: LabCA, tmp_path: Path) -> None:
    """moto would read them: with a file that cannot be parsed it did not start."""
    (tmp_path / ".aws").mkdir()
    for name in ("config", "credentials"):
        (tmp_path / ".aws" / name).write_text("[profile broken\n")
    with (
        LabServers(ca, sys.executable, {**child_environment(), "HOME": str(tmp_path), "AWS_PROFILE": "x"}) as servers,
        connect(servers, ca) as tls,
    ):
        assert ask(tls, "/ping") == [(200, b"healthy")]
