"""`pqtls test` from outside, in an empty environment: the promise, and the controls that must fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.schemas import validate

TITLES = [
    "socket + ssl",
    "requests",
    "boto3",
    "AWS CLI v1 (pip)",
    "asyncio streams",
    "urllib3",
    "httpx",
    "aiohttp",
]


def bare_environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of a development machine, which may export SSL_CERT_FILE and hide CA faults."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    # A machine's AWS CLI v2 would be one client more; here it is hidden behind a program that is none.
    (tmp_path / "path").mkdir(exist_ok=True)
    (tmp_path / "path" / "aws").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "path" / "aws").chmod(0o755)
    path = f"{tmp_path / 'path'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(Path.home()), "TMPDIR": str(tmp_path / "tmp")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from pqtls.cli import main; main()", "test", *arguments]


class Run:
    """One finished `pqtls test` with its JSON lines."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        self.json_path = tmp_path / "lines.jsonl"
        done = subprocess.run(
            command("--network", "router", *arguments, "--json", str(self.json_path)),
            env=bare_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        text = self.json_path.read_text() if self.json_path.exists() else ""
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        assert list((tmp_path / "tmp").iterdir()) == [], "nothing is left behind"

    def of(self, schema: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["schema"] == f"pqtls/{schema}/1"]

    @property
    def cases(self) -> list[dict[str, Any]]:
        return [line for line in self.of("case") if not line["control"]]

    def connections_of(self, case: dict[str, Any]) -> list[dict[str, Any]]:
        return [line for line in self.of("observation") if line["id"] in case["connections"]]


def assert_control_holds(run: Run) -> None:
    (control,) = [line for line in run.of("case") if line["control"]]
    assert (control["verdict"], control["reason"]) == ("not-post-quantum", "not-offered")
    assert control["exit_code"] == 0, "the control's client got its answer all the same"


def test_all_eight_clients_are_post_quantum(tmp_path: Path) -> None:
    run = Run(tmp_path, "--junit", str(tmp_path / "junit.xml"))
    assert run.code == 0, run.out + run.err
    assert [case["title"] for case in run.cases] == TITLES
    for case in run.cases:
        assert case["verdict"] == "post-quantum"
        assert [refusal["refused"] for refusal in case["refusals"]] == [True, True]
        assert [refusal["server"] for refusal in case["refusals"]] == ["wrong-name", "wrong-ca"]
        assert case["not_visible_here"] == []
        for connection in run.connections_of(case):
            assert connection["sources"] == ["recorder", "relay"]
            assert connection["handshake"]["server_hello"]["group"] == "X25519MLKEM768"
            assert connection["handshake"]["client_hellos"][0]["key_shares"][0] == {
                "group": "X25519MLKEM768",
                "bytes": 1216,
            }
            assert connection["handshake"]["sni"].endswith(".amazonaws.com")
            assert connection["handshake"]["handshake_ms"] > 0
    assert len(run.of("observation")) == 9
    assert_control_holds(run)
    assert all(validate(line) for line in run.lines)
    assert run.lines[0]["schema"] == "pqtls/setting/1"
    assert run.lines[-1]["schema"] == "pqtls/suite/1"
    first = run.out.splitlines()[1]
    assert "clients" in first
    assert "OpenSSL 3.5" in first
    assert "PASS: 8 of 8 clients" in run.out
    assert "\x1b" not in run.out + run.err
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]  # noqa: S314 - our own file
    assert [case.get("name") for case in suite] == [*TITLES, "negative control (x25519)"]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


def test_the_machines_own_openssl_fails(tmp_path: Path) -> None:
    """The negative control of the whole promise: on OpenSSL 3.0 every request gets its answer, and nothing passes."""
    probe = subprocess.run(
        [sys.executable, "-c", "import ssl; print(ssl.OPENSSL_VERSION_INFO[:2] >= (3, 5))"],
        env=bare_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    if probe.stdout.strip() == "True":
        pytest.skip("this Python's own OpenSSL has ML-KEM")
    run = Run(tmp_path, "--openssl", "system", "--junit", str(tmp_path / "junit.xml"))
    assert run.code == 1
    assert [(case["verdict"], case["reason"], case["exit_code"]) for case in run.cases] == [
        ("not-post-quantum", "not-offered", 0)
    ] * 8
    assert_control_holds(run)
    assert "FAIL" in run.out
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]  # noqa: S314 - our own file
    assert suite.get("failures") == "8"


def test_classical_servers_fail(tmp_path: Path) -> None:
    run = Run(tmp_path, "--server-groups", "x25519")
    assert run.code == 1
    assert {(case["verdict"], case["reason"]) for case in run.cases} == {("not-post-quantum", "server-chose-classical")}
    assert len(run.cases) == 8
    assert_control_holds(run)


def test_tls12_servers_fail(tmp_path: Path) -> None:
    """Every client gets its answer by TLS 1.2, and nothing passes; the curve is named."""
    run = Run(tmp_path, "--server-tls", "1.2")
    assert run.code == 1, run.out + run.err
    assert [(case["verdict"], case["reason"], case["exit_code"]) for case in run.cases] == [
        ("not-post-quantum", "tls12", 0)
    ] * 8
    for case in run.cases:
        for connection in run.connections_of(case):
            assert connection["handshake"]["legacy_key_exchange"] == {
                "kind": "ecdhe",
                "group": "x25519",
                "dh_bits": None,
            }
    assert run.of("setting")[0]["servers"]["tls"] == "TLSv1.2"
    assert ", held to TLSv1.2" in run.out
    assert run.out.count("TLS 1.2 ecdhe x25519") == 8
    assert_control_holds(run)
    (control,) = [line for line in run.of("case") if line["control"]]
    (connection,) = run.connections_of(control)
    assert connection["handshake"]["version"] == "TLSv1.3", "the control's servers stay as they are"


@pytest.mark.smoke
def test_a_retry_passes_and_is_shown(tmp_path: Path) -> None:
    names = ["--case", "requests", "--case", "asyncio-streams", "--case", "boto3"]
    run = Run(tmp_path, *names, "--groups", "x25519:X25519MLKEM768", "--server-groups", "X25519MLKEM768")
    assert run.code == 0, run.out + run.err
    assert len(run.cases) == 3
    for case in run.cases:
        (connection,) = run.connections_of(case)
        assert connection["handshake"]["hello_retry"] == {"group": "X25519MLKEM768", "cookie": False}
        assert len(connection["handshake"]["client_hellos"]) == 2
    assert run.out.count("HelloRetryRequest (X25519MLKEM768)") == 3
    assert_control_holds(run)


def test_a_client_held_to_classical_groups_fails(tmp_path: Path) -> None:
    run = Run(tmp_path, "--case", "httpx", "--groups", "secp256r1:x25519")
    assert run.code == 1
    assert run.cases[0]["reason"] == "not-offered"


@pytest.mark.parametrize("group", ["SecP256r1MLKEM768", "SecP384r1MLKEM1024", "MLKEM1024"])
def test_other_groups_with_ml_kem(tmp_path: Path, group: str) -> None:
    run = Run(tmp_path, "--case", "requests", "--groups", group, "--server-groups", group)
    assert run.code == 0, run.out + run.err
    (connection,) = run.connections_of(run.cases[0])
    assert connection["handshake"]["server_hello"]["group"] == group
    assert connection["key_exchange"] == ("pure" if group == "MLKEM1024" else "hybrid")


def test_no_common_group_is_inconclusive(tmp_path: Path) -> None:
    run = Run(tmp_path, "--case", "requests", "--server-groups", "SecP384r1MLKEM1024")
    assert run.code == 3
    assert (run.cases[0]["verdict"], run.cases[0]["reason"]) == ("inconclusive", "alert")
    assert "handshake_failure" in run.out


class TestAllow:
    HOST = "secretsmanager.us-east-1.amazonaws.com"

    def test_an_allowed_host_is_never_shown_as_post_quantum(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "--case", "requests", "--server-groups", "x25519", "--allow", f"{self.HOST}=moves in May")
        assert run.code == 0
        (case,) = run.cases
        assert case["verdict"] == "allowed"
        assert case["allowed"][0]["reason"] == "moves in May"
        (connection,) = run.connections_of(case)
        assert connection["verdict"] == "not-post-quantum"
        assert "allowed (moves in May), not post-quantum" in run.out
        assert "1 of 1 clients" not in run.out
        assert "was not needed" not in run.out

    def test_another_host_is_not_allowed_by_it(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "--case", "socket-ssl", "--server-groups", "x25519", "--allow", f"{self.HOST}=moves in May")
        assert run.code == 1
        assert f"--allow {self.HOST} was not needed" in run.out

    @pytest.mark.parametrize("value", [HOST, f"{HOST}=", "=why", ""])
    def test_a_host_needs_a_reason(self, tmp_path: Path, value: str) -> None:
        run = Run(tmp_path, "--case", "requests", "--allow", value)
        assert run.code == 2
        assert "HOST=REASON" in run.err


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--case", "nosuch"], "There is no case 'nosuch'"),
            (["--server-groups", "nosuch"], "no group that pqtls knows"),
            (["--groups", "X448MLKEM1024"], "no group that pqtls knows"),
            (["--openssl", "nosuch"], "Invalid value for '--openssl'"),
            (["--junit", "/proc/nonexistent/junit.xml"], "cannot be written"),
            (["--openssl-source", "/proc/nonexistent"], "/proc/nonexistent"),
            (["--timeout", "0"], "--timeout"),
            (["--server-tls", "1.3"], "Invalid value for '--server-tls'"),
        ],
    )
    def test_wrong_usage_is_one_sentence(self, tmp_path: Path, arguments: list[str], sentence: str) -> None:
        run = Run(tmp_path, "--case", "requests", *arguments)
        assert run.code in (2, 3), run.err
        assert sentence in run.err
        assert "Traceback" not in run.err + run.out

    def test_a_taken_port(self, tmp_path: Path) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            run = Run(tmp_path, "--case", "requests", "--port", str(port))
        assert run.code == 2
        assert f"Port {port} on loopback cannot be had" in run.err
        assert "Traceback" not in run.err

    def test_list(self) -> None:
        done = subprocess.run(command("--list"), capture_output=True, text=True, check=True)
        for title in TITLES:
            assert title in done.stdout
        folder = Path(done.stdout.strip().splitlines()[-1].rpartition(": ")[2])
        assert len(list(folder.glob("0*"))) == 8


def processes_with(mark: str) -> list[str]:
    """Return the command lines of processes whose environment holds a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\x00", b" ").decode())
        except OSError:
            continue
    return found


class TestInterrupted:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.parametrize("after_s", [0.0, 0.4, 1.6])
    @pytest.mark.parametrize("network", ["auto", "router"])
    def test_nothing_is_left(self, tmp_path: Path, number: signal.Signals, after_s: float, network: str) -> None:
        """Interrupt it while the lab starts, and while clients run; a second signal cuts nothing short."""
        environment = bare_environment(tmp_path)
        json_path = tmp_path / "lines.jsonl"
        process = subprocess.Popen(
            command("--network", network, "--json", str(json_path), "--junit", str(tmp_path / "junit.xml")),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not list((tmp_path / "tmp").glob("pqtls*")):  # until there is something that could be left
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(after_s)
        process.send_signal(number)
        time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert err.strip().splitlines()[-1] == "pqtls: interrupted."
        assert "Traceback" not in err
        assert list((tmp_path / "tmp").iterdir()) == []
        deadline = time.monotonic() + 5
        while processes_with(str(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_with(str(tmp_path)) == []
        assert not (tmp_path / "junit.xml").exists(), "half a file is of use to nobody"
        lines = [json.loads(line) for line in json_path.read_text().splitlines()] if json_path.exists() else []
        assert all(validate(line) for line in lines)
        assert "pqtls/suite/1" not in [line["schema"] for line in lines]
