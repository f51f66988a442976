from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pqtls.lab.ca import LabCA
from pqtls.lab.router import Router
from pqtls.lab.server import LabServers

if TYPE_CHECKING:
    from collections.abc import Iterator


def child_environment() -> dict[str, str]:
    """What a server process needs; nothing of the developer's SSL or AWS settings."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LabCA:
    return LabCA(tmp_path_factory.mktemp("lab") / "ca")


@pytest.fixture(scope="session")
def servers(ca: LabCA) -> Iterator[LabServers]:
    with LabServers(ca, sys.executable, child_environment()) as running:
        yield running


@pytest.fixture(scope="session")
def router() -> Iterator[Router]:
    with Router() as running:
        yield running
