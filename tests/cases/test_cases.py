"""Every client script as a real process against the lab, on whatever OpenSSL this Python has."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from pqtls.lab.client_environment import lab_client_environment
from pqtls.lab.listener import TlsListener
from pqtls.lab.messages import ListenerPlan
from pqtls.lab.names import AWS_HOSTS, LOOPBACK
from pqtls.suite.case import Case, load_builtin_cases
from pqtls.wire.tracker import HandshakeTracker
from tests.lab.test_router import server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from pqtls.lab.ca import LabCA
    from pqtls.lab.entry import Entry
    from pqtls.lab.messages import ListenerName
    from pqtls.lab.names import Address
    from pqtls.lab.router import Router
    from pqtls.lab.server import LabServers
    from pqtls.wire.facts import Side

CASES = load_builtin_cases()
PING = "200 healthy"
LINE = "HTTP/1.1 200 OK"
ANSWERS = {"boto3": "200 1 secrets", "aws-cli": "1", "socket-ssl": LINE, "asyncio-streams": LINE}
REFUSALS = {"wrong-name": ("hostname mismatch", "doesn't match"), "wrong-ca": ("unable to get local issuer",)}


@pytest.fixture(params=CASES, ids=[case.name for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


class SniWitness:
    """Reads the server name that a connection asked for."""

    def __init__(self, names: list[str | None]) -> None:
        self._names = names
        self._tracker = HandshakeTracker()

    def receive(self, side: Side, data: bytes, time_ns: int) -> None:
        if not self._tracker.done:
            self._tracker.receive_data(side, data, time_ns)

    def finished(self, how: Literal["closed", "reset"] | None) -> None:
        assert self._tracker.handshake is not None
        self._names.append(self._tracker.handshake.sni)


@dataclass(frozen=True, slots=True)
class Ran:
    exit_code: int
    output: str
    error: str
    entry: Entry
    names: list[str | None]


def run(case: Case, router: Router, ca: LabCA, target: Address, home: Path, **extra: str) -> Ran:
    names: list[str | None] = []
    routes = dict.fromkeys((*AWS_HOSTS, "localhost"), target)
    factory = lambda _client, _server, _host: SniWitness(names)  # noqa: E731
    with router.open_entry(routes, dial=target, witness_factory=factory) as entry:
        environment = lab_client_environment(ca.bundle, entry.proxy_port, entry.dial_port, home)
        environment["PATH"] = f"{sysconfig.get_path('scripts')}:{environment['PATH']}"
        program = "/bin/sh" if case.path.suffix == ".sh" else sys.executable
        done = subprocess.run(
            [program, str(case.path)],
            env={**environment, **extra},
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
    assert entry.witness_errors == []
    return Ran(done.returncode, done.stdout.strip(), done.stderr.strip(), entry, names)


def test_the_eight_in_order() -> None:
    assert [case.title for case in CASES] == [
        "socket + ssl",
        "requests",
        "boto3",
        "AWS CLI v1 (pip)",
        "asyncio streams",
        "urllib3",
        "httpx",
        "aiohttp",
    ]
    assert {case.host for case in CASES} == set(AWS_HOSTS)
    assert [case.missing() for case in CASES] == [()] * 8


def test_it_is_short_and_looks_at_no_group(case: Case) -> None:
    text = case.path.read_text(encoding="utf-8")
    assert 10 <= len(text.splitlines()) <= 35
    for word in ("group", "curve", "verify", "CERT_NONE", "check_hostname", "pqtls."):
        assert word not in text


def test_its_answer(case: Case, router: Router, ca: LabCA, servers: LabServers, tmp_path: Path) -> None:
    before = servers.stats()["good"]
    ran = run(case, router, ca, servers.address("good"), tmp_path)
    after = servers.stats()["good"]
    assert (ran.exit_code, ran.output, ran.error) == (0, ANSWERS.get(case.name, PING), "")
    assert ran.entry.refused == []
    assert ran.names == [case.host]
    assert after.accepted - before.accepted == ran.entry.connections == 1
    assert after.handshakes - before.handshakes == 1
    assert after.requests - before.requests == 1


@pytest.mark.parametrize("name", ["wrong-name", "wrong-ca"])
def test_it_refuses(
    case: Case, router: Router, ca: LabCA, servers: LabServers, tmp_path: Path, name: ListenerName
) -> None:
    before = servers.stats()[name]
    ran = run(case, router, ca, servers.address(name), tmp_path)
    after = servers.stats()[name]
    assert ran.exit_code != 0
    assert ran.output == ""
    assert any(words in ran.error.lower() for words in REFUSALS[name]), ran.error
    assert ran.names == [case.host]
    assert after.accepted - before.accepted == ran.entry.connections == 1
    assert after.requests == before.requests


@contextmanager
def failing_server(ca: LabCA, folder: Path) -> Iterator[Address]:
    """A server that every client trusts and that answers 503."""

    def refuse(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"not today"]

    certificate = ca.issue(*AWS_HOSTS, folder=folder)
    listener = TlsListener(ListenerPlan("good", str(certificate.chain), str(certificate.key)), refuse)
    try:
        yield LOOPBACK, listener.port
    finally:
        listener.shutdown()
        listener.server_close()


def test_a_bad_status_is_a_failure(case: Case, router: Router, ca: LabCA, tmp_path: Path) -> None:
    with failing_server(ca, tmp_path) as address:
        ran = run(case, router, ca, address, tmp_path)
    assert ran.exit_code != 0
    assert "503" in ran.output + ran.error
    assert ran.entry.connections == 1


def test_another_host_can_be_asked(case: Case, router: Router, ca: LabCA, servers: LabServers, tmp_path: Path) -> None:
    """For AWS's own clients the lab has nothing under this name: an answer of the server is enough."""
    ran = run(case, router, ca, servers.address("good"), tmp_path, PQTLS_HOST="localhost:443")
    assert ran.names == ["localhost"]
    assert (ran.exit_code == 0) == (not case.is_for_aws)


def test_a_host_without_a_route_is_not_reached(router: Router, ca: LabCA, servers: LabServers, tmp_path: Path) -> None:
    accepted = servers.stats()["good"].accepted
    for case in CASES:
        if case.name in ("socket-ssl", "asyncio-streams"):
            continue  # they have an address to dial
        ran = run(case, router, ca, servers.address("good"), tmp_path, PQTLS_HOST="outside.example")
        assert ran.exit_code != 0
        assert set(ran.entry.refused) == {"outside.example"}
    assert servers.stats()["good"].accepted == accepted


def test_none_waits_for_ever(router: Router, ca: LabCA, tmp_path: Path) -> None:
    """A server that accepts and says nothing."""

    def say_nothing(connection: socket.socket) -> None:
        connection.settimeout(30)
        while connection.recv(4096):
            pass

    def run_alone(case: Case) -> Ran:
        with server(say_nothing) as address:
            return run(case, router, ca, address, tmp_path)

    began = time.monotonic()
    with ThreadPoolExecutor(len(CASES)) as pool:
        codes = {case.name: ran.exit_code for case, ran in zip(CASES, pool.map(run_alone, CASES), strict=True)}
    assert all(codes.values()), codes
    assert time.monotonic() - began < 30
