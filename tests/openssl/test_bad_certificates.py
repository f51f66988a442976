"""Bad certificates stay bad: refused in an enabled environment exactly as in a plain one, before any application data.

Real TLS servers and clients on loopback. What must be the same is what a program can see and act on: the class of the
exception and its bases, OpenSSL's reason, and the number of the verdict; and the other end receives not one byte. Good
certificates, accepted by all, are the control, and so are the verdicts themselves, which each case names.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pqtls.openssl.enable import Request
from pqtls.openssl.venv_settings import plan_settings
from tests.openssl.bad_certificates import CASES, make_all
from tests.openssl.venv_tools import ENVIRONMENT, enable_venv, make_venv

pytestmark = pytest.mark.usefixtures("source")
ENDS = str(Path(__file__).parent / "certificate_ends.py")
WAYS = ("socket", "late", "asyncio", "urllib")
SEEN_BY_PROGRAMS = ("answer", "error", "bases", "within", "verify_code", "reason", "library")


@dataclass(frozen=True)
class Environments:
    plain: Path
    enabled: Path
    required: Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    make_all(folder)
    return folder


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    folder = tmp_path_factory.mktemp("environments")
    made = [make_venv(folder / name) for name in ("plain", "enabled", "required")]
    for root, require_pq in ((made[1], False), (made[2], True)):
        settings = plan_settings("", require_pq=require_pq)
        _, done = enable_venv(root, Request(require_pq=require_pq, plugins=settings.plugins, settings=settings.values))
        if done.outcome == "native":
            pytest.skip(f"{sys.executable} has ML-KEM by its own OpenSSL: nothing is enabled")
    return Environments(*(root / "bin" / "python" for root in made))


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    ports: dict[str, int]
    openssl: str

    def fate(self, name: str) -> dict[str, Any]:
        """Return what became of the next connection to one port."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert isinstance(answer, dict)
        return answer


@contextlib.contextmanager
def run_server(python: Path, folder: Path, names: list[str], client_ca: str = "-") -> Iterator[Server]:
    process = subprocess.Popen(
        [str(python), ENDS, "serve", str(folder), client_ca, *names],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Server(process, **json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def connect(python: Path, folder: Path, connections: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    plan = {"ca": str(folder / "ca.pem"), "folder": str(folder), "connections": connections}
    done = subprocess.run(
        [str(python), ENDS, "connect", json.dumps(plan)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["openssl"], answer["results"]


def visible(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result.get(name) for name in SEEN_BY_PROGRAMS}


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["classical", "hybrid"])
def test_servers_certificates(environments: Environments, folder: Path, kind: str) -> None:
    cases = [case for case in CASES if "server" in case.roles]
    names = [case.name for case in cases]
    with run_server(environments.plain if kind == "classical" else environments.enabled, folder, names) as server:
        plan = [(case, way, False) for case in cases for way in WAYS] + [(case, "socket", True) for case in cases]
        connections = [
            {"way": way, "port": server.ports[case.name], "crl": case.with_crl, "tls12": is_old}
            for case, way, is_old in plan
        ]
        seen = {}
        for who in ("plain", "enabled"):
            openssl, results = connect(getattr(environments, who), folder, connections)
            fates = [server.fate(case.name) for case, _, _ in plan]
            seen[who] = openssl
            for (case, way, is_old), result, fate in zip(plan, results, fates, strict=True):
                where = f"{who}, {case.name}, {way}, {is_old}: {result}, {fate}"
                if case.verify_code:
                    assert result["error"] == "ssl.SSLCertVerificationError", where
                    assert result["verify_code"] == case.verify_code, where
                    assert (fate["handshake"], fate["received"]) == (False, 0), where
                else:
                    assert result == {"answer": "ok", "error": None}, where
                    assert fate["received"] > 0, where
            if who == "plain":
                plain = results
                continue
            assert [visible(result) for result in results] == [visible(result) for result in plain]
    assert seen["plain"] != seen["enabled"]


def test_required_against_a_hybrid_server(environments: Environments, folder: Path) -> None:
    """A certificate's error stays one. The control: no application byte gets to a classical server."""
    cases = [case for case in CASES if "server" in case.roles]
    plan = [(case, way) for case in cases for way in WAYS]
    answers = {}
    for kind in ("hybrid", "classical"):
        python = environments.enabled if kind == "hybrid" else environments.plain
        with run_server(python, folder, [case.name for case in cases]) as server:
            connections = [{"way": way, "port": server.ports[case.name], "crl": case.with_crl} for case, way in plan]
            _, answers[kind] = connect(environments.required, folder, connections)
            fates = [server.fate(case.name) for case, _ in plan]
            if kind == "hybrid":
                _, plain = connect(environments.plain, folder, connections)
        for (case, way), result, fate in zip(plan, answers[kind], fates, strict=True):
            where = f"{kind}, {case.name}, {way}: {result}, {fate}"
            if kind == "classical":
                assert "SSLError" in result["bases"], where
                assert result["verify_code"] is None, where
                assert fate["received"] == 0, where
            elif case.verify_code:
                assert (fate["handshake"], fate["received"]) == (False, 0), where
            else:
                assert result["answer"] == "ok", where
    assert [visible(result) for result in answers["hybrid"]] == [visible(result) for result in plain]


def test_clients_certificates(environments: Environments, folder: Path) -> None:
    """The same for servers that ask for a certificate: it is theirs to refuse."""
    cases = [case for case in CASES if "client" in case.roles]
    lists = sorted({case.with_crl for case in cases})
    outcomes = {}
    for who in ("plain", "enabled", "required"):
        ends = [f"good@{crl}" for crl in lists]
        with run_server(getattr(environments, who), folder, ends, str(folder / "ca.pem")) as server:
            connections = [
                {
                    "way": "socket",
                    "port": server.ports[f"good@{case.with_crl}"],
                    "present": "wrong-purpose-client" if case.name == "wrong-purpose" else case.name,
                    "tls12": is_old,
                }
                for is_old in ((False,) if who == "required" else (False, True))
                for case in cases
            ]
            _, results = connect(environments.enabled, folder, connections)
            fates = [
                server.fate(next(n for n, port in server.ports.items() if port == each["port"])) for each in connections
            ]
        for case, result, fate in zip(cases * 2, results, fates, strict=False):
            where = f"{who}, {case.name}: {result}, {fate}"
            if case.verify_code:
                assert fate["failure"]["error"] == "ssl.SSLCertVerificationError", where
                assert fate["failure"]["verify_code"] == case.verify_code, where
                assert (fate["handshake"], fate["received"]) == (False, 0), where
                assert result["error"], where
            else:
                assert result == {"answer": "ok", "error": None}, where
                assert fate["failure"] is None, where
        outcomes[who] = [visible(fate["failure"] or {}) for fate in fates]
    assert outcomes["enabled"] == outcomes["plain"]
    assert outcomes["required"] == outcomes["plain"][: len(cases)]
