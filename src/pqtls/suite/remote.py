"""`pqtls test --region` and `--endpoint`: the suite against real servers, with the user's own credentials.

The negative control runs in the lab, beside it: a client held to x25519 must not come out post-quantum, whatever the
real servers do.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pqtls.ending.keeper import Keeper
from pqtls.errors import UsageError
from pqtls.lab.ca import LabCA
from pqtls.observe.client_processes import NOT_WATCHED
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from pqtls.report.model import CaseResult, SuiteReport
from pqtls.suite.aws_v2 import choose_cases, settle
from pqtls.suite.client import Client
from pqtls.suite.control import CONTROL_GROUPS, run_control
from pqtls.suite.held import bare_environment, hold_to_groups
from pqtls.suite.host_network import CLIENT_MARKER, open_host_network
from pqtls.suite.network import open_network
from pqtls.suite.output_files import open_private
from pqtls.suite.packets import Packets
from pqtls.suite.process import ProcessGroups
from pqtls.suite.result import case_result
from pqtls.suite.schedule import Listener, Schedule
from pqtls.suite.setting import describe_setting
from pqtls.suite.target import Target, parse_endpoint, parse_region

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO

    from pqtls.openssl.ways import Way
    from pqtls.suite.aws_v2 import AwsV2
    from pqtls.suite.case import Case
    from pqtls.suite.options import Options


def run_remote(options: Options, listener: Listener) -> SuiteReport:
    """Run the suite against the real servers that were named.

    Args:
        options: What was asked for; with at least one region or endpoint.
        listener: Who is told how it goes.

    Returns:
        The report.

    Raises:
        UsageError: A target or a case that cannot be had, or an option that only the lab has.
        CannotProveError: No OpenSSL with ML-KEM can be had for the clients as asked.
    """
    began = time.monotonic()
    targets = _read_targets(options)
    cases, aws = choose_cases(options.cases)
    with Keeper("pqtls-test-") as keeper, keeper.holds_temporary_files():
        return _run(options, listener, targets, cases, aws, keeper, began)


def _run(
    options: Options,
    listener: Listener,
    targets: Sequence[Target],
    cases: Sequence[Case],
    aws: AwsV2 | None,
    keeper: Keeper,
    began: float,
) -> SuiteReport:
    python = inspect_interpreter(sys.executable)
    servers = choose_way("auto", python, extra_sources=options.extra_sources)  # of the lab, for the control
    way = choose_way(options.openssl, python, extra_sources=options.extra_sources)
    with ExitStack() as stack:
        folder = keeper.folder
        conf = hold_to_groups(options.groups, folder / "clients", way, python, dict(os.environ))
        network = open_host_network(stack)
        chosen, about_aws = settle(aws, cases, options.cases, sees_it=network.sees_every_program)
        pairs = [(case, target) for target in targets for case in chosen if _is_meant(case, target, options)]
        pcap: BinaryIO | None = None
        if options.pcap_path is not None:
            if not network.sees_the_wire:
                raise UsageError(
                    f"{options.pcap_path}: no packets are captured here.",
                    "Capturing them on the host's own network needs CAP_NET_RAW: run as root.",
                )
            pcap = stack.enter_context(open_private(options.pcap_path))
        setting = describe_setting(
            options, python, way, network.witnesses, targets=tuple(targets), aws_cli_v2=about_aws
        )
        listener.setting_known(setting)
        processes = stack.enter_context(ProcessGroups(keeper))
        client = Client(network, processes, folder, way, options.timeout_s)
        run = _Run(options, client, listener, conf, Packets(pcap, folder), network.parallel_clients)
        control_conf = hold_to_groups(CONTROL_GROUPS, folder / "control", way, python)
        # Known for none of the clients that are watched beside it.
        control_conf = {**control_conf, CLIENT_MARKER: NOT_WATCHED}
        control = partial(_run_control, processes, folder, way, servers, control_conf, options.timeout_s)
        results, control_result = run.run(pairs, control)
    return SuiteReport(setting, tuple(results), control_result, time.monotonic() - began)


def _read_targets(options: Options) -> list[Target]:
    of_the_lab = (
        ("--server-groups", options.server_groups),
        ("--server-tls", options.server_tls),
        ("--port", options.port),
    )
    for name, value in of_the_lab:
        if value:
            raise UsageError(f"{name} is for the lab's servers; real ones do as they like.", "Leave it out.")
    if options.network != "auto":
        raise UsageError("--network is for the lab; real servers are reached as always.", "Leave it out.")
    targets = [parse_region(text) for text in options.regions] + [parse_endpoint(text) for text in options.endpoints]
    return list(dict.fromkeys(targets))


def _is_meant(case: Case, target: Target, options: Options) -> bool:
    """Tell whether a case goes to a server: AWS's clients go to another one only if they were asked for by name."""
    return bool(target.region) or not case.is_for_aws or bool(options.cases)


class _Run:
    def __init__(
        self,
        options: Options,
        client: Client[Target],
        listener: Listener,
        conf: dict[str, str],
        packets: Packets,
        parallel_clients: int,
    ) -> None:
        self._options = options
        self._client = client
        self._conf = conf
        self._packets = packets
        self._schedule = Schedule(listener, client.stop, parallel_clients)

    def run(
        self, pairs: list[tuple[Case, Target]], control: partial[CaseResult]
    ) -> tuple[list[CaseResult], CaseResult]:
        def shown_control() -> CaseResult:
            with self._schedule.shown("negative control"):
                return control()

        return self._schedule.run([partial(self._case, case, target) for case, target in pairs], shown_control)

    def _case(self, case: Case, target: Target) -> CaseResult:
        with self._schedule.shown(f"{case.title}, {target.name}"), self._packets.of_one_client() as pcap_path:
            run = self._client.run(case, target, self._conf, pcap_path=pcap_path)
        return case_result(case, run, allowed=self._options.allowed, target=target)


def _run_control(
    processes: ProcessGroups, folder: Path, way: Way, servers_way: Way, conf: dict[str, str], timeout_s: float
) -> CaseResult:
    """Run the negative control in a lab of its own, on loopback."""
    ca = LabCA(folder / "ca")
    with ExitStack() as stack:
        network = open_network("router", stack, ca.bundle, 1)
        environment = servers_way.apply({**bare_environment(), "TMPDIR": str(folder)})
        servers = stack.enter_context(network.make_servers(ca, sys.executable, environment))
        return run_control(Client(network, processes, folder, way, timeout_s), servers.address("good"), conf)
