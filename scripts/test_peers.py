"""Run the test suites of urllib3, aiohttp or botocore in a plain and in an enabled environment, and compare.

    python scripts/test_peers.py [--suite urllib3,aiohttp,botocore] [--python PYTHON] [--also REQUIREMENT]
                                  [--tests PATHS]

The suites come out of the projects' own source distributions, by the user's pip; nothing of them is kept. Both
environments have the same packages; the only difference is `pqtls enable`. A test that fails in the enabled one alone
is run again in both, by itself: some depend on the machine's load or network. Exit code 1 if such a test fails each
time in the enabled one and never in the plain one.

urllib3's tests of HTTP/2, client certificates and proxies need its own branch of hypercorn, which is on no index:
--also 'hypercorn @ git+https://github.com/urllib3/hypercorn@urllib3-changes', or a copy of it. Without it those fail
in both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from pqtls.openssl.enable import Request, enable
from pqtls.openssl.venv import find_venv
from pqtls.openssl.venv_settings import plan_settings

TIMEOUT_S = 2400
TEST_S = 60
"""A test that hangs fails; some wait for an address that does not answer."""
AGAIN = 3
"""Times that a test is run by itself, which failed in one environment alone."""
MAX_AGAIN = 30


@dataclass(frozen=True, slots=True)
class Suite:
    """One project's tests.

    Attributes:
        name: The project on the package index.
        version: What the result in the docs was made with.
        needs: What its tests need besides, for pip, with spaces between.
        arguments: For pytest, in the folder of its sources.
    """

    name: str
    version: str
    needs: str
    arguments: tuple[str, ...]


# Without the interpreter's wait for threads: a test that failed may have left some that wait for good.
_PYTEST_MAIN = "import os, sys, pytest; code = pytest.main(sys.argv[1:]); sys.stdout.flush(); os._exit(code)"
_PYTEST = "pytest<9 pytest-timeout"
SUITES = {
    each.name: each
    for each in (
        Suite(
            "urllib3",
            "2.8.0",
            # its dependency groups "test" and "dev", without what measures and releases
            f"{_PYTEST} anyio[trio] h2 httpx hypercorn pysocks pytest-socket quart quart-trio trio cryptography idna "
            "pyopenssl trustme",
            ("test", "--ignore=test/contrib/emscripten"),
        ),
        Suite(
            "aiohttp",
            "3.14.5",
            # requirements/test-common.in, without what measures, and Docker
            f"{_PYTEST} freezegun pkgconfig proxy.py>=2.4.4rc5 pytest-cov pytest-mock blockbuster isal pytest-xdist "
            "pytest_codspeed trustme zlib_ng re-assert setuptools brotli python-on-whales gunicorn uvloop aiodns "
            "jinja2",
            ("tests", "--numprocesses=0", "--no-cov", "--ignore=tests/autobahn"),
        ),
        Suite("botocore", "1.44.5", f"{_PYTEST} jsonschema", ("tests/unit", "tests/functional")),
    )
}


def unpack(suite: Suite, folder: Path) -> Path:
    """Fetch a project's source distribution and unpack it; return the folder of its sources."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", suite.name, "--dest", str(folder), f"{suite.name}=={suite.version}"]
    subprocess.run(command, check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def make_environment(python: Path, suite: Suite, root: Path, also: list[str]) -> Path:
    """Make an environment with a project and what its tests need; return its Python."""
    subprocess.run([str(python), "-m", "venv", str(root)], check=True)
    program = root / "bin" / "python"
    install = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, f"{suite.name}=={suite.version}", *suite.needs.split()], check=True)
    if also:
        subprocess.run([*install, "--force-reinstall", "--no-deps", *also], check=True)
    return program


def bare(home: Path) -> dict[str, str]:
    """Return the environment of all runs: nothing of the caller's."""
    home.mkdir(exist_ok=True)
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}


def run_pytest(program: Path, sources: Path, home: Path, tests: list[str]) -> tuple[dict[str, str], float]:
    """Run tests.

    Returns:
        Test to "passed", "skipped" or "failed", and the seconds that they took.
    """
    report = home / "junit.xml"
    report.unlink(missing_ok=True)
    command = [
        str(program),
        "-c",
        _PYTEST_MAIN,
        "-q",
        "-p",
        "no:cacheprovider",
        f"--timeout={TEST_S}",
        f"--junit-xml={report}",
        *tests,
    ]
    began = time.monotonic()
    with (home / "output").open("w") as output:
        subprocess.run(
            command, env=bare(home), cwd=sources, timeout=TIMEOUT_S, check=False, stdout=output, stderr=output
        )
    results: dict[str, str] = {}
    if not report.exists():
        raise SystemExit(f"pytest gave no report: {(home / 'output').read_text()[-2000:]}")
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by the run above
        status = "skipped" if case.find("skipped") is not None else "passed"
        if case.find("failure") is not None or case.find("error") is not None:
            status = "failed"
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        results[name] = "failed" if results.get(name) == "failed" else status  # an error of its teardown comes second
    return results, time.monotonic() - began


def count(results: dict[str, str]) -> str:
    """Write results as one cell of a table."""
    tally = {status: list(results.values()).count(status) for status in ("passed", "skipped", "failed")}
    return f"{tally['passed']} passed, {tally['skipped']} skipped, {tally['failed']} failed"


def node_id(name: str, sources: Path) -> str:
    """Turn a test's name in the report into what pytest takes: the class is what no file has the name of."""
    dotted, _, test = name.partition("::")
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        path = Path(*parts[:end]).with_suffix(".py")
        if (sources / path).exists():
            return "::".join([str(path), *parts[end:], test])
    return name


def version_of(program: Path, home: Path) -> str:
    """Return which OpenSSL an environment's `ssl` runs on."""
    command = [str(program), "-c", "import ssl; print(ssl.OPENSSL_VERSION)"]
    return subprocess.run(command, env=bare(home), check=True, capture_output=True, text=True).stdout.strip()


def compare(python: Path, suite: Suite, also: list[str]) -> bool:
    """Run one suite in both environments and print its row; return whether the enabled one did as well."""
    with tempfile.TemporaryDirectory(prefix="pqtls-peers-") as name:
        folder = Path(name)
        (folder / "sources").mkdir()
        sources = unpack(suite, folder / "sources")
        if suite.name == "aiohttp":  # its sources would be imported in place of the installed ones
            (sources / "aiohttp").rename(sources / "not-imported")
        programs, results, versions, seconds = {}, {}, {}, {}
        for kind in ("plain", "enabled"):
            programs[kind] = make_environment(python, suite, folder / kind, also)
            if kind == "enabled":
                settings = plan_settings("", require_pq=False)
                request = Request(plugins=settings.plugins, settings=settings.values)
                enable(find_venv(folder / kind, {}), request, {"PATH": "/usr/bin:/bin"})
            versions[kind] = version_of(programs[kind], folder / f"home-{kind}")
        for kind, program in programs.items():
            results[kind], seconds[kind] = run_pytest(program, sources, folder / f"home-{kind}", list(suite.arguments))
            text = (folder / f"home-{kind}" / "output").read_text()
            if "-v" in sys.argv or os.environ.get("PQTLS_VERBOSE"):
                print(text, file=sys.stderr)
            print(f"{suite.name} {kind}: {count(results[kind])}, {seconds[kind]:.0f} s", file=sys.stderr, flush=True)
        return report(suite, programs, sources, folder, results, versions)


def report(
    suite: Suite,
    programs: dict[str, Path],
    sources: Path,
    folder: Path,
    results: dict[str, dict[str, str]],
    versions: dict[str, str],
) -> bool:
    """Print what differs, after running that again."""
    plain, enabled = results["plain"], results["enabled"]
    notes, is_good = [], True
    different = sorted(
        test for test in plain.keys() | enabled.keys() if plain.get(test, "absent") != enabled.get(test, "absent")
    )
    for test in different[:MAX_AGAIN]:
        # A name with parametrization may hold what the report escaped; then it is not found, and counts as failed.
        again = {
            kind: [
                run_pytest(program, sources, folder / f"home-{kind}", [*_again(suite), node_id(test, sources)])[0].get(
                    test, "absent"
                )
                for _ in range(AGAIN)
            ]
            for kind, program in programs.items()
        }
        was = f"{plain.get(test, 'absent')} plain, {enabled.get(test, 'absent')} enabled"
        notes.append(f"`{test}`: {was}; alone: plain {' '.join(again['plain'])}, enabled {' '.join(again['enabled'])}")
        is_good = is_good and not (set(again["enabled"]) == {"failed"} and "failed" not in again["plain"])
    is_good = is_good and len(different) <= MAX_AGAIN
    cells = (f"{suite.name} {suite.version}", count(plain), count(enabled), str(len(different)))
    print(f"| {' | '.join(cells)} |", flush=True)
    for note in notes:
        print(f"  {note}", flush=True)
    print(f"  plain on {versions['plain']}, enabled on {versions['enabled']}", flush=True)
    return is_good


def _again(suite: Suite) -> list[str]:
    """Keep the options of a suite, without what it collects."""
    return [argument for argument in suite.arguments if argument.startswith("-") and "ignore" not in argument]


def main() -> int:
    """Run the suites that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", default="urllib3", help="comma-separated: urllib3, aiohttp, botocore")
    parser.add_argument("--python", type=Path, default=Path(sys.executable).resolve())
    parser.add_argument("--also", action="append", default=[], help="installed besides, in place of what is there")
    parser.add_argument("--tests", help="files or folders of the suite, with spaces between, in place of all")
    options = parser.parse_args()
    suites = [SUITES[name] for name in options.suite.split(",")]
    if options.tests:
        suites = [replace(each, arguments=tuple(options.tests.split())) for each in suites]
    print("| suite | plain | enabled | tests that differ |\n|---|---|---|---|", flush=True)
    good = [compare(options.python, suite, options.also) for suite in suites]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
