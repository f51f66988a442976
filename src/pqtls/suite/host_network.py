"""How a client of the suite reaches real servers: as it always does, on the machine's own network.

Nothing of the user's environment is changed but the OpenSSL: proxies, authorities, AWS profiles and the credential
chain are what is tested.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.suite.network import WireReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pqtls.suite.case import Case
    from pqtls.suite.network import Passage
    from pqtls.suite.target import Target

# What decides where a case goes is ours to say, and what would make the AWS CLI wait for a person.
_OWN_VARIABLES = ("PQTLS_HOST", "PQTLS_PATH", "PQTLS_DIAL")
_AWS_VARIABLES = {"AWS_PAGER": "", "AWS_CLI_AUTO_PROMPT": "off"}
# A refused connection is told after one retry, not after botocore's four; yours stands if you set it.
_MAX_ATTEMPTS = "2"


class HostNetwork:
    """The machine's own network, with the recorder inside each client as the witness.

    Args:
        parallel_clients: How many clients may be under way at once.
        why: Why no packets are captured, as a clause.
    """

    sees_the_wire = False
    sees_every_program = False
    remedy = ""

    def __init__(self, parallel_clients: int, why: str) -> None:
        self.parallel_clients = parallel_clients
        self.witnesses = f"the recorder inside each client ({why}); what it can't see is said"

    @contextmanager
    def open_passage(self, target: Target, port: int = 0) -> Iterator[Passage]:
        """Let a client reach a real server.

        Args:
            target: The server.
            port: Of no use here.
        """
        _ = port
        yield _HostPassage(target)


class _HostPassage:
    def __init__(self, target: Target) -> None:
        self._target = target

    def environment(self, case: Case, home: Path) -> dict[str, str]:
        _ = home
        return client_environment(case, self._target)

    def working_folder(self, home: Path) -> Path:
        _ = home
        return Path.cwd()

    def wrap(self, arguments: Sequence[str]) -> list[str]:
        return list(arguments)

    def report(self) -> WireReport:
        return WireReport(())

    def write_packets(self, path: Path) -> None:
        raise UsageError(f"{path}: no packets are captured here.", "Capturing them needs CAP_NET_RAW: run as root.")


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
