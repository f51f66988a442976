"""The graft of the room openssl, certificates, and the other end of guarded connections."""

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
import trustme

from tests.openssl.conftest import graft, interpreter, shared_cache, source

__all__ = ["graft", "interpreter", "shared_cache", "source"]

INJECT = Path(__file__).parent.parent.parent / "src" / "pqtls" / "inject"
PYTHONS = {
    ".".join(path.parent.parent.name.split(".")[:2]): path
    for path in sorted(Path.home().glob(".pyenv/versions/3.1[0-9].*/bin/python"))
}
PYTHONS[f"{sys.version_info.major}.{sys.version_info.minor}"] = Path(sys.executable)
LIMITS = {
    "hybrid": "",
    "classical": "Groups = x25519\n",
    "tls12": "MaxProtocol = TLSv1.2\n",
    "retry": "Groups = P-521\n",
}


@dataclass(frozen=True)
class Files:
    ca: str
    server: str
    client: str


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    ca.issue_cert("server.example", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )
    ca.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    return Files(*(str(folder / f"{name}.pem") for name in ("ca", "server", "client")))


@dataclass(frozen=True)
class Peer:
    process: subprocess.Popen[str]
    port: int

    def ask(self, command: str) -> dict[str, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert isinstance(answer, dict)
        return answer


@contextlib.contextmanager
def run_peer(kind: str, folder: Path, environment: dict[str, str], files: Files) -> Iterator[Peer]:
    conf = folder / f"{kind}.cnf"
    conf.write_text(f"openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\n{LIMITS[kind]}")
    process = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).parent / "peer.py"), files.server, files.ca],
        env={**environment, "OPENSSL_CONF": str(conf)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Peer(process, json.loads(process.stdout.readline())["port"])
    finally:
        process.kill()
        process.communicate()


def run_guarded(
    python: Path, mode: str, peer: Peer, environment: dict[str, str], files: Files, *ways: str
) -> tuple[dict[str, Any], list[int]]:
    """Run guarded.py; return its answer, and what the peer received of each connection that it made to it."""
    command = [str(python), "-I", str(Path(__file__).parent / "guarded.py"), str(INJECT), mode, str(peer.port)]
    received: list[int] = []
    with subprocess.Popen(
        [*command, files.ca, files.client, files.server, *ways],
        env={**environment, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            if "dial" not in answer:
                return answer, received
            received.append(peer.ask(f"dial {answer['dial']}")["received"])
    pytest.fail(f"guarded.py ended with code {process.returncode}")
