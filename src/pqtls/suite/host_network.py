"""How a client of the suite reaches real servers: as it always does, on the machine's own network.

Nothing of the user's environment is changed but the OpenSSL: proxies, authorities, AWS profiles and the credential
chain are what is tested.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import CannotProveError, UsageError
from pqtls.observe.host_capture import HostCapture, HostWatch
from pqtls.suite.network import WireReport

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import ExitStack

    from pqtls.suite.case import Case
    from pqtls.suite.network import Passage
    from pqtls.suite.target import Target

# What decides where a case goes is ours to say, and what would make the AWS CLI wait for a person.
_OWN_VARIABLES = ("PQTLS_HOST", "PQTLS_PATH", "PQTLS_DIAL")
_AWS_VARIABLES = {"AWS_PAGER": "", "AWS_CLI_AUTO_PROMPT": "off"}
# A refused connection is told after one retry, not after botocore's four; yours stands if you set it.
_MAX_ATTEMPTS = "2"
# Where roles get their credentials, in plain HTTP by AWS's design: EC2, ECS and EKS, by IPv4 and IPv6.
_METADATA_SERVERS = frozenset(
    {
        *("169.254.169.254:80", "169.254.170.2:80", "169.254.170.23:80"),
        *("[fd00:ec2::254]:80", "[fd00:ec2::23]:80"),
    }
)
# Inherited by everything that a client starts: whose a connection is can be told by it.
CLIENT_MARKER = "PQTLS_CLIENT"
# Real servers are somebody else's: a few clients at once, not as many as there are processors.
_PARALLEL_CLIENTS = 3


class HostNetwork:
    """The machine's own network.

    Args:
        capture: What watches its interfaces; None where that is not allowed.
        why: Why it is not, as a clause.
    """

    remedy = ""

    def __init__(self, capture: HostCapture | None, why: str = "") -> None:
        self._capture = capture
        self.sees_the_wire = self.sees_every_program = capture is not None
        # One at a time under a capture, so that what each one starts is told apart.
        self.parallel_clients = _PARALLEL_CLIENTS if capture is None else 1
        self.witnesses = (
            f"the recorder inside each client alone; no capture: {why}"
            if capture is None
            else "the recorder inside each client, and a capture of its packets on this host; they must agree"
        )

    @contextmanager
    def open_passage(self, target: Target, port: int = 0) -> Iterator[Passage]:
        """Let a client reach a real server.

        Args:
            target: The server.
            port: Of no use here.
        """
        _ = port
        mark = secrets.token_hex(16)
        if self._capture is None:
            yield _HostPassage(target, mark, None)
            return
        with self._capture.watch(f"{CLIENT_MARKER}={mark}") as watch:
            yield _HostPassage(target, mark, watch)


class _HostPassage:
    def __init__(self, target: Target, mark: str, watch: HostWatch | None) -> None:
        self._target = target
        self._mark = mark
        self._watch = watch

    def environment(self, case: Case, home: Path) -> dict[str, str]:
        _ = home
        return {**client_environment(case, self._target), CLIENT_MARKER: self._mark}

    def working_folder(self, home: Path) -> Path:
        _ = home
        return Path.cwd()

    def wrap(self, arguments: Sequence[str]) -> list[str]:
        return list(arguments)

    def report(self, recorded_ids: Collection[str]) -> WireReport:
        if self._watch is None:
            return WireReport(())
        self._watch.claim(recorded_ids)
        found = self._watch.report
        plain = [
            f"not visible here: what the client's connection to {server} carries: it does not begin as TLS"
            for server in found.plain_servers
            if server not in _METADATA_SERVERS
        ]
        return WireReport(found.observations, doubts=(*found.blind_spots, *plain))

    def write_packets(self, path: Path) -> None:
        if self._watch is None:
            raise UsageError(f"{path}: no packets are captured here.", "Capturing them needs CAP_NET_RAW: run as root.")
        self._watch.write_pcap(path)


def open_host_network(stack: ExitStack) -> HostNetwork:
    """Return the machine's own network, watched by a capture if the system allows that.

    Args:
        stack: What ends the capture.
    """
    try:
        return HostNetwork(stack.enter_context(HostCapture()))
    except (CannotProveError, OSError) as error:
        return HostNetwork(None, str(error).partition("\n")[0].rstrip("."))


def client_environment(case: Case, target: Target) -> dict[str, str]:
    """Return the user's environment, with what leads a case to a server.

    Args:
        case: The case.
        target: The server.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    environment.update(_AWS_VARIABLES)
    environment.setdefault("AWS_MAX_ATTEMPTS", _MAX_ATTEMPTS)
    if target.region:
        environment["AWS_REGION"] = environment["AWS_DEFAULT_REGION"] = target.region
    if not (target.region and case.is_for_aws):  # AWS's own clients know where a region is, and may be told elsewhere
        environment["PQTLS_HOST"] = target.authority
    if target.path is not None:
        environment["PQTLS_PATH"] = target.path
    return environment
