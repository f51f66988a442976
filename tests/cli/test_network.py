"""`pqtls test` on a network of its own: recorder, capture and tshark agree on every connection, without root too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pqtls
from pqtls.lab.namespace import find_namespace_obstacle
from pqtls.observe.capture import read_capture
from tests.cli.test_test import TITLES, bare_environment, command
from tests.schemas import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@cache
def obstacle() -> str:
    return find_namespace_obstacle()


@pytest.fixture(autouse=True)
def _needs_namespaces() -> None:
    if obstacle():
        pytest.skip(f"no namespaces here: {obstacle()}")


def make_python_for_others(folder: Path, prefix: list[str]) -> str:
    """Return a Python that another user may start, with this environment's packages; skip where there is none.

    This one may lie where only its owner can go, as pyenv's does for root.
    """
    system = "/usr/bin/python3"
    version = "import sys; print(sys.version_info[:2])"
    found = subprocess.run([*prefix, system, "-c", version], capture_output=True, text=True, check=False)
    if found.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip(f"user {NOBODY} has no Python {sys.version_info[0]}.{sys.version_info[1]} at {system}")
    packages = sysconfig.get_path("purelib")
    subprocess.run([system, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n{Path(pqtls.__file__).parent.parent}\n")
    python = folder / "venv" / "bin" / "python3"
    aws = folder / "venv" / "bin" / "aws"
    aws.write_text(f"#!{python}\nimport sys\nfrom awscli.clidriver import main\nsys.exit(main())\n")
    aws.chmod(0o755)
    probe = subprocess.run([*prefix, str(python), "-c", "import pqtls, boto3"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"user {NOBODY} may not read this environment's packages")
    return str(python)


def run(folder: Path, *arguments: str, user: int | None = None) -> tuple[int, list[dict[str, Any]], str]:
    """Run the suite in namespaces, as root or as another user; return its code, its JSON lines and its output."""
    folder.mkdir(exist_ok=True)
    environment = bare_environment(folder)
    prefix: list[str] = []
    arguments = ("--network", "namespaces", *arguments)
    program = command(*arguments)
    if user is not None:
        setpriv = shutil.which("setpriv")
        if setpriv is None or os.geteuid() != 0:
            pytest.skip("only root can become another user, by setpriv")
        prefix = [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        program[0] = make_python_for_others(folder, prefix)
        environment.update(HOME=str(folder), XDG_CACHE_HOME=str(folder / "cache"))
        for path in (folder, folder / "tmp"):
            os.chown(path, user, user)
    json_path = folder / "lines.jsonl"
    done = subprocess.run(
        [*prefix, *program, "--json", str(json_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=folder,
    )
    lines = [json.loads(line) for line in json_path.read_text().splitlines()] if json_path.exists() else []
    assert all(validate(line) for line in lines)
    assert list((folder / "tmp").iterdir()) == []
    return done.returncode, lines, done.stdout + done.stderr


def connections_of_cases(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cases = [line for line in lines if line["schema"] == "pqtls/case/1" and not line["control"]]
    wanted = {each for case in cases for each in case["connections"]}
    return [line for line in lines if line["schema"] == "pqtls/observation/1" and line["id"] in wanted]


# name: (arguments, exit code, group chosen, segments of each ClientHello)
SETTINGS: dict[str, tuple[list[str], int, str | None, list[int]]] = {
    "hybrid": ([], 0, "X25519MLKEM768", [2]),
    "retry": (
        ["--groups", "x25519:X25519MLKEM768", "--server-groups", "X25519MLKEM768"],
        0,
        "X25519MLKEM768",
        [1, 2],
    ),
    "classical": (["--server-groups", "x25519"], 1, "x25519", [2]),
    "tls12": (["--server-tls", "1.2"], 1, None, [2]),
}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("user", [None, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_recorder_capture_and_tshark_agree(open_folder: Path, name: str, user: int | None) -> None:
    arguments, code, group, segments = SETTINGS[name]
    pcap = open_folder / "run" / "handshakes.pcap"
    got, lines, output = run(open_folder / "run", *arguments, "--pcap", str(pcap), user=user)
    assert got == code, output
    cases = [line for line in lines if line["schema"] == "pqtls/case/1" and not line["control"]]
    assert [case["title"] for case in cases] == TITLES
    assert all(case["disagreements"] == [] and case["not_visible_here"] == [] for case in cases)
    assert all(refusal["refused"] for case in cases for refusal in case["refusals"])
    connections = connections_of_cases(lines)
    assert len(connections) == 8
    for connection in connections:
        assert connection["sources"] == ["recorder", "capture"]
        assert connection["server"].endswith(":443")
        assert connection["handshake"]["server_hello"]["group"] == group
        assert [hello["segments"] for hello in connection["handshake"]["client_hellos"]] == segments
    if name == "tls12":
        assert all(each["handshake"]["legacy_key_exchange"]["group"] == "x25519" for each in connections)
        assert {(case["verdict"], case["reason"], case["exit_code"]) for case in cases} == {
            ("not-post-quantum", "tls12", 0)
        }
    assert pcap.stat().st_mode & 0o777 == 0o600
    compare_with_tshark(pcap, connections)


# What tshark is asked of each hello and key exchange.
FIELDS = {
    "stream": "tcp.stream",
    "type": "tls.handshake.type",
    "random": "tls.handshake.random",
    "groups": "tls.handshake.extensions_supported_group",
    "shares": "tls.handshake.extensions_key_share_group",
    "cipher": "tls.handshake.ciphersuite",
    "curve": "tls.handshake.server_named_curve",
    "checksum": "tcp.checksum.status",
}
CODES = {"X25519MLKEM768": 4588, "x25519": 29}
CIPHERS = {"TLS_AES_256_GCM_SHA384": 0x1302, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 0xC02C}


def read_with_tshark(tshark: str, pcap: Path) -> list[dict[str, list[str]]]:
    """Return what tshark sees of each packet with a hello or a key exchange in it."""
    arguments = [tshark, "-r", str(pcap), "-o", "tcp.check_checksum:TRUE", "-Y", "tls.handshake.type in {1, 2, 12}"]
    arguments += ["-T", "fields", *(part for field in FIELDS.values() for part in ("-e", field))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    rows = [[cell.split(",") if cell else [] for cell in line.split("\t")] for line in done.stdout.splitlines()]
    return [dict(zip(FIELDS, row, strict=True)) for row in rows]


def compare_with_tshark(pcap: Path, connections: list[dict[str, Any]]) -> None:
    """Every connection that we saw is in the file, once, and tshark reads the same in it."""
    tshark = shutil.which("tshark")
    if tshark is None:
        return  # its own test says so by name, below
    packets = read_with_tshark(tshark, pcap)
    assert all(packet["checksum"] == ["1"] for packet in packets), "valid checksums"
    assert len({packet["stream"][0] for packet in packets}) == len(connections)
    for connection in connections:
        handshake, server = connection["handshake"], connection["handshake"]["server_hello"]
        (first, *_) = [
            packet
            for packet in packets
            if "1" in packet["type"]
            and hashlib.sha256(bytes.fromhex(packet["random"][0])).hexdigest()[:16] == connection["id"]
        ]
        mine = [packet for packet in packets if packet["stream"] == first["stream"]]
        hellos = [packet for packet in mine if "1" in packet["type"]]
        answers = [packet for packet in mine if "2" in packet["type"]]
        for packet, hello in zip(hellos, handshake["client_hellos"], strict=True):
            assert [numbers_of(packet["shares"])] == [[CODES[each["group"]] for each in hello["key_shares"]]]
            offered = [code for code in numbers_of(packet["groups"]) if code in CODES.values()]
            assert offered == [CODES[name] for name in hello["groups"] if name in CODES]
        assert len(answers) == 1 + (handshake["hello_retry"] is not None)
        assert numbers_of(answers[-1]["cipher"]) == [CIPHERS[handshake["cipher"]]]
        curves = [code for packet in mine for code in numbers_of(packet["curve"])]
        if handshake["version"] == "TLSv1.2":
            assert numbers_of(answers[-1]["shares"]) == []
            assert curves == [CODES[handshake["legacy_key_exchange"]["group"]]]
        else:
            assert numbers_of(answers[-1]["shares"]) == [CODES[server["group"]]]
            assert curves == []


def numbers_of(cells: list[str]) -> list[int]:
    return [int(each, 0) for each in cells]


def test_tshark_is_here() -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed: nothing was compared with it")


@pytest.mark.parametrize(
    ("name", "script", "code", "sources"),
    [
        (
            "own.py",
            "import urllib.request\n"
            "print(urllib.request.urlopen('https://secretsmanager.us-west-1.amazonaws.com/ping').status)\n",
            0,
            ["recorder", "capture"],
        ),
        (
            "curl.sh",
            'exec curl -sS --cacert "$SSL_CERT_FILE" https://secretsmanager.us-west-1.amazonaws.com/ping\n',
            0,
            ["capture"],
        ),
        ("nothing.sh", "echo 200 OK\n", 3, None),
    ],
)
def test_ones_own_script(tmp_path: Path, name: str, script: str, code: int, sources: list[str] | None) -> None:
    """A script of one's own is proven as the built-in ones are; a program that is not Python by its packets."""
    if name == "curl.sh" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    path = tmp_path / name
    path.write_text(script)
    got, lines, output = run(tmp_path / "run", "--case", str(path))
    assert got == code, output
    connections = connections_of_cases(lines)
    assert [each["sources"] for each in connections] == ([] if sources is None else [sources])
    assert all(each["handshake"]["server_hello"]["group"] == "X25519MLKEM768" for each in connections)
    notes = next(line for line in lines if line["schema"] == "pqtls/case/1")["notes"]
    assert any("no QUIC" in note for note in notes) == (name != "own.py")


def test_packets_on_standard_output(tmp_path: Path) -> None:
    """As `tcpdump -w -` gives them, for `tshark -r -`; what people read goes to standard error."""
    arguments = command("--network", "namespaces", "--case", "socket-ssl", "--case", "requests", "--pcap", "-")
    environment = bare_environment(tmp_path)
    done = subprocess.run(arguments, env=environment, capture_output=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert b"PASS: 2 of 2 clients" in done.stderr
    (tmp_path / "packets").write_bytes(done.stdout)
    assert [each.handshake.complete for each in read_capture(tmp_path / "packets")] == [True, True]
    assert not (tmp_path / "-").exists()
    two = subprocess.run([*arguments, "--json", "-"], env=environment, capture_output=True, text=True, check=False)
    assert (two.returncode, two.stdout) == (2, "")
    assert "--json, --junit and --pcap cannot share one file" in two.stderr


def test_the_router_says_why_it_is_the_router(tmp_path: Path) -> None:
    """Where namespaces are refused (here: none may be made in this one) the suite passes by the router."""
    script = (
        "import sys\nfrom pqtls.errors import CannotProveError\nfrom pqtls.suite import network\n"
        "class Refused:\n"
        "    def __enter__(self): raise CannotProveError('This system refuses user namespaces.')\n"
        "    def __exit__(self, *_): pass\n"
        "network.NamespacedLab = Refused\n"
        "from pqtls.cli import run_app\n"
        "sys.exit(run_app(sys.argv[1:]))\n"
    )
    arguments = [sys.executable, "-c", script, "test", "--case", "requests"]
    done = subprocess.run(arguments, env=bare_environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the relay on loopback (no network of its own here: This system refuses user namespaces)" in done.stdout
    for more in (["--network", "namespaces"], ["--pcap", str(tmp_path / "x.pcap")]):
        refused = subprocess.run(
            [*arguments, *more], env=bare_environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert refused.returncode in (2, 3)
        assert "Traceback" not in refused.stderr
        assert not (tmp_path / "x.pcap").exists()


def test_a_program_that_the_recorder_cannot_see_is_judged_by_its_packets(tmp_path: Path) -> None:
    """What only the capture saw counts: here a Python that hides from the recorder."""
    from contextlib import ExitStack

    from pqtls.lab.ca import LabCA
    from pqtls.openssl.interpreter import inspect_interpreter
    from pqtls.openssl.ways import choose_way
    from pqtls.suite.case import read_case
    from pqtls.suite.client import Client
    from pqtls.suite.network import open_network
    from pqtls.suite.process import ProcessGroups
    from tests.suite.test_client import result_of

    script = tmp_path / "hidden.sh"
    script.write_text(
        "exec python3 -I -c 'import ssl, urllib.request; "
        'print(urllib.request.urlopen("https://secretsmanager.us-east-1.amazonaws.com/ping").status)\'\n'
    )
    for kind, verdict in (("graft", "post-quantum"), ("system", "not-post-quantum")):
        with ExitStack() as stack:
            python = inspect_interpreter(sys.executable)
            ca = LabCA(tmp_path / f"ca-{kind}")
            network = open_network("namespaces", stack, ca.bundle, 1)
            environment = choose_way("auto", python).apply({"PATH": os.environ["PATH"]})
            servers = stack.enter_context(network.make_servers(ca, sys.executable, environment))
            processes = stack.enter_context(ProcessGroups())
            try:
                way = choose_way(kind, python)
            except Exception:  # noqa: BLE001 - a native Python needs no graft
                pytest.skip(f"no {kind} for this Python")
            client = Client(network, processes, tmp_path, way, 30.0)
            ran = client.run(read_case(script), servers.address("good"), {})
        assert [each.sources for each in ran.connections] == [("capture",)], ran.finished.output
        assert result_of(ran).verdict == verdict


GOOD = "import urllib.request as u\nu.urlopen('https://secretsmanager.us-west-1.amazonaws.com/ping').read()\n"
# A classical handshake over loopback, both ends in one Python; anonymous, so that it needs no certificate.
CLASSICAL = """
import socket, ssl, threading
def context(kind):
    made = ssl.SSLContext(kind)
    made.check_hostname, made.maximum_version = False, ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_NONE
    made.set_ciphers("AECDH-AES256-SHA:ADH-AES256-GCM-SHA384:@SECLEVEL=0")
    return made
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    with context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(listener.accept()[0], server_side=True) as tls:
        tls.sendall(b"answer")
threading.Thread(target=serve).start()
with socket.create_connection(listener.getsockname()) as tcp:
    with context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(tcp) as tls:
        assert tls.recv(6) == b"answer"
"""
PLAIN = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(listener.getsockname()) as one, listener.accept()[0] as other:
    one.sendall(b"no TLS")
    assert other.recv(6) == b"no TLS"
"""
UNWATCHED = "import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-c', {!r}], check=True)\n"


@pytest.mark.parametrize(
    ("beside", "verdict", "reason"),
    [
        (UNWATCHED.format(CLASSICAL), "not-post-quantum", "tls12"),
        (PLAIN, "post-quantum", "negotiated-hybrid"),  # all of it is Python, whose TLS is recorded
        (UNWATCHED.format(PLAIN), "inconclusive", "not-visible-here"),  # may be an upgrade to TLS
    ],
    ids=["unwatched-classical", "plain", "unwatched-plain"],
)
def test_what_a_client_says_over_loopback_is_seen(tmp_path: Path, beside: str, verdict: str, reason: str) -> None:
    """A good connection to the lab, and another one that never leaves the client's side of its network."""
    (tmp_path / "own.py").write_text(GOOD + beside)
    _, lines, output = run(tmp_path / "run", "--case", str(tmp_path / "own.py"))
    case = next(line for line in lines if line["schema"] == "pqtls/case/1")
    assert (case["verdict"], case["reason"]) == (verdict, reason), output
