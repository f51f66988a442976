from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pqtls.errors import PqtlsError
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
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
