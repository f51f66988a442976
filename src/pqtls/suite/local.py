"""`pqtls test --local`: the suite against a throwaway lab on loopback, with its controls."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pqtls import __version__
from pqtls.errors import UsageError
from pqtls.lab.ca import LabCA
from pqtls.openssl.groups_conf import check_groups, write_groups_conf
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from pqtls.report.model import CaseResult, Refusal, Setting, SuiteReport
from pqtls.suite.case import load_builtin_cases, select_cases
from pqtls.suite.client import Client, ClientRun
from pqtls.suite.network import Network, NetworkChoice, open_network
from pqtls.suite.process import ProcessGroups

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pqtls.openssl.interpreter import Interpreter
    from pqtls.openssl.ways import Way
    from pqtls.suite.case import Case

# What a pcap file begins with, before its first packet (draft-ietf-opsawg-pcap): written once.
PCAP_HEADER_BYTES = 24
CONTROL_GROUPS = "x25519"
CONTROL_CASE = "socket-ssl"
RefusedServer = Literal["wrong-name", "wrong-ca"]
REFUSED_SERVERS: tuple[RefusedServer, ...] = ("wrong-name", "wrong-ca")


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Attributes:
        openssl: The way for the clients: auto, native, graft or system.
        openssl_source: Folder to graft from, or None.
        groups: Groups to hold the clients to; "" for OpenSSL's own list.
        server_groups: Groups to hold the lab's servers to; "" for OpenSSL's own list.
        cases: Names of the cases to run; none means all.
        allowed: Host to reason, for hosts that may be classical.
        timeout_s: Seconds a client may take.
        port: Port of the first client's proxy on loopback; 0 for any free one.
        network: How clients reach the lab.
        pcap_path: Where to write the captured handshakes, None for nowhere.
    """

    openssl: str = "auto"
    openssl_source: Path | None = None
    groups: str = ""
    server_groups: str = ""
    cases: tuple[str, ...] = ()
    allowed: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    port: int = 0
    network: NetworkChoice = "auto"
    pcap_path: Path | None = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all options."""
        return tuple(each.name for each in fields(cls))


class Listener(Protocol):
    """Who is told how the run goes, from the thread that called `run_local`."""

    def setting_known(self, setting: Setting) -> None:
        """Take what the suite runs on, before the first client starts."""

    def running(self, titles: list[str], done: int, total: int) -> None:
        """Take which clients run now."""

    def case_finished(self, case: CaseResult, number: int | None) -> None:
        """Take one result, in the suite's order; number None is the negative control."""


def run_local(options: Options, listener: Listener) -> SuiteReport:
    """Run the suite against the lab.

    Args:
        options: What was asked for.
        listener: Who is told how it goes.

    Returns:
        The report.

    Raises:
        UsageError: A case, a group or a port that cannot be had, or something is not installed.
        CannotProveError: No OpenSSL with ML-KEM can be had for the servers, or for the clients as asked.
    """
    began = time.monotonic()
    cases = select_cases(options.cases)
    python = inspect_interpreter(sys.executable)
    extra = (options.openssl_source,) if options.openssl_source else ()
    servers = choose_way("auto", python, extra_sources=extra)
    clients = choose_way(options.openssl, python, extra_sources=extra)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pqtls-test-")))
        lab = _Lab(stack, folder, servers, python, options)
        client_conf = _groups_conf(options.groups, folder / "clients", clients, python)
        control_conf = _groups_conf(CONTROL_GROUPS, folder / "control", clients, python)
        if options.pcap_path is not None:
            if not lab.network.sees_every_program:
                raise UsageError(
                    f"{options.pcap_path}: no packets are captured through the router.",
                    "A packet capture needs --network namespaces, which this system must allow.",
                )
            _create_private(options.pcap_path)
        setting = _describe(options, python, clients, servers, lab.network.witnesses)
        listener.setting_known(setting)
        client = Client(lab.network, lab.ca, stack.enter_context(ProcessGroups()), folder, clients, options.timeout_s)
        results, control = _Run(options, lab, client, listener, client_conf, folder).run(cases, control_conf)
    return SuiteReport(setting, tuple(results), control, time.monotonic() - began)


def _create_private(path: Path) -> None:
    """Make an empty file that only its owner may read, in place of what was there."""
    try:
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def _describe(options: Options, python: Interpreter, clients: Way, servers: Way, witnesses: str) -> Setting:
    return Setting(
        pqtls=__version__,
        python=python.version,
        way=clients.kind,
        openssl=clients.openssl_version,
        why=clients.reason,
        source=clients.source_description,
        servers=f"{servers.openssl_version} ({servers.kind})",
        client_groups=options.groups,
        server_groups=options.server_groups,
        witnesses=witnesses,
    )


def _groups_conf(groups: str, folder: Path, way: Way, python: Interpreter) -> dict[str, str]:
    """Return the environment that holds a process to groups, after a real ClientHello has shown that it does."""
    if not groups:
        return {}
    folder.mkdir(mode=0o700)
    environment = way.apply(_bare_environment())
    environment["OPENSSL_CONF"] = str(write_groups_conf(groups, folder, python, environment))
    check_groups(python.executable, environment, groups)
    return {"OPENSSL_CONF": environment["OPENSSL_CONF"]}


def _bare_environment() -> dict[str, str]:
    """Return the part of this process's environment that the lab's processes need."""
    names = ("PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}


class _Lab:
    """The lab's parts: the authority, the network, the servers under test, and plain ones for the control."""

    def __init__(self, stack: ExitStack, folder: Path, way: Way, python: Interpreter, options: Options) -> None:
        self.ca = LabCA(folder / "ca")
        environment = way.apply(_bare_environment())
        held = {**environment, **_groups_conf(options.server_groups, folder / "servers", way, python)}
        self.network: Network = open_network(options.network, stack, max(2, os.cpu_count() or 2))
        self.servers = stack.enter_context(self.network.make_servers(self.ca, sys.executable, held))
        self.control_servers = self.servers
        if options.server_groups:
            self.control_servers = stack.enter_context(self.network.make_servers(self.ca, sys.executable, environment))


class _Run:
    """Runs clients, several at once, and tells the listener in the suite's order."""

    def __init__(
        self, options: Options, lab: _Lab, client: Client, listener: Listener, conf: dict[str, str], folder: Path
    ) -> None:
        self._options = options
        self._folder = folder
        self._lab = lab
        self._client = client
        self._listener = listener
        self._conf = conf
        self._lock = threading.Lock()
        self._running: list[str] = []

    def run(self, cases: Sequence[Case], control_conf: dict[str, str]) -> tuple[list[CaseResult], CaseResult]:
        """Run every case with its certificate controls, and the negative control.

        Args:
            cases: The cases.
            control_conf: Environment that holds the control's client to x25519.

        Returns:
            The cases' results in their order, and the control's.
        """
        results: list[CaseResult] = []
        with ThreadPoolExecutor(max_workers=self._lab.network.parallel_clients) as pool:
            futures = [pool.submit(self._case, case, number) for number, case in enumerate(cases)]
            control = pool.submit(self._control, control_conf)
            try:
                for number, future in enumerate(futures, 1):
                    results.append(self._wait(future, number - 1, len(cases)))
                    self._listener.case_finished(results[-1], number)
                control_result = self._wait(control, len(cases), len(cases))
            except BaseException:
                self._client.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._listener.case_finished(control_result, None)
        return results, control_result

    def _wait(self, future: Future[CaseResult], done: int, total: int) -> CaseResult:
        """Wait for one result and tell the listener meanwhile what runs."""
        while True:
            with self._lock:
                running = list(self._running)
            self._listener.running(running, done, total)
            try:
                return future.result(timeout=0.2)
            except FutureTimeoutError:  # before Python 3.11 not the built-in one
                continue

    @contextmanager
    def _shown(self, title: str) -> Iterator[None]:
        with self._lock:
            self._running.append(title)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(title)

    def _case(self, case: Case, number: int) -> CaseResult:
        port = self._options.port if number == 0 else 0
        with self._shown(case.title), self._packets() as pcap_path:
            target = self._lab.servers.address("good")
            run = self._client.run(case, target, self._conf, port=port, pcap_path=pcap_path)
            refusals = tuple(self._refusal(case, server) for server in REFUSED_SERVERS)
        return self._result(case, run, self._options.allowed, refusals)

    @contextmanager
    def _packets(self) -> Iterator[Path | None]:
        """Add the packets that are written meanwhile to the capture file that was asked for, if one was."""
        wanted = self._options.pcap_path
        if wanted is None:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="packets-", dir=self._folder) as folder:
            part = Path(folder) / "part.pcap"
            yield part
            with wanted.open("ab") as file:
                file.write(part.read_bytes()[PCAP_HEADER_BYTES if file.tell() else 0 :])

    def _refusal(self, case: Case, server: RefusedServer) -> Refusal:
        before = self._lab.servers.stats()[server].requests
        run = self._client.run(case, self._lab.servers.address(server), self._conf)
        requests = self._lab.servers.stats()[server].requests - before
        return Refusal(server, bool(run.connections), requests, run.finished.exit_code)

    def _control(self, conf: dict[str, str]) -> CaseResult:
        """Run a client held to x25519, which must not come out post-quantum."""
        case = next(each for each in load_builtin_cases() if each.name == CONTROL_CASE)
        with self._shown("negative control"):
            run = self._client.run(case, self._lab.control_servers.address("good"), conf)
        return self._result(case, run, {}, ())

    def _result(self, case: Case, run: ClientRun, allowed: dict[str, str], refusals: tuple[Refusal, ...]) -> CaseResult:
        return CaseResult(
            name=case.name,
            title=case.title,
            exit_code=run.finished.exit_code,
            seconds=run.finished.seconds,
            output=run.finished.output,
            connections=run.connections,
            allowed=allowed,
            blind_spots=run.blind_spots,
            notes=run.notes,
            disagreements=run.disagreements,
            refusals=refusals,
        )
