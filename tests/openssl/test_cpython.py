"""A fast part of CPython's own tests, in an enabled environment against a plain one; all: `make test-cpython`."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pqtls.openssl.enable import Request
from pqtls.openssl.venv_settings import plan_settings
from tests.openssl.cpython_tests import Outcome, find_worse, read_report, run_again, run_modules
from tests.openssl.venv_tools import enable_venv, make_venv

PATTERNS = {
    "test_ssl": (
        "test.test_ssl.BasicSocketTests.*",
        "test.test_ssl.ContextTests.*",
        "test.test_ssl.MemoryBIOTests.*",
        "test.test_ssl.SSLErrorTests.*",
        "test.test_ssl.SSLObjectTests.*",
        "test.test_ssl.SimpleBackgroundTests.*",
        "test.test_ssl.TestPreHandshakeClose.*",
        "test.test_ssl.ThreadedTests.test_wrong_cert_tls1*",
        "test.test_ssl.ThreadedTests.test_check_hostname",
        "test.test_ssl.ThreadedTests.test_crl_check",
        "test.test_ssl.ThreadedTests.test_sendfile",
        "test.test_ssl.TestPostHandshakeAuth.test_pha_required_nocert",
    ),
    "test_hmac": (),
}
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Of a short name: some tests make Unix sockets below it."""
    with tempfile.TemporaryDirectory(prefix="pqc", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    if importlib.util.find_spec("test.test_ssl") is None:
        pytest.skip("this Python comes without its own tests (Lib/test; Debian: libpython3-testsuite)")
    return make_venv(folder / "plain") / "bin" / "python"


def enabled(root: Path, plugins: tuple[str, ...]) -> Path:
    _, done = enable_venv(make_venv(root), Request(plugins=plugins))
    if done.outcome == "native":
        pytest.skip("this Python has ML-KEM by its own OpenSSL: nothing is enabled")
    return root / "bin" / "python"


def run_quick(python: Path, folder: Path) -> Outcome:
    outcome = Outcome()
    for module, patterns in PATTERNS.items():
        part = run_modules(python, (module,), folder / "t", patterns, TIMEOUT_S)
        outcome.tests.update(part.tests)
        outcome.unfinished.update(part.unfinished)
    return outcome


@pytest.mark.usefixtures("source")
def test_nothing_is_worse(plain: Path, folder: Path) -> None:
    python = enabled(folder / "on", plan_settings("", require_pq=False).plugins)
    before, after = run_quick(plain, folder), run_quick(python, folder)
    assert not before.unfinished
    assert before.count("passed") > 100, "it did run"
    worse = find_worse(before, after)
    again = run_again(worse, plain, python, tuple(PATTERNS), folder / "t") if worse else []
    for each in again:
        print(f"{'worse' if each.is_real else 'once'}: {each.name}: {each.detail}")
    assert not [each.name for each in again if each.is_real]


@pytest.mark.usefixtures("source")
def test_what_is_worse_is_found(plain: Path, folder: Path) -> None:
    """The control: an `ssl` that is broken in one place, and then in every."""
    root = make_venv(folder / "broken")
    python = root / "bin" / "python"
    site_packages = next((root / "lib").glob("python*")) / "site-packages"
    breaks = "import ssl; ssl.SSLContext.load_default_certs = lambda *_: None\n"
    (site_packages / "break.pth").write_text(breaks)
    pattern = ("test.test_ssl.ContextTests.test_load_default_cert*",)
    before, after = (run_modules(each, ("test_ssl",), folder / "t", pattern, TIMEOUT_S) for each in (plain, python))
    name = "test.test_ssl.ContextTests.test_load_default_certs"
    assert before.tests[name] == "passed"
    worse = find_worse(before, after)
    assert worse[name] == "failed; plain: passed"
    again = {each.name: each for each in run_again(worse, plain, python, ("test_ssl",), folder / "t")}
    assert again[name].is_real
    assert again[name].detail.endswith("alone again: failed (plain passed), failed (plain passed)")
    (site_packages / "break.pth").write_text("import os, sys; '-m' in sys.orig_argv and os.kill(os.getpid(), 11)\n")
    crashed = run_modules(python, ("test_ssl",), folder / "t", pattern, TIMEOUT_S)
    assert crashed.unfinished == {"test.test_ssl": "ended by signal 11"}
    assert find_worse(before, crashed) == {"test.test_ssl": "module: ended by signal 11; plain: finished"}


def test_a_module_that_hangs_is_told(plain: Path, folder: Path) -> None:
    outcome = run_modules(plain, ("test_ssl", "test_nosuch"), folder / "t", timeout_s=0.2)
    assert outcome.unfinished == {"test.test_ssl": "not finished after 0 s"}
    assert outcome.absent == ["test_nosuch"]


def test_what_counts_as_worse(tmp_path: Path) -> None:
    plain = Outcome({"a": "passed", "b": "passed", "c": "passed", "d": "failed", "e": "skipped", "f": "passed"})
    after = Outcome({"a": "passed", "b": "skipped", "c": "failed", "d": "failed", "e": "failed", "g": "failed"})
    assert find_worse(plain, after) == {
        "b": "skipped; plain: passed",
        "c": "failed; plain: passed",
        "e": "failed; plain: skipped",
        "f": "missing; plain: passed",
        "g": "failed; plain: missing",
    }
    assert find_worse(plain, plain) == {}
    report = tmp_path / "junit.xml"
    report.write_text(
        '<a><testcase name="x"/><testcase name="x"><failure/></testcase><testcase name="x"/>'
        '<testcase name="y"><skipped/></testcase></a>'
    )
    assert read_report(report) == {"x": "failed", "y": "skipped"}
