"""`pqtls test --region` and `--endpoint`: the user's own network, proxies and credentials, with real faults.

AWS itself is not reached: stand-ins answer to its names, behind a proxy that is the user's, or on a network of its
own where all names resolve. Nothing of pqtls's lab but them is used.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pqtls.lab.ca import LabCA
from pqtls.lab.names import AWS_HOSTS, LAB_NAMES
from pqtls.lab.namespace import NamespacedLab
from pqtls.lab.router import Router
from pqtls.observe.capture import read_capture
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from pqtls.suite.held import bare_environment, hold_to_groups
from pqtls.suite.network import NamespaceNetwork
from tests.aws_stand_in import run_stand_in
from tests.cli.test_network import obstacle
from tests.cli.test_test import bare_environment as users_environment
from tests.cli.test_test import command
from tests.observe.network import alone_on_the_network
from tests.schemas import validate
from tests.tls_server import serve_on_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "us-east-1"
HOST = f"secretsmanager.{REGION}.amazonaws.com"
STS_HOST = "secretsmanager.us-west-1.amazonaws.com"  # stands in for STS: AWS_ENDPOINT_URL_STS leads there
ROOT = str(Path(__file__).parent.parent.parent)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Let no other test's connections be among the packets, of which it may not be seen whose they are."""
    with alone_on_the_network():
        yield


class Run:
    """One finished run with its JSON lines."""

    def __init__(self, folder: Path, *arguments: str, wrap: Any = None, **environment: str) -> None:
        self.json_path = folder / "lines.jsonl"
        program = command(*arguments, "--json", str(self.json_path))
        done = subprocess.run(
            program if wrap is None else wrap(program),
            env={
                **users_environment(folder),
                "AWS_CONFIG_FILE": str(folder / "config"),
                "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_MAX_ATTEMPTS": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=folder,
        )
        self.code, self.out = done.returncode, done.stdout + done.stderr
        text = self.json_path.read_text() if self.json_path.exists() else ""
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        assert all(validate(line) for line in self.lines)
        assert "Traceback" not in self.out
        assert list((folder / "tmp").iterdir()) == []

    def case(self, name: str) -> dict[str, Any]:
        (found,) = [line for line in self.lines if line["schema"] == "pqtls/case/1" and line["case"] == name]
        return found

    def verdicts(self) -> dict[str, tuple[str, str]]:
        cases = [line for line in self.lines if line["schema"] == "pqtls/case/1" and not line["control"]]
        return {line["case"]: (line["verdict"], line["reason"]) for line in cases}

    def connections_of(self, name: str) -> list[dict[str, Any]]:
        wanted = self.case(name)["connections"]
        return [line for line in self.lines if line["schema"] == "pqtls/observation/1" and line["id"] in wanted]


@contextmanager
def stand_in(folder: Path, kind: str = "good", groups: str = "") -> Iterator[tuple[int, Path]]:
    """Run a server on OpenSSL 3.5, held to groups; yield its port on loopback and its authority's bundle."""
    folder.mkdir()
    python = inspect_interpreter(sys.executable)
    way = choose_way("auto", python)
    ca = LabCA(folder / "ca")
    held = hold_to_groups(groups, folder / "groups", way, python)
    environment = {**way.apply(bare_environment()), **held, "PYTHONPATH": ROOT}
    with run_stand_in(kind, ca.issue(*LAB_NAMES, folder=folder), environment) as port:
        yield port, ca.bundle


@contextmanager
def users_network(
    tmp_path: Path, kind: str = "good", groups: str = "", sts_groups: str = ""
) -> Iterator[dict[str, str]]:
    """Yield the environment of a user whose way out is a proxy, behind which the region's host is a stand-in."""
    with ExitStack() as stack:
        port, bundle = stack.enter_context(stand_in(tmp_path / "server", kind, groups))
        routes = {HOST: ("127.0.0.1", port)}
        bundles = [bundle]
        if sts_groups:
            sts_port, sts_bundle = stack.enter_context(stand_in(tmp_path / "sts", "good", sts_groups))
            routes[STS_HOST] = ("127.0.0.1", sts_port)
            bundles.append(sts_bundle)
        both = tmp_path / "ca.pem"
        both.write_text("".join(each.read_text() for each in bundles))
        entry = stack.enter_context(stack.enter_context(Router()).open_entry(routes))
        yield {"HTTPS_PROXY": f"http://user:hunter2@127.0.0.1:{entry.proxy_port}", **trust(both)}


def trust(bundle: Path) -> dict[str, str]:
    return dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"), str(bundle))


BEHIND_A_PROXY = ["requests", "boto3", "aws-cli", "urllib3", "httpx", "aiohttp"]


def cases(*names: str) -> list[str]:
    return [argument for name in names for argument in ("--case", name)]


class TestRegion:
    def test_behind_a_proxy(self, tmp_path: Path) -> None:
        with users_network(tmp_path) as environment:
            run = Run(tmp_path, "--region", REGION, **environment, **CREDENTIALS)
        verdicts = run.verdicts()
        assert {name: verdicts[f"{name}@{REGION}"] for name in BEHIND_A_PROXY} == dict.fromkeys(
            BEHIND_A_PROXY, ("post-quantum", "negotiated-hybrid")
        ), run.out
        for name in ("socket-ssl", "asyncio-streams"):  # know no proxies, and no name resolves here
            assert verdicts[f"{name}@{REGION}"] == ("inconclusive", "name-not-resolved")
        assert run.code == 3
        assert "hunter2" not in run.out + run.json_path.read_text()
        assert run.lines[0]["targets"] == [f"{HOST}:443"]

    def test_all_proven(self, tmp_path: Path) -> None:
        with users_network(tmp_path) as environment:
            run = Run(tmp_path, "--region", REGION, *cases(*BEHIND_A_PROXY), **environment, **CREDENTIALS)
        assert run.code == 0, run.out
        assert "PASS: 6 of 6 clients" in run.out

    def test_a_classical_region_fails(self, tmp_path: Path) -> None:
        """The negative control of the one above: the same, but for the server's groups."""
        with users_network(tmp_path, groups="x25519") as environment:
            run = Run(tmp_path, "--region", REGION, *cases(*BEHIND_A_PROXY), **environment, **CREDENTIALS)
        assert run.code == 1
        assert set(run.verdicts().values()) == {("not-post-quantum", "server-chose-classical")}

    def test_no_credentials(self, tmp_path: Path) -> None:
        with users_network(tmp_path) as environment:
            run = Run(tmp_path, "--region", REGION, *cases("requests", "boto3", "aws-cli"), **environment)
        assert run.code == 3
        assert run.verdicts() == {
            f"requests@{REGION}": ("post-quantum", "negotiated-hybrid"),
            f"boto3@{REGION}": ("inconclusive", "no-credentials"),
            f"aws-cli@{REGION}": ("inconclusive", "no-credentials"),
        }
        assert "No AWS credentials were found" in run.out

    @pytest.mark.parametrize(
        ("kind", "reason", "words"),
        [
            ("expired", "expired-credentials", "have expired"),
            ("denied", "access-denied", "may not call secretsmanager:ListSecrets"),
            ("unknown-key", "refused-credentials", "does not accept these credentials"),
        ],
    )
    def test_credentials_that_aws_refuses(self, tmp_path: Path, kind: str, reason: str, words: str) -> None:
        """The connection was post-quantum, and is shown so; the client did not get its answer, so nothing passes."""
        with users_network(tmp_path, kind) as environment:
            run = Run(tmp_path, "--region", REGION, *cases("boto3", "aws-cli"), **environment, **CREDENTIALS)
        assert run.code == 3
        for name in ("boto3", "aws-cli"):
            assert run.verdicts()[f"{name}@{REGION}"] == ("inconclusive", reason)
            assert words in run.case(f"{name}@{REGION}")["failure"]
            (connection,) = run.connections_of(f"{name}@{REGION}")
            assert connection["verdict"] == "post-quantum"

    def test_an_expired_sign_in(self, tmp_path: Path) -> None:
        (tmp_path / "config").write_text(
            "[profile mine]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\nregion = us-east-1\n"
            "[sso-session s]\nsso_start_url = https://example.invalid/start\nsso_region = us-east-1\n"
        )
        with users_network(tmp_path) as environment:
            run = Run(tmp_path, "--region", REGION, *cases("boto3", "aws-cli"), **environment, AWS_PROFILE="mine")
        assert run.code == 3
        assert set(run.verdicts().values()) == {("inconclusive", "expired-credentials")}
        assert "aws sso login" in run.out

    def test_a_slow_endpoint(self, tmp_path: Path) -> None:
        with users_network(tmp_path, "slow") as environment:
            arguments = ["--region", REGION, *cases("requests", "boto3"), "--timeout", "3"]
            run = Run(tmp_path, *arguments, **environment, **CREDENTIALS)
        assert run.code == 3
        assert set(run.verdicts().values()) == {("inconclusive", "timeout")}

    def test_a_proxy_that_refuses(self, tmp_path: Path) -> None:
        with Router() as router, router.open_entry({}) as entry:
            proxy = f"http://user:hunter2@127.0.0.1:{entry.proxy_port}"
            run = Run(tmp_path, "--region", REGION, *cases(*BEHIND_A_PROXY), HTTPS_PROXY=proxy, **CREDENTIALS)
        assert run.code == 3
        assert set(run.verdicts().values()) == {("inconclusive", "proxy-refused")}, run.out
        assert "hunter2" not in run.out + run.json_path.read_text()

    def test_a_proxy_that_wants_a_password(self, tmp_path: Path) -> None:
        with wordy_proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as port:
            proxy = f"http://127.0.0.1:{port}"
            run = Run(tmp_path, "--region", REGION, *cases(*BEHIND_A_PROXY), HTTPS_PROXY=proxy, **CREDENTIALS)
        assert run.code == 3
        assert set(run.verdicts().values()) == {("inconclusive", "proxy-refused")}, run.out
        assert "wants a user name and a password (407)" in run.out

    def test_no_network(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "--region", REGION, **CREDENTIALS)
        assert run.code == 3
        assert {reason for _, reason in run.verdicts().values()} <= {"name-not-resolved", "no-network"}, run.out
        assert {verdict for verdict, _ in run.verdicts().values()} == {"inconclusive"}

    def test_a_classical_helper(self, tmp_path: Path) -> None:
        """A role is taken from an STS that is classical: shown as what it is, and how it would be accepted."""
        (tmp_path / "config").write_text(
            "[profile mine]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
            "[profile base]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
        )
        arguments = ["--region", REGION, *cases("boto3")]
        with users_network(tmp_path, sts_groups="x25519") as environment:
            environment |= {"AWS_PROFILE": "mine", "AWS_ENDPOINT_URL_STS": f"https://{STS_HOST}"}
            run = Run(tmp_path, *arguments, **environment)
            allowed = Run(tmp_path, *arguments, "--allow", f"{STS_HOST}=moves in May", **environment)
        assert run.code == 1, run.out
        assert f"--allow '{STS_HOST}=" in run.out
        by_host = {each["handshake"]["sni"]: each["verdict"] for each in run.connections_of(f"boto3@{REGION}")}
        assert by_host == {STS_HOST: "not-post-quantum", HOST: "post-quantum"}
        assert allowed.code == 0, allowed.out
        assert allowed.verdicts() == {f"boto3@{REGION}": ("allowed", "allowed-host")}
        assert "allowed (moves in May), not post-quantum" in allowed.out


@contextmanager
def wordy_proxy(answer: bytes) -> Iterator[int]:
    """Answer whatever comes with one text."""

    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with serve_on_loopback(say) as port:
        yield port


def without_capture(program: list[str]) -> list[str]:
    """Take away the right to capture, as an ordinary user has none."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.geteuid() != 0:
        return program
    return [setpriv, "--bounding-set=-net_raw", "--inh-caps=-net_raw", *program]


@contextmanager
def bystander(port: int) -> Iterator[None]:
    """Make classical connections in a loop, from a process that is nobody's client."""
    script = (
        "import socket, ssl, sys, time\n"
        "context = ssl.create_default_context()\n"
        "context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n"
        "while True:\n"
        "    with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as tcp:\n"
        "        with context.wrap_socket(tcp) as tls: tls.send(b'x')\n"
        "    time.sleep(0.02)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(port)], stderr=subprocess.DEVNULL) as process:
        yield
        process.kill()


ANY_SERVER = ["socket-ssl", "requests", "asyncio-streams", "urllib3", "httpx", "aiohttp"]


class TestEndpoint:
    @pytest.mark.parametrize("form", ["localhost:{}", "https://localhost:{}/nothing/there?token=hunter2"])
    def test_any_server(self, tmp_path: Path, form: str) -> None:
        with stand_in(tmp_path / "server") as (port, bundle):
            run = Run(tmp_path, "--endpoint", form.format(port), **trust(bundle))
        assert run.code == 0, run.out
        assert run.verdicts() == {
            f"{name}@localhost:{port}": ("post-quantum", "negotiated-hybrid") for name in ANY_SERVER
        }
        assert "hunter2" not in run.out + run.json_path.read_text()

    def test_two_servers_of_which_one_is_classical(self, tmp_path: Path) -> None:
        with stand_in(tmp_path / "a") as (good, good_ca), stand_in(tmp_path / "b", groups="x25519") as (bad, bad_ca):
            both = tmp_path / "both.pem"
            both.write_text(good_ca.read_text() + bad_ca.read_text())
            endpoints = ["--endpoint", f"localhost:{good}", "--endpoint", f"localhost:{bad}"]
            run = Run(tmp_path, *endpoints, *cases("requests", "socket-ssl"), **trust(both))
        assert run.code == 1
        assert run.verdicts()[f"requests@localhost:{good}"][0] == "post-quantum"
        assert run.verdicts()[f"requests@localhost:{bad}"] == ("not-post-quantum", "server-chose-classical")

    def test_an_authority_that_is_not_known(self, tmp_path: Path) -> None:
        with stand_in(tmp_path / "server") as (port, _):
            run = Run(tmp_path, "--endpoint", f"localhost:{port}")
        assert run.code == 3
        assert {verdict for verdict, _ in run.verdicts().values()} == {"inconclusive"}
        assert "does not accept the server's certificate" in run.out

    def test_nothing_listens(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        run = Run(tmp_path, "--endpoint", f"127.0.0.1:{port}")
        assert run.code == 3
        assert set(run.verdicts().values()) == {("inconclusive", "connection-refused")}, run.out

    def test_a_server_that_is_not_http(self, tmp_path: Path) -> None:
        """TLS is proven all the same by the clients that need no HTTP."""
        script = (
            "import socket, ssl, sys\n"
            "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
            "context.load_cert_chain(sys.argv[1], sys.argv[2])\n"
            "listener = socket.create_server(('127.0.0.1', 0))\n"
            "print(listener.getsockname()[1], flush=True)\n"
            "while True:\n"
            "    try:\n"
            "        with context.wrap_socket(listener.accept()[0], server_side=True) as tls:\n"
            "            tls.sendall(b'* OK IMAP4rev1 ready\\r\\n')\n"
            "            tls.recv(4096)\n"
            "    except OSError: pass\n"
        )
        (tmp_path / "server").mkdir()
        ca = LabCA(tmp_path / "server" / "ca")
        certificate = ca.issue(*LAB_NAMES, folder=tmp_path / "server")
        environment = choose_way("auto", inspect_interpreter(sys.executable)).apply(bare_environment())
        arguments = [sys.executable, "-c", script, str(certificate.chain), str(certificate.key)]
        with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            names = cases("socket-ssl", "asyncio-streams", "requests")
            run = Run(tmp_path, "--endpoint", f"localhost:{port}", *names, **trust(ca.bundle))
            server.kill()
        verdicts = {name.partition("@")[0]: verdict for name, verdict in run.verdicts().items()}
        assert verdicts["socket-ssl"][0] == verdicts["asyncio-streams"][0] == "post-quantum"
        assert verdicts["requests"] == ("inconclusive", "not-http"), run.out
        assert run.code == 3

    def test_a_script_of_ones_own(self, tmp_path: Path) -> None:
        script = tmp_path / "mine.py"
        script.write_text(
            "import os, urllib.request\n"
            "print(urllib.request.urlopen('https://' + os.environ['PQTLS_HOST'] + '/ping').status)\n"
        )
        with stand_in(tmp_path / "server") as (port, bundle):
            run = Run(tmp_path, "--endpoint", f"localhost:{port}", "--case", str(script), **trust(bundle))
            system = Run(
                tmp_path,
                "--endpoint",
                f"localhost:{port}",
                "--case",
                str(script),
                "--openssl",
                "system",
                **trust(bundle),
            )
        assert run.code == 0, run.out
        assert list(run.verdicts()) == [f"mine@localhost:{port}"]
        way = choose_way("system", inspect_interpreter(sys.executable))
        if not way.openssl_version.startswith("OpenSSL 3.0"):
            return  # this Python's own OpenSSL may have ML-KEM
        assert (system.code, set(system.verdicts().values())) == (1, {("not-post-quantum", "not-offered")})

    def test_a_program_that_is_not_python(self, tmp_path: Path) -> None:
        """Proven by its packets where they may be captured; elsewhere not visible here, and never a proof.

        The server is as slow as a distant one. Of a program that has come and gone within milliseconds on
        loopback it may not be seen, on a busy machine, whose its packets were; that is then said, and proves nothing.
        """
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("curl is not installed")
        script = tmp_path / "mine.sh"
        script.write_text('exec curl -sS --cacert "$SSL_CERT_FILE" "https://$PQTLS_HOST/ping"\n')
        with stand_in(tmp_path / "server", "far") as (port, bundle):
            arguments = ["--endpoint", f"localhost:{port}", "--case", str(script)]
            run = Run(tmp_path, *arguments, **trust(bundle))
            system = Run(tmp_path, *arguments, "--openssl", "system", **trust(bundle))
            blind = Run(tmp_path, *arguments, wrap=without_capture, **trust(bundle))
        assert run.verdicts() == {f"mine@localhost:{port}": ("post-quantum", "negotiated-hybrid")}, run.out
        assert run.connections_of(f"mine@localhost:{port}")[0]["sources"] == ["capture"]
        if choose_way("auto", inspect_interpreter(sys.executable)).kind == "graft":
            assert set(system.verdicts().values()) == {("not-post-quantum", "not-offered")}
        assert blind.verdicts() == {f"mine@localhost:{port}": ("inconclusive", "no-connection-seen")}, blind.out
        assert "no capture: Capturing packets needs the capability CAP_NET_RAW" in blind.out
        assert "not visible here" in blind.out

    def test_a_script_that_never_reaches_the_server_proves_nothing(self, tmp_path: Path) -> None:
        """Its one connection is post-quantum, to another server than the one under test."""
        script = tmp_path / "mine.py"
        with stand_in(tmp_path / "server") as (port, bundle):
            script.write_text(f"import requests\nrequests.get('https://localhost:{port}/ping', timeout=10)\n")
            arguments = ["--endpoint", "elsewhere.invalid", "--case", str(script)]
            run = Run(tmp_path, *arguments, **trust(bundle))
        assert run.code == 3, run.out
        assert run.verdicts() == {"mine@elsewhere.invalid:443": ("inconclusive", "target-not-contacted")}

    def test_python_is_proven_without_a_capture(self, tmp_path: Path) -> None:
        with stand_in(tmp_path / "server") as (port, bundle):
            arguments = ["--endpoint", f"localhost:{port}", *cases("requests", "asyncio-streams")]
            run = Run(tmp_path, *arguments, wrap=without_capture, **trust(bundle))
            pcap = Run(tmp_path, *arguments, "--pcap", "x.pcap", wrap=without_capture, **trust(bundle))
        assert run.code == 0, run.out
        assert {tuple(each["sources"]) for each in run.connections_of(f"requests@localhost:{port}")} == {("recorder",)}
        assert pcap.code == 2
        assert "needs CAP_NET_RAW" in pcap.out

    def test_the_packets_of_the_clients_alone(self, tmp_path: Path) -> None:
        """Another program connects to the same server all the while; nothing of it is taken for the clients'."""
        with stand_in(tmp_path / "server") as (port, bundle), bystander(port):
            arguments = ["--endpoint", f"localhost:{port}", *cases("requests", "socket-ssl"), "--pcap", "x.pcap"]
            run = Run(tmp_path, *arguments, **trust(bundle))
        assert run.code == 0, run.out
        for name in ("requests", "socket-ssl"):
            (connection,) = run.connections_of(f"{name}@localhost:{port}")
            assert connection["sources"] == ["recorder", "capture"]
        mine = {each["id"] for each in run.lines if each["schema"] == "pqtls/observation/1"}
        captured = {each.id for each in read_capture(tmp_path / "x.pcap")}
        assert len(captured) == 2
        assert captured <= mine

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--endpoint", "http://example.com"], "does not begin with https://"),
            (["--endpoint", "https://me:hunter2@example.com"], "no user name or password"),
            (["--endpoint", "example.com:99999"], "is no host, host:port or URL"),
            (["--endpoint", "exa mple.com"], "is no host, host:port or URL"),
            (["--endpoint", "example.com/path"], "has a path, but is no URL"),
            (["--endpoint", ""], "is no host, host:port or URL"),
            (["--region", "mars"], "is no name of an AWS region"),
            (["--region", "us-east-1.evil.example/x-1"], "is no name of an AWS region"),
            (["--region", REGION, "--server-groups", "x25519"], "--server-groups is for the lab's servers"),
            (["--region", REGION, "--server-tls", "1.2"], "--server-tls is for the lab's servers"),
            (["--region", REGION, "--network", "router"], "--network is for the lab"),
            (["--region", REGION, "--local"], "exclude each other"),
        ],
    )
    def test_wrong_usage(self, tmp_path: Path, arguments: list[str], sentence: str) -> None:
        run = Run(tmp_path, *arguments)
        assert run.code == 2
        assert sentence in run.out
        assert "hunter2" not in run.out


@pytest.mark.parametrize(("groups", "code"), [("", 0), ("x25519", 1)], ids=["hybrid", "classical"])
def test_all_eight_where_names_resolve(tmp_path: Path, groups: str, code: int) -> None:
    """A network on which AWS's names lead to stand-ins at port 443, without any proxy: as on an EC2 instance."""
    if obstacle():
        pytest.skip(f"no namespaces here: {obstacle()}")
    python = inspect_interpreter(sys.executable)
    way = choose_way("auto", python)
    ca = LabCA(tmp_path / "ca")
    environment = {**way.apply(bare_environment()), **hold_to_groups(groups, tmp_path / "groups", way, python)}
    with NamespacedLab() as lab:
        network = NamespaceNetwork(lab, ca.bundle)
        with network.make_servers(ca, sys.executable, environment) as servers:
            hosts = dict.fromkeys(AWS_HOSTS, servers.address("good")[0])
            run = Run(
                tmp_path,
                *("--region", REGION, "--region", "us-west-1"),
                wrap=lambda program: lab.wrap(program, hosts=hosts),
                **trust(ca.bundle),
                **CREDENTIALS,
            )
    verdict = ("post-quantum", "negotiated-hybrid") if code == 0 else ("not-post-quantum", "server-chose-classical")
    assert set(run.verdicts().values()) == {verdict}, run.out
    assert len(run.verdicts()) == 16
    assert run.code == code
    assert os.path.exists(run.json_path)  # noqa: PTH110
