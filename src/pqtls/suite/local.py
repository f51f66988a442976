"""`pqtls test --local`: the suite against a throwaway lab on loopback, with its controls."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pqtls.ending.keeper import Keeper
from pqtls.errors import UsageError
from pqtls.lab.ca import LabCA
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from pqtls.report.model import CaseResult, Refusal, SuiteReport
from pqtls.suite.aws_v2 import choose_cases, settle
from pqtls.suite.client import Client
from pqtls.suite.control import CONTROL_GROUPS, run_control
from pqtls.suite.held import bare_environment, hold_to_groups
from pqtls.suite.network import LabNetwork, open_network
from pqtls.suite.output_files import open_private
from pqtls.suite.packets import Packets
from pqtls.suite.process import ProcessGroups
from pqtls.suite.result import case_result
from pqtls.suite.schedule import Listener, Schedule
from pqtls.suite.setting import describe_setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from pqtls.lab.messages import TlsVersion
    from pqtls.lab.names import Address
    from pqtls.openssl.interpreter import Interpreter
    from pqtls.openssl.ways import Way
    from pqtls.suite.aws_v2 import AwsV2
    from pqtls.suite.case import Case
    from pqtls.suite.options import Options

RefusedServer = Literal["wrong-name", "wrong-ca"]
REFUSED_SERVERS: tuple[RefusedServer, ...] = ("wrong-name", "wrong-ca")


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
    cases, aws = choose_cases(options.cases)
    with Keeper("pqtls-test-") as keeper, keeper.holds_temporary_files():
        return _run(options, listener, cases, aws, keeper, began)


def _run(
    options: Options, listener: Listener, cases: Sequence[Case], aws: AwsV2 | None, keeper: Keeper, began: float
) -> SuiteReport:
    python = inspect_interpreter(sys.executable)
    servers = choose_way("auto", python, extra_sources=options.extra_sources)
    clients = choose_way(options.openssl, python, extra_sources=options.extra_sources)
    with ExitStack() as stack:
        folder = keeper.folder
        lab = _Lab(stack, folder, servers, python, options)
        client_conf = hold_to_groups(options.groups, folder / "clients", clients, python)
        control_conf = hold_to_groups(CONTROL_GROUPS, folder / "control", clients, python)
        pcap: BinaryIO | None = None
        if options.pcap_path is not None:
            if not lab.network.sees_every_program:
                raise UsageError(
                    f"{options.pcap_path}: no packets are captured through the router.",
                    "A packet capture needs --network namespaces, which this system must allow.",
                )
            pcap = stack.enter_context(open_private(options.pcap_path))
        cases, about_aws = settle(aws, cases, options.cases, sees_it=lab.network.sees_every_program)
        setting = describe_setting(
            options, python, clients, lab.network.witnesses, servers=servers, aws_cli_v2=about_aws
        )
        listener.setting_known(setting)
        client = Client(lab.network, stack.enter_context(ProcessGroups(keeper)), folder, clients, options.timeout_s)
        run = _Run(options, lab, client, listener, client_conf, Packets(pcap, folder))
        results, control = run.run(cases, control_conf)
    return SuiteReport(setting, tuple(results), control, time.monotonic() - began)


class _Lab:
    """The lab's parts: the authority, the network, the servers under test, and plain ones for the control."""

    def __init__(self, stack: ExitStack, folder: Path, way: Way, python: Interpreter, options: Options) -> None:
        self.ca = LabCA(folder / "ca")
        environment = way.apply({**bare_environment(), "TMPDIR": str(folder)})
        held = {**environment, **hold_to_groups(options.server_groups, folder / "servers", way, python)}
        parallel_clients = max(2, os.cpu_count() or 2)
        self.network: LabNetwork = open_network(options.network, stack, self.ca.bundle, parallel_clients)
        newest: TlsVersion | None = "TLSv1.2" if options.server_tls else None
        self.servers = stack.enter_context(self.network.make_servers(self.ca, sys.executable, held, newest))
        self.control_servers = self.servers
        if options.server_groups or newest:
            self.control_servers = stack.enter_context(self.network.make_servers(self.ca, sys.executable, environment))


class _Run:
    """The jobs of a run against the lab: each client with its certificate controls, and the negative control."""

    def __init__(
        self,
        options: Options,
        lab: _Lab,
        client: Client[Address],
        listener: Listener,
        conf: dict[str, str],
        packets: Packets,
    ) -> None:
        self._options = options
        self._packets = packets
        self._lab = lab
        self._client = client
        self._conf = conf
        self._schedule = Schedule(listener, client.stop, lab.network.parallel_clients)

    def run(self, cases: Sequence[Case], control_conf: dict[str, str]) -> tuple[list[CaseResult], CaseResult]:
        """Run every case with its certificate controls, and the negative control.

        Args:
            cases: The cases.
            control_conf: Environment that holds the control's client to x25519.

        Returns:
            The cases' results in their order, and the control's.
        """
        jobs = [partial(self._case, case, number) for number, case in enumerate(cases)]
        return self._schedule.run(jobs, partial(self._control, control_conf))

    def _case(self, case: Case, number: int) -> CaseResult:
        port = self._options.port if number == 0 else 0
        with self._schedule.shown(case.title), self._packets.of_one_client() as pcap_path:
            target = self._lab.servers.address("good")
            run = self._client.run(case, target, self._conf, port=port, pcap_path=pcap_path)
            refusals = tuple(self._refusal(case, server) for server in REFUSED_SERVERS)
        return case_result(case, run, allowed=self._options.allowed, refusals=refusals)

    def _refusal(self, case: Case, server: RefusedServer) -> Refusal:
        before = self._lab.servers.stats()[server].requests
        run = self._client.run(case, self._lab.servers.address(server), self._conf)
        requests = self._lab.servers.stats()[server].requests - before
        return Refusal(server, bool(run.connections), requests, run.finished.exit_code)

    def _control(self, conf: dict[str, str]) -> CaseResult:
        with self._schedule.shown("negative control"):
            return run_control(self._client, self._lab.control_servers.address("good"), conf)
