"""Other TLS stacks beside the graft in one process, and threads with forks in mid-flight: the whole proof.

    python scripts/test_coexistence.py [--part stacks,refusals,stress,forks] [PYTHON ...]

Each PYTHON gets an environment under .venvs with the packages below, from the user's pip. It is run plain (the
control), enabled, and enabled with --require-pq. What a handshake was is read from its bytes by a relay. Prints the
tables that the docs show; exit code 1 if anything was not as it has to be.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.coexistence.drive import (  # noqa: E402
    BARE,
    CLASSICAL_CONF,
    HYBRID,
    Load,
    UsesReport,
    make_certificates,
    run_far_end,
    stress,
    use_stacks,
)

from pqtls.observe.recorder import RecorderFolder  # noqa: E402
from pqtls.openssl.enable import Request, disable, enable  # noqa: E402
from pqtls.openssl.group_presets import resolve_groups  # noqa: E402
from pqtls.openssl.interpreter import inspect_interpreter  # noqa: E402
from pqtls.openssl.venv import find_venv  # noqa: E402
from pqtls.openssl.venv_settings import plan_settings  # noqa: E402
from pqtls.openssl.ways import choose_way  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.coexistence.drive import Certificates

PACKAGES = {
    "cryptography": "cryptography",
    "pyOpenSSL": "pyOpenSSL",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pycurl": "pycurl",
    "grpcio": "grpcio",
    "awscrt": "awscrt",
    "uvloop": "uvloop",
    "gevent": "gevent",
}
MODULES = ("OpenSSL", "psycopg", "psycopg2", "pycurl", "grpc", "awscrt.io", "uvloop", "gevent")
LOAD = Load(threads=16, requests=60, children=16, child_requests=10)
FORKS = Load(threads=16, requests=60, children=120, child_requests=2, makes_contexts=True)
FORK_RUNS = 3
HYBRID_CONF = CLASSICAL_CONF.replace(
    "Groups = x25519", f"Groups = {resolve_groups('hybrid-only').groups}\nProtocol = -TLSv1, -TLSv1.1, -TLSv1.2"
)


def version_of(python: Path, *distributions: str) -> list[str]:
    """Return the versions of installed distributions."""
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    done = subprocess.run([str(python), "-c", code, *distributions], check=True, capture_output=True, text=True)
    return done.stdout.split()


def make_environment(python: Path) -> Path:
    """Return the Python of an environment with all packages, made the first time."""
    answer = subprocess.run(
        [str(python), "-c", "import platform; print(platform.python_version())"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    root = ROOT / ".venvs" / f"coexistence-{answer.stdout.strip()}"
    program = root / "bin" / "python"
    if not program.exists():
        subprocess.run([str(python), "-m", "venv", str(root)], check=True)
    install = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES.values()]
    subprocess.run(install, check=True)
    return program


def switch(python: Path, mode: str) -> None:
    """Bring an environment into a mode: plain, enabled or require-pq."""
    venv = find_venv(python.parent.parent, BARE)
    if mode == "plain":
        disable(venv.root)
        return
    settings = plan_settings("", require_pq=mode == "require-pq")
    enable(venv, Request(require_pq=mode == "require-pq", plugins=settings.plugins, settings=settings.values), BARE)


class Proof:
    """What was seen so far, and what was not as it has to be.

    Args:
        certificates: Of the far ends.
        hybrid_port: A far end with OpenSSL's default groups.
        classical_port: One held to x25519.
        folder: For files.
    """

    def __init__(self, certificates: Certificates, hybrid_port: int, classical_port: int, folder: Path) -> None:
        self.certificates = certificates
        self.hybrid_port = hybrid_port
        self.classical_port = classical_port
        self.folder = folder
        self.faults: list[str] = []

    def fault(self, sentence: str) -> None:
        """Note something that is not as it has to be."""
        self.faults.append(sentence)
        print(f"NOT AS IT HAS TO BE: {sentence}", file=sys.stderr, flush=True)

    def use(self, python: Path, stacks: list[str], order: str, mode: str) -> UsesReport:
        """Use stacks and `ssl` by turns in one process, towards the hybrid far end; check what came of it."""
        report = use_stacks(python, stacks, order, self.hybrid_port, self.certificates.ca, BARE)
        who = f"{python.parent.parent.name} {mode} {order} {'+'.join(stacks)}"
        bad = [f"{step.name}: {step.error}" for step in report.steps if step.got != "hello"]
        if report.code != 0 or report.stderr or bad or len(report.steps) != 2 * len(stacks) + 2:
            self.fault(f"{who}: code {report.code} {bad} {report.stderr[-300:]}")
        expected = {"not-post-quantum / not-offered": 2} if mode == "plain" else {HYBRID: 2}
        if report.seen["ssl"] != expected:
            self.fault(f"{who}: ssl: {dict(report.seen['ssl'])}")
        grafted = [] if mode == "plain" else ["libcrypto.so.3", "libssl.so.3"]
        if report.grafted != grafted or (mode != "plain" and report.systems):
            self.fault(f"{who}: {report.mapped}")
        return report


def prove_stacks(proof: Proof, python: Path) -> None:
    """Print one row a mode: every stack alone and all together, in both orders."""
    for mode in ("plain", "enabled", "require-pq"):
        switch(python, mode)
        processes, uses, crashes, errors, seen = 0, 0, 0, 0, Counter[str]()
        own: dict[str, Counter[str]] = {}
        for stacks in [*([name] for name in PACKAGES), list(PACKAGES)]:
            for order in ("ssl-first", "stack-first"):
                report = proof.use(python, stacks, order, mode)
                processes += 1
                uses += len(report.steps)
                crashes += report.code != 0
                errors += sum(step.got != "hello" for step in report.steps)
                seen += report.seen["ssl"]
                for name in stacks:
                    own.setdefault(name, Counter()).update(report.seen[name])
        handshakes = ", ".join(f"{count} {what}" for what, count in seen.items())
        version = python.parent.parent.name.rpartition("-")[2]
        print(f"| {version} | {mode} | {processes} | {uses} | {crashes} | {errors} | {handshakes} |", flush=True)
        for name, counter in own.items():
            print(f"    {version} {mode} {name}: {dict(counter)}", file=sys.stderr, flush=True)


def prove_refusals(proof: Proof, python: Path) -> None:
    """Print what each stack does in a --require-pq environment towards a classical server: row a stack."""
    switch(python, "require-pq")
    conf = proof.folder / "hybrid.cnf"
    conf.write_text(HYBRID_CONF)
    environments = (BARE, {**BARE, "OPENSSL_CONF": str(conf)})
    for name in ("ssl", *PACKAGES):
        cells = []
        for environment in environments:
            stacks = [] if name == "ssl" else [name]
            report = use_stacks(python, stacks, "ssl-first", proof.classical_port, proof.certificates.ca, environment)
            step = next(step for step in report.steps if step.name == name)
            what = ", ".join(report.seen[name]) or "no handshake"
            cells.append(f"got its answer ({what})" if step.got else f"refused: {step.error[:150]} ({what})")
            others = [step for step in report.steps if step.name == "ssl" and step.got]
            if report.code != 0 or others:
                proof.fault(f"{name}: ssl got an answer from a classical server, or exit code {report.code}")
            if name in ("ssl", "uvloop", "gevent") and step.got:
                proof.fault(f"{name} got an answer from a classical server")
        print(f"| {name} | {cells[0]} | {cells[1]} |", flush=True)


def prove_stress(proof: Proof, python: Path) -> None:
    """Print one row a mode of threads with forks in mid-flight."""
    version = python.parent.parent.name.rpartition("-")[2]
    for mode in ("plain", "enabled", "enabled, nine stacks loaded", "enabled, recorded", "require-pq",
                 "require-pq, recorded"):  # fmt: skip
        switch(python, mode.partition(",")[0])
        imports = MODULES if "loaded" in mode else ()
        with RecorderFolder() as recorder:
            environment: Mapping[str, str] = recorder.environment(BARE) if "recorded" in mode else BARE
            began = time.monotonic()
            report = stress(python, LOAD, proof.hybrid_port, proof.certificates.ca, environment, imports)
            seconds = time.monotonic() - began
            recording = recorder.read()
        faults = report.find_faults(LOAD, "not-post-quantum / not-offered" if mode == "plain" else HYBRID)
        recorded = ""
        if "recorded" in mode:
            verdicts = Counter(each.finding.verdict for each in recording.observations)
            recorded = f"{verdicts['post-quantum']} post-quantum in {len(recording.processes)} processes"
            if verdicts != {"post-quantum": LOAD.handshakes} or recording.blind_spots:
                faults.append(f"recorder: {dict(verdicts)} {recording.blind_spots[:3]}")
        for each in faults:
            proof.fault(f"{version} {mode}: {each}")
        seen = ", ".join(f"{count} {what}" for what, count in report.seen.items())
        busy = f"{min(report.busy, default=0)} to {max(report.busy, default=0)}"
        errors = str(len(report.errors) + sum(code != 0 for code in report.codes))
        if not report.codes:
            errors = f"no report (exit code {report.code})"
        print(f"| {version} | {mode} | {seen} | {errors} | {busy} | {recorded} | {seconds:.0f} s |", flush=True)


def count_hanging_forks(proof: Proof, python: Path) -> None:
    """Print how many forks hang that make an SSLContext while their parent's other threads shake hands: no fault.

    OpenSSL's locks are copied as they were at the fork, held by threads that the child does not have.
    """
    for mode in ("plain", "enabled"):
        switch(python, mode)
        reports = [stress(python, FORKS, proof.hybrid_port, proof.certificates.ca, BARE) for _ in range(FORK_RUNS)]
        hanging = sum(code == -signal.SIGALRM for report in reports for code in report.codes)
        others = sum(code not in (0, -signal.SIGALRM) for report in reports for code in report.codes)
        version = python.parent.parent.name.rpartition("-")[2]
        print(f"| {version} | {mode} | {FORK_RUNS * FORKS.children // 2} | {hanging} | {others} |", flush=True)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", nargs="*", type=Path)
    parser.add_argument("--part", default="stacks,refusals,stress,forks")
    options = parser.parse_args()
    parts = options.part.split(",")
    pythons = [make_environment(python) for python in options.python or [Path(sys.executable).resolve()]]
    names = [name.partition("[")[0] for name in PACKAGES.values()]
    versions = version_of(pythons[-1], *names)
    print(
        time.strftime("%Y-%m-%d"), ", ".join(f"{name} {version}" for name, version in zip(names, versions, strict=True))
    )
    with tempfile.TemporaryDirectory(prefix="pqtls-coexistence-") as name, ExitStack() as stack:
        folder = Path(name)
        certificates = make_certificates(folder)
        (folder / "classical.cnf").write_text(CLASSICAL_CONF)
        way = choose_way("auto", inspect_interpreter(sys.executable))
        hybrid = way.apply(BARE)
        ports = [
            stack.enter_context(run_far_end(certificates, environment))
            for environment in (hybrid, {**hybrid, "OPENSSL_CONF": str(folder / "classical.cnf")})
        ]
        proof = Proof(certificates, ports[0], ports[1], folder)
        print(f"far end: {way.openssl_version}; load at the start: {os.getloadavg()[0]:.1f}")
        if "stacks" in parts:
            print(
                "\n| Python | environment | processes | uses | crashes | errors | handshakes of `ssl` |\n"
                + "|---" * 7
                + "|"
            )
            for python in pythons:
                prove_stacks(proof, python)
        if "refusals" in parts:
            print("\n| stack | --require-pq, classical server | the same with OPENSSL_CONF |\n|---|---|---|")
            prove_refusals(proof, pythons[len(pythons) // 2])
        if "stress" in parts:
            print(
                "\n| Python | environment | handshakes | errors | under way at a fork | recorder | took |\n"
                + "|---" * 7
                + "|"
            )
            for python in pythons:
                prove_stress(proof, python)
        if "forks" in parts:
            print(
                "\n| Python | environment | forks that made a context | hung | failed otherwise |\n" + "|---" * 5 + "|"
            )
            for python in pythons:
                count_hanging_forks(proof, python)
        for python in pythons:
            switch(python, "plain")
    print(f"\n{len(proof.faults)} not as it has to be" if proof.faults else "\nall as it has to be")
    return 1 if proof.faults else 0


if __name__ == "__main__":
    sys.exit(main())
