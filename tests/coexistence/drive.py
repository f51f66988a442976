"""Runs uses.py and stress.py in an environment, and judges what they did by the bytes that passed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from pqtls.evidence import judge
from pqtls.wire.facts import Handshake
from pqtls.wire.groups import group_name
from tests.coexistence.relay import Relay
from tests.coexistence.uses import HOST

_HERE = Path(__file__).parent
RUN_S = 600
BARE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""What the environments under test are started in, as by env -i."""
HYBRID = "X25519MLKEM768"
CLASSICAL_CONF = "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nGroups = x25519\n"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of a throwaway authority."""

    ca: str
    server: str


def make_certificates(folder: Path) -> Certificates:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf = ca.issue_cert(HOST, "127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return Certificates(str(folder / "ca.pem"), str(folder / "server.pem"))


@contextlib.contextmanager
def run_far_end(certificates: Certificates, environment: Mapping[str, str]) -> Iterator[int]:
    """Serve from a process of its own.

    Args:
        certificates: Its certificate.
        environment: With an OpenSSL that has ML-KEM; an OPENSSL_CONF may hold it to something.

    Yields:
        Its port.
    """
    process = subprocess.Popen(
        [sys.executable, str(_HERE / "far_end.py"), certificates.server],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # refused clients; what matters is what the relay sees
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def summarize(handshakes: Sequence[Handshake]) -> Counter[str]:
    """Count handshakes by what they prove: the group for those that are post-quantum, else verdict and reason."""
    counter: Counter[str] = Counter()
    for handshake in handshakes:
        finding, hello = judge(handshake), handshake.server_hello
        if finding.verdict == "post-quantum" and hello is not None and hello.group is not None:
            counter[group_name(hello.group)] += 1
        else:
            counter[f"{finding.verdict} / {finding.reason}"] += 1
    return counter


@dataclass(frozen=True, slots=True)
class Step:
    """One use of one stack.

    Attributes:
        name: The stack's.
        got: The body that it received, "" if none.
        error: What it raised, "" if nothing.
    """

    name: str
    got: str
    error: str


@dataclass(frozen=True, slots=True)
class UsesReport:
    """What one process with several stacks did.

    Attributes:
        code: Its exit code; negative for a signal.
        stderr: What it wrote there.
        steps: In their order; empty if it died before its end.
        seen: What the bytes of each stack's connections prove, by stack.
        mapped: The libssl and libcrypto files in the process at its end.
    """

    code: int
    stderr: str
    steps: tuple[Step, ...]
    seen: dict[str, Counter[str]]
    mapped: tuple[str, ...]

    @property
    def grafted(self) -> list[str]:
        """The names of those of them that belong to an enabled environment's graft."""
        return [Path(path).name for path in self.mapped if "/pqtls-graft/" in path]

    @property
    def systems(self) -> list[str]:
        """Those that are an operating system's or an interpreter's own: no wheel's, no graft's."""
        return [path for path in self.mapped if "/pqtls-graft/" not in path and "site-packages" not in path]


def use_stacks(
    python: Path, stacks: Sequence[str], order: str, far_port: int, ca: str, environment: Mapping[str, str]
) -> UsesReport:
    """Let one process use stacks and `ssl` by turns, twice each.

    Args:
        python: Of the environment under test.
        stacks: Names in uses.py.
        order: "ssl-first" or "stack-first".
        far_port: The far end's.
        ca: File with the authority.
        environment: Of the process.
    """
    with contextlib.ExitStack() as stack:
        relays = {name: stack.enter_context(Relay(far_port)) for name in ("ssl", *stacks)}
        ports = {name: relay.port for name, relay in relays.items()}
        given = json.dumps({"stacks": list(stacks), "order": order, "ports": ports, "ca": ca})
        done = _run(python, "uses.py", given, environment)
        seen = {name: summarize(relay.take()) for name, relay in relays.items()}
    answer = json.loads(done.stdout) if done.stdout.startswith("{") else {"steps": [], "mapped": []}
    steps = tuple(Step(**step) for step in answer["steps"])
    return UsesReport(done.returncode, done.stderr, steps, seen, tuple(answer["mapped"]))


@dataclass(frozen=True, slots=True)
class Load:
    """How much a stress run does.

    Attributes:
        threads: At the same time.
        requests: Of each thread.
        children: Started in mid-flight, by turns by os.fork and as a program.
        child_requests: Of each child.
        makes_contexts: A fork makes contexts of its own besides those that it has from its parent.
    """

    threads: int
    requests: int
    children: int
    child_requests: int
    makes_contexts: bool = False

    @property
    def handshakes(self) -> int:
        """How many there have to be."""
        return self.threads * self.requests + self.children * self.child_requests


@dataclass(frozen=True, slots=True)
class StressReport:
    """What came of it.

    Attributes:
        code: Exit code; negative for a signal.
        stderr: What it and its children wrote there.
        answered: Requests of the threads that were answered.
        errors: What the others raised.
        codes: Exit codes of the children.
        busy: Requests that were under way when each child was started.
        seen: What the bytes of all connections prove.
    """

    code: int
    stderr: str
    answered: int
    errors: tuple[str, ...]
    codes: tuple[int, ...]
    busy: tuple[int, ...]
    seen: Counter[str]

    def find_faults(self, load: Load, expected: str) -> list[str]:
        """Say what is not as it has to be: every request answered, every handshake as expected, nothing written."""
        faults = [f"exit code {self.code}"] * (self.code != 0) + list(self.errors)
        faults += [f"a child ended with {code}" for code in self.codes if code != 0]
        if self.answered != load.threads * load.requests or len(self.codes) != load.children:
            faults.append(f"{self.answered} requests answered, {len(self.codes)} children ended")
        if self.seen != {expected: load.handshakes}:
            faults.append(f"the relay saw {dict(self.seen)}, not {load.handshakes} {expected}")
        if self.stderr:
            faults.append(self.stderr[-500:])
        if not all(self.busy):
            faults.append("a child was started when nothing was under way")
        return faults


def stress(
    python: Path, load: Load, far_port: int, ca: str, environment: Mapping[str, str], imports: Sequence[str] = ()
) -> StressReport:
    """Let one process make requests in threads, and fork meanwhile.

    Args:
        python: Of the environment under test.
        load: How much.
        far_port: The far end's.
        ca: File with the authority.
        environment: Of the process.
        imports: Modules that it loads first.
    """
    with Relay(far_port) as relay:
        given: dict[str, object] = {"port": relay.port, "ca": ca, "threads": load.threads, "requests": load.requests}
        given |= {"children": load.children, "child_requests": load.child_requests}
        given |= {"imports": list(imports), "makes_contexts": load.makes_contexts}
        done = _run(python, "stress.py", json.dumps(given), environment)
        seen = summarize(relay.take())
    answer: dict[str, Any] = {"answered": 0, "errors": [], "codes": [], "busy": []}
    if done.stdout.startswith("{"):
        answer = json.loads(done.stdout)
    errors, codes, busy = (tuple(answer[name]) for name in ("errors", "codes", "busy"))
    return StressReport(done.returncode, done.stderr, answer["answered"], errors, codes, busy, seen)


def _run(python: Path, script: str, given: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    # 3.12 warns of every fork beside threads; that is what is tried here.
    command = [str(python), "-W", "ignore::DeprecationWarning", str(_HERE / script), given]
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=RUN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            err += f"\nended after {RUN_S} s"
    return subprocess.CompletedProcess(command, process.returncode, out, err)
