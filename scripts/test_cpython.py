"""Run CPython's own TLS tests in a plain and in a grafted interpreter, and print what differs.

    python scripts/test_cpython.py [--modules test_ssl,test_hashlib] [--without-shim] PYTHON ...

Each PYTHON is the interpreter of an installation that brings its tests (pyenv's and python.org's do). The grafted run
has LD_LIBRARY_PATH, and inject/socket_errors.py installed as an enabled environment has it. `--without-shim` is the
control: the failures that the shim is for. Exit code 1 if a test fails that passes in the plain interpreter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

SOURCE = Path(__file__).resolve().parent.parent / "src"
sys.path.insert(0, str(SOURCE))

from pqtls.openssl.graft import make_graft  # noqa: E402
from pqtls.openssl.interpreter import inspect_interpreter  # noqa: E402
from pqtls.openssl.sources import find_sources  # noqa: E402

MODULES = (
    "test_ssl,test_asyncio.test_ssl,test_asyncio.test_sslproto,test_httplib,test_ftplib,test_poplib,test_imaplib,"
    "test_smtplib,test_hashlib,test_hmac"
)
TIMEOUT_S = 1800


def run_tests(python: Path, modules: list[str], environment: dict[str, str], folder: Path) -> dict[str, str]:
    """Run test modules with regrtest.

    Returns:
        Test to "passed", "skipped" or "failed"; of several attempts the first counts.
    """
    report = folder / "junit.xml"
    command = [str(python), "-m", "test", "-v", f"--junit-xml={report}", *modules]
    subprocess.run(command, env=environment, cwd=folder, timeout=TIMEOUT_S, check=False, capture_output=True)
    results: dict[str, str] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by the run above
        status = "passed"
        if case.find("skipped") is not None:
            status = "skipped"
        if case.find("failure") is not None or case.find("error") is not None:
            status = "failed"
        results.setdefault(case.get("name", ""), status)
    return results


def count(results: dict[str, str]) -> str:
    """Write results as one cell of a table."""
    tally = {status: list(results.values()).count(status) for status in ("passed", "skipped", "failed")}
    return f"{tally['passed']} passed, {tally['skipped']} skipped, {tally['failed']} failed"


def main() -> int:
    """Run and print one row a Python."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", nargs="+", type=Path)
    parser.add_argument("--modules", default=MODULES)
    parser.add_argument("--without-shim", action="store_true")
    options = parser.parse_args()
    modules = options.modules.split(",")
    worse: list[str] = []
    print("| Python | own OpenSSL | grafted | fails only grafted |\n|---|---|---|---|")
    for python in options.python:
        interpreter = inspect_interpreter(python, {})
        source = next(each for each in find_sources(interpreter) if each.is_usable)
        with tempfile.TemporaryDirectory(prefix="pqtls-cpython-") as name:
            folder = Path(name)
            bare = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
            graft = make_graft(source, interpreter, folder / "grafts", bare)
            plain = run_tests(python, modules, bare, folder)
            start = folder / "start"
            start.mkdir()
            if not options.without_shim:
                lines = f"import sys; sys.path.append({os.fspath(SOURCE / 'pqtls' / 'inject')!r})\n"
                lines += "import ssl, socket_errors; socket_errors.install(ssl); sys.path.pop()\n"
                (start / "sitecustomize.py").write_text(lines)
            grafted = run_tests(python, modules, graft.apply({**bare, "PYTHONPATH": str(start)}), folder)
        only = sorted(test for test, status in grafted.items() if status == "failed" and plain.get(test) != "failed")
        worse += only
        cells = (interpreter.version, count(plain), count(grafted), "<br>".join(only) or "none")
        print(f"| {' | '.join(cells)} |", flush=True)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
