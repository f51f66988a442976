"""The AWS CLI v2 as a case: what it carries decides, whatever stands under everything else."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pqtls.errors import PqtlsError
from pqtls.lab.namespace import find_namespace_obstacle
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from tests.cli.test_test import bare_environment, command
from tests.schemas import validate
from tests.suite.frozen_aws import install

if TYPE_CHECKING:
    from pathlib import Path


def install_aws(folder: Path, carries: str) -> Path:
    """Install a stand-in with OpenSSL 3.0 or 3.5 of its own; skip where they can't be had."""
    python = inspect_interpreter(sys.executable)
    if platform.machine() != "x86_64" or python.elf is None or python.elf.interpreter is None:
        pytest.skip("the stand-in for the AWS CLI v2 is x86-64 code")
    if carries == "3.5":
        try:
            graft = choose_way("graft", python).graft
        except PqtlsError as error:
            pytest.skip(f"no OpenSSL 3.5 to give to the stand-in: {error}")
        assert graft is not None
        files = (graft.folder / "libssl.so.3", graft.folder / "libcrypto.so.3")
    else:
        if python.linkage != "dynamic" or python.openssl_version_info[:2] >= (3, 5):
            pytest.skip("no OpenSSL without ML-KEM to give to the stand-in")
        assert python.libssl is not None
        assert python.libcrypto is not None
        files = (python.libssl, python.libcrypto)
    return install(folder / "aws", *files, python.elf.interpreter)


def run(folder: Path, path: Path | None, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    environment = bare_environment(folder)
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    json_path = folder / "lines.jsonl"
    done = subprocess.run(
        command(*arguments, "--json", str(json_path)), env=environment, capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in json_path.read_text().splitlines()] if json_path.exists() else []
    assert all(validate(line) for line in lines)
    return done.returncode, lines, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("carries", "way", "code", "outcome"),
    [
        ("3.0", "auto", 1, ("not-post-quantum", "not-offered")),
        ("3.5", "system", 0, ("post-quantum", "negotiated-hybrid")),
    ],
)
def test_what_it_carries_decides(tmp_path: Path, carries: str, way: str, code: int, outcome: tuple[str, str]) -> None:
    """Classical though all else is grafted; post-quantum though all else is not."""
    if why := find_namespace_obstacle():
        pytest.skip(f"no namespaces here: {why}")
    path = install_aws(tmp_path, carries)
    got, lines, output = run(tmp_path, path, "--case", "aws-cli-v2", "--network", "namespaces", "--openssl", way)
    assert got == code, output
    setting, *_ = lines
    assert f"carries OpenSSL {carries}" in setting["aws_cli_v2"]
    assert setting["aws_cli_v2"].endswith("run as aws-cli-v2")
    (case,) = [line for line in lines if line["schema"] == "pqtls/case/1" and not line["control"]]
    assert (case["case"], case["title"], case["exit_code"]) == ("aws-cli-v2", "AWS CLI v2 2.36.50", 0)
    assert (case["verdict"], case["reason"]) == outcome
    assert any(f"carries OpenSSL {carries}" in note for note in case["notes"])
    assert all(refusal["refused"] for refusal in case["refusals"])
    (connection,) = [line for line in lines if line.get("id") in case["connections"]]
    assert connection["sources"] == ["capture"]


def test_through_the_router_it_is_not_visible(tmp_path: Path) -> None:
    """A child of it could go another way, so that good connections prove nothing."""
    path = install_aws(tmp_path, "3.5")
    arguments = ("--case", "aws-cli-v2", "--case", "aws-cli", "--network", "router")
    code, lines, output = run(tmp_path, path, *arguments)
    assert code == 3, output
    cases = [line for line in lines if line["schema"] == "pqtls/case/1" and not line["control"]]
    assert [(case["case"], case["verdict"], case["reason"]) for case in cases] == [
        ("aws-cli", "post-quantum", "negotiated-hybrid"),
        ("aws-cli-v2", "inconclusive", "not-visible-here"),
    ]


def test_it_is_listed_where_it_is(tmp_path: Path) -> None:
    path = install_aws(tmp_path, "3.5")
    for folder, is_there in ((path, True), (None, False)):
        environment = bare_environment(tmp_path)
        environment["PATH"] = f"{folder}:/usr/bin:/bin" if folder else "/nonexistent"
        done = subprocess.run(command("--list"), env=environment, capture_output=True, text=True, check=True)
        assert ("aws-cli-v2" in done.stdout) == is_there
        assert ("carries OpenSSL 3.5" in done.stdout) == is_there


def test_asked_for_and_absent(tmp_path: Path) -> None:
    environment = {**bare_environment(tmp_path), "PATH": "/nonexistent"}
    arguments = command("--case", "aws-cli-v2")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs the AWS CLI v2 that AWS's installer lays out, and on PATH there is no `aws`." in done.stderr
