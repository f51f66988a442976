"""One interpreter, one source and one graft for the whole room; everything runs in bare environments."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pqtls.openssl.graft import Graft, make_graft
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.sources import Source, find_sources


@pytest.fixture(scope="session")
def interpreter() -> Interpreter:
    found = inspect_interpreter(sys.executable, {})
    if found.linkage != "dynamic":
        pytest.skip(f"{found.executable} is not linked to libssl.so.3 dynamically")
    return found


@pytest.fixture(scope="session")
def source(interpreter: Interpreter) -> Source:
    usable = [each for each in find_sources(interpreter) if each.is_usable and each.kind != "build"]
    if not usable:
        pytest.skip("no OpenSSL 3.5 here: pip install 'pqtls[openssl]'")
    return usable[0]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grafts")


@pytest.fixture(scope="session")
def graft(source: Source, interpreter: Interpreter, shared_cache: Path) -> Graft:
    return make_graft(source, interpreter, shared_cache, {})


@pytest.fixture(scope="session")
def own_libraries(graft: Graft, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenSSL 3.5 that a user put into LD_LIBRARY_PATH: no folder of pqtls."""
    folder = tmp_path_factory.mktemp("own-openssl")
    for path in graft.folder.glob("lib*.so.3"):
        shutil.copy2(path, folder)
    return folder


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name fits into any libcrypto; pytest's own are too long."""
    with tempfile.TemporaryDirectory(prefix="pq", dir="/tmp") as folder:
        yield Path(folder)
