from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pqtls.errors import PqtlsError
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from pqtls.probe import prepared
from pqtls.probe.network import SocketNetwork
from tests.path.real_servers import run_server, write_certificate


def plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def hybrid_environment() -> dict[str, str]:
    """An environment in which OpenSSL has ML-KEM."""
    try:
        way = choose_way("auto", inspect_interpreter(sys.executable, {}), environment=plain_environment())
    except PqtlsError as error:
        pytest.skip(f"no OpenSSL with ML-KEM here: {error}")
    return way.apply(plain_environment())


@pytest.fixture(scope="session")
def hybrid_port(pem: Path, hybrid_environment: dict[str, str]) -> Iterator[int]:
    with run_server(pem, hybrid_environment) as port:
        yield port


@pytest.fixture(scope="session")
def classical_port(pem: Path, hybrid_environment: dict[str, str]) -> Iterator[int]:
    with run_server(pem, hybrid_environment, "x25519:secp256r1") as port:
        yield port


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spacing, which only a punishing box needs, is cut short; so is the patience with servers that say nothing."""
    monkeypatch.setattr(SocketNetwork, "sleep", lambda _, seconds: time.sleep(min(seconds, 0.01)))
    monkeypatch.setattr(prepared, "PATIENCE_S", 0.6)
    for name in ("PQTLS_PROXY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost over both, whatever this machine's files say."""
    real_lookup = socket.getaddrinfo

    def lookup(host: Any, port: Any, family: int = 0, *rest: Any) -> Any:
        if host != "localhost":
            return real_lookup(host, port, family, *rest)
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        return [each for each in found if family in (0, each[0])]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
