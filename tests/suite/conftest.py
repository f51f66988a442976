"""A lab on OpenSSL 3.5 for the whole module, and a way to run any script as a case in it."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pqtls.lab.ca import LabCA
from pqtls.lab.server import LabServers
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import Way, choose_way
from pqtls.suite.case import Case, read_case
from pqtls.suite.client import Client, ClientRun
from pqtls.suite.network import open_network
from pqtls.suite.process import ProcessGroups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pqtls.lab.names import Address


@dataclass
class Lab:
    """Everything that a case needs."""

    client: Client[Address]
    servers: LabServers
    ca: LabCA
    way: Way
    folder: Path

    def with_timeout(self, timeout_s: float) -> Client[Address]:
        one = self.client
        return Client(one._network, one._processes, one._folder, one._way, timeout_s)

    def run(self, script: str, extra: Mapping[str, str] | None = None, suffix: str = ".py") -> ClientRun:
        path = self.folder / f"case{suffix}"
        path.write_text(script)
        return self.run_case(read_case(path), extra)

    def run_case(self, case: Case, extra: Mapping[str, str] | None = None) -> ClientRun:
        return self.client.run(case, self.servers.address("good"), extra or {})


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    way = choose_way("auto", inspect_interpreter(sys.executable))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ca = LabCA(folder / "ca")
        servers = stack.enter_context(LabServers(ca, sys.executable, way.apply({"PATH": os.environ["PATH"]})))
        network = open_network("router", stack, ca.bundle, 2)
        processes = stack.enter_context(ProcessGroups())
        yield Lab(Client(network, processes, folder, way, 30.0), servers, ca, way, folder)
