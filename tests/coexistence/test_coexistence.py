"""A small part of `make test-coexistence`: other TLS stacks beside the graft, and threads that fork in mid-flight.

The environment under test is a real enabled one; it sees the packages of the development environment by a `.pth` line.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from pqtls.openssl.enable import Request
from pqtls.openssl.graft import Graft
from pqtls.openssl.venv_settings import plan_settings
from tests.coexistence.drive import (
    BARE,
    CLASSICAL_CONF,
    HYBRID,
    Certificates,
    Load,
    UsesReport,
    make_certificates,
    run_far_end,
    stress,
    use_stacks,
)
from tests.openssl.conftest import graft, interpreter, shared_cache, source
from tests.openssl.venv_tools import enable_venv, make_venv

__all__ = ["graft", "interpreter", "shared_cache", "source"]

STACKS = {
    "cryptography": "cryptography",
    "pyOpenSSL": "OpenSSL",
    "psycopg": "psycopg",
    "gevent": "gevent",
}
LOAD = Load(threads=16, requests=6, children=4, child_requests=3)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def far_port(graft: Graft, certificates: Certificates) -> Iterator[int]:
    with run_far_end(certificates, graft.apply(BARE)) as port:
        yield port


@pytest.fixture(scope="module")
def classical_port(graft: Graft, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    conf = tmp_path_factory.mktemp("conf") / "classical.cnf"
    conf.write_text(CLASSICAL_CONF)
    with run_far_end(certificates, {**graft.apply(BARE), "OPENSSL_CONF": str(conf)}) as port:
        yield port


def make_python(folder: Path) -> Path:
    root = make_venv(folder)
    place = next((root / "lib").glob("python*")) / "site-packages"
    (place / "development.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return root / "bin" / "python"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_python(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module", params=[False, True], ids=["enabled", "require-pq"])
def enabled(request: pytest.FixtureRequest, graft: Graft, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = make_python(tmp_path_factory.mktemp("enabled"))
    settings = plan_settings("", require_pq=request.param)
    enable_venv(
        python.parent.parent,
        Request(require_pq=request.param, plugins=settings.plugins, settings=settings.values),
    )
    return python


def check(report: UsesReport, uses: int) -> None:
    """Require that every use got its answer, that `ssl` was hybrid each time, and that one graft is all it has."""
    assert (report.code, report.stderr) == (0, "")
    assert [(step.got, step.error) for step in report.steps] == [("hello", "")] * uses
    assert report.seen["ssl"] == {HYBRID: 2}
    assert report.grafted == ["libcrypto.so.3", "libssl.so.3"]
    assert report.systems == []


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_before_ssl(enabled: Path, far_port: int, certificates: Certificates, stack: str) -> None:
    pytest.importorskip(STACKS[stack])
    check(use_stacks(enabled, [stack], "stack-first", far_port, certificates.ca, BARE), 4)


def test_all_after_ssl(enabled: Path, far_port: int, certificates: Certificates) -> None:
    stacks = [name for name, module in STACKS.items() if importlib.util.find_spec(module)]
    check(use_stacks(enabled, stacks, "ssl-first", far_port, certificates.ca, BARE), 2 * len(stacks) + 2)


def test_the_control_has_no_graft(plain: Path, far_port: int, certificates: Certificates) -> None:
    report = use_stacks(plain, [], "ssl-first", far_port, certificates.ca, BARE)
    assert [step.got for step in report.steps] == ["hello"] * 2
    assert report.seen["ssl"] == {"not-post-quantum / not-offered": 2}
    assert report.grafted == []
    assert [Path(path).name for path in report.systems] == ["libcrypto.so.3", "libssl.so.3"]


def test_threads_and_forks(enabled: Path, far_port: int, certificates: Certificates) -> None:
    report = stress(enabled, LOAD, far_port, certificates.ca, BARE)
    assert report.find_faults(LOAD, HYBRID) == []


def test_the_stress_sees_what_is_wrong(
    enabled: Path, classical_port: int, far_port: int, plain: Path, certificates: Certificates
) -> None:
    """The control: a classical server, and where that is refused, a plain environment besides."""
    load = Load(threads=2, requests=2, children=2, child_requests=1)
    refused = stress(enabled, load, classical_port, certificates.ca, BARE)
    assert refused.find_faults(load, HYBRID) != []
    assert HYBRID not in refused.seen
    classical = stress(plain, load, far_port, certificates.ca, BARE)
    assert classical.answered == load.threads * load.requests
    assert classical.seen == {"not-post-quantum / not-offered": load.handshakes}
    assert classical.find_faults(load, HYBRID) != []
