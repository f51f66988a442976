"""The doctor's last line: a command that works there, told from what was found."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pqtls.openssl import next_command
from pqtls.openssl.installed import Installed
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.next_command import choose_next_command
from pqtls.openssl.obstacles import Obstacle, find_graft_obstacle
from pqtls.openssl.sources import Source, find_sources
from pqtls.openssl.ways import Kind, WayReport

HERE = inspect_interpreter(sys.executable)
PIP = f"{HERE.executable} -m pip install 'pqtls[all]'"
VENV = f"{HERE.executable} -m venv ~/pqtls && ~/pqtls/bin/pip install 'pqtls[all]'"
METADATA = """Metadata-Version: 2.4
Requires-Dist: click>=8.1
Provides-Extra: aws
Requires-Dist: moto[server]>=5.0; extra == 'aws'
Provides-Extra: path
Requires-Dist: cryptography>=48; extra == 'path'
Provides-Extra: suite
Requires-Dist: Trust_Me>=1.1; extra == 'suite'
"""


def ways(possible: str = "system", remedy: str = "") -> list[WayReport]:
    kinds: tuple[Kind, ...] = ("native", "graft", "system")
    return [WayReport(kind, kind == possible, "why", remedy if kind == "graft" else "") for kind in kinds]


def installed(folder: Path, *names: str, is_externally_managed: bool = False) -> Installed:
    (folder / "METADATA").write_text(METADATA)
    return Installed((), dict.fromkeys(names, ("1", folder)), is_externally_managed)


def choose(
    found: Installed,
    reports: list[WayReport],
    *,
    interpreter: Interpreter = HERE,
    sources: list[Source] | None = None,
    is_standalone: bool = False,
) -> str:
    return choose_next_command(interpreter, found, reports, sources or [], is_standalone=is_standalone)


ALL = ("pqtls", "pip", "click", "moto", "trust-me")


def test_able_with_every_client(tmp_path: Path) -> None:
    assert choose(installed(tmp_path, *ALL), ways("native")) == "pqtls test"
    assert choose(installed(tmp_path, *ALL), ways("graft")) == "pqtls test"


@pytest.mark.parametrize("missing", ["moto", "trust-me"])
def test_able_before_the_extras_are_installed(tmp_path: Path, missing: str) -> None:
    """`pqtls test` would end with 2 and name what it lacks."""
    found = installed(tmp_path, *(name for name in ALL if name != missing))
    assert choose(found, ways("native")) == PIP


def test_no_openssl_to_graft_from(tmp_path: Path) -> None:
    if find_graft_obstacle(HERE) is not None:
        pytest.skip("this Python cannot be grafted")
    found = installed(tmp_path, *ALL)
    reports = ways(remedy="Run: pip install 'pqtls[openssl]'.")
    assert choose(found, reports) == PIP
    assert choose(replace(found, is_externally_managed=True), reports) == VENV
    assert choose(installed(tmp_path, "pqtls", "click", "moto", "trust-me"), reports) == VENV


def test_a_graft_that_nothing_to_install_would_make_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    static = replace(HERE, linkage="static")
    reports = ways(remedy="Use another Python.")
    assert choose(installed(tmp_path, *ALL), reports, interpreter=static) == "Use another Python."
    with monkeypatch.context() as patch:
        patch.setattr(next_command, "find_policy_obstacle", lambda: Obstacle("Crypto-policies.", "Use another Python."))
        assert choose(installed(tmp_path, *ALL), reports) == "Use another Python."
    sources = find_sources(HERE)
    if sources:  # there are some, and none of them can stand in
        assert choose(installed(tmp_path, *ALL), reports, sources=sources) == "Use another Python."


def test_another_python(tmp_path: Path) -> None:
    """pqtls runs beside it; what is missing is missing here."""
    other = replace(HERE, executable=Path("/opt/a b/bin/python3"), version="3.8.1")
    assert (
        choose(installed(tmp_path), ways("graft"), interpreter=other)
        == "pqtls run -- '/opt/a b/bin/python3' YOUR_PROGRAM.py"
    )
    if find_graft_obstacle(other) is None:
        assert choose(installed(tmp_path), ways(), interpreter=other) in (PIP, VENV)


def test_from_one_file(tmp_path: Path) -> None:
    bare = installed(tmp_path, "pip")
    assert choose(bare, ways("native"), is_standalone=True) == PIP
    assert choose(installed(tmp_path, *ALL), ways("native"), is_standalone=True) == "pqtls test"
    newer = replace(HERE, executable=Path("/opt/bin/python3"))
    assert choose(bare, ways("graft"), interpreter=newer, is_standalone=True).startswith("/opt/bin/python3 -m pip")
    older = replace(newer, version="3.9.18")
    assert choose(bare, ways("graft"), interpreter=older, is_standalone=True) in (PIP, VENV)
