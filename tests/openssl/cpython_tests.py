"""CPython's own tests in an environment, module by module, and what of them is worse in another environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

MODULES = (
    "test_ssl",
    "test_asyncio.test_ssl",
    "test_asyncio.test_sslproto",
    "test_httplib",
    "test_ftplib",
    "test_poplib",
    "test_imaplib",
    "test_smtplib",
    "test_hashlib",
    "test_hmac",
)
MODULE_TIMEOUT_S = 900
RERUNS = 2
_BAD_TESTS = 2
"""regrtest's exit code if something failed."""

Status = Literal["passed", "skipped", "failed"]


@dataclass
class Outcome:
    """What became of some test modules in one environment.

    Attributes:
        tests: Full name of a test to what became of it.
        unfinished: Modules that gave no report, with the reason: they crashed, hung, or could not be loaded.
        absent: Modules that this Python does not have.
    """

    tests: dict[str, Status] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def count(self, status: Status) -> int:
        return list(self.tests.values()).count(status)

    @property
    def failed(self) -> set[str]:
        """Tests that failed, and modules that did not get through."""
        return {name for name, status in self.tests.items() if status == "failed"} | set(self.unfinished)


@dataclass(frozen=True)
class Difference:
    """One test, or a whole module, that is worse than in the plain environment.

    Attributes:
        name: Its full name.
        detail: What it was in both, and what it was when it was run again, alone.
        is_real: It was worse then, too.
    """

    name: str
    detail: str
    is_real: bool


def run_modules(
    python: Path,
    modules: tuple[str, ...],
    folder: Path,
    patterns: tuple[str, ...] = (),
    timeout_s: float = MODULE_TIMEOUT_S,
) -> Outcome:
    """Run test modules with regrtest, one process each, in a bare environment.

    Args:
        python: An environment's interpreter.
        modules: As regrtest names them, such as "test_ssl".
        folder: Where reports and temporary files go; of a short name, since tests make Unix sockets in it.
        patterns: Run only tests that match one (regrtest's -m).
        timeout_s: What a module may take.
    """
    outcome = Outcome()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    for module in modules:
        look = f"import importlib.util as u, sys; sys.exit(u.find_spec('test.{module}') is None)"
        if subprocess.run([str(python), "-c", look], env=environment, capture_output=True, check=False).returncode:
            outcome.absent.append(module)
            continue
        report = folder / "junit.xml"
        report.unlink(missing_ok=True)
        command = [str(python), "-m", "test", "-v", f"--junit-xml={report}"]
        for pattern in patterns:
            command += ["-m", pattern]
        code, why = _run([*command, module], environment, folder, timeout_s)
        found = read_report(report) if report.exists() else {}
        if code == _BAD_TESTS and "failed" not in found.values():
            why = "something outside its tests failed"
        if why or not found:
            outcome.unfinished[f"test.{module}"] = why or "no test was run"
        outcome.tests.update(found)
    return outcome


def _run(command: list[str], environment: dict[str, str], folder: Path, timeout_s: float) -> tuple[int, str]:
    """Run one module; return its exit code, and why it did not get to its end, or ""."""
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return -1, f"not finished after {timeout_s:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it, and what it may have left
            process.wait()
    return code, f"ended by signal {-code}" if code < 0 else ""


def read_report(report: Path) -> dict[str, Status]:
    """Read regrtest's junit.xml; a test that failed in any attempt or part has failed."""
    found: dict[str, Status] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by our child
        status: Status = "skipped" if case.find("skipped") is not None else "passed"
        if case.find("failure") is not None or case.find("error") is not None:
            status = "failed"
        name = case.get("name", "")
        if found.get(name) != "failed":
            found[name] = status
    return found


def find_worse(plain: Outcome, enabled: Outcome) -> dict[str, str]:
    """Name what fails, is skipped, or is missing in the second outcome and was not in the first.

    Returns:
        Name to what it was in both.
    """
    worse = {
        name: f"module: {why}; plain: finished"
        for name, why in enabled.unfinished.items()
        if name not in plain.unfinished
    }
    for name, status in plain.tests.items():
        now = enabled.tests.get(name, "missing")
        is_known = any(name.startswith(f"{module}.") for module in enabled.unfinished)
        if now in (status, "passed") or status == "failed" or (now == "missing" and is_known):
            continue
        worse[name] = f"{now}; plain: {status}"
    for name in sorted(set(enabled.tests) - set(plain.tests)):
        if enabled.tests[name] == "failed" and not any(name.startswith(f"{each}.") for each in plain.unfinished):
            worse[name] = "failed; plain: missing"
    return worse


def run_again(
    worse: dict[str, str], plain_python: Path, enabled_python: Path, modules: tuple[str, ...], folder: Path
) -> list[Difference]:
    """Run each difference again, alone, in both environments, and tell what it was each time.

    Args:
        worse: Of `find_worse`.
        plain_python: An interpreter.
        enabled_python: An interpreter.
        modules: Those that had been run.
        folder: For reports and temporary files.

    Returns:
        Every difference; one is real unless it went as in the plain environment each time.
    """
    differences = []
    for name, was in sorted(worse.items()):
        module = next(each for each in modules if f"{name}.".startswith(f"test.{each}."))
        patterns = () if name == f"test.{module}" else (name,)
        again = []
        is_real = False
        for _ in range(RERUNS):
            words = []
            for python in (enabled_python, plain_python):
                outcome = run_modules(python, (module,), folder, patterns)
                words.append(
                    "failed" if outcome.failed else "skipped" if not outcome.count("passed") else "passed",
                )
            is_real = is_real or (words[0] != "passed" and words[0] != words[1])
            again.append(f"{words[0]} (plain {words[1]})")
        differences.append(Difference(name, f"{was}; alone again: {', '.join(again)}", is_real))
    return differences
