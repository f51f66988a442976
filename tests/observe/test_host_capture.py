"""A capture among other programs: every connection of the client, and never one of anybody else's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from pqtls.lab.router import Router
from pqtls.observe.capture import read_capture
from pqtls.observe.host_capture import HostCapture
from pqtls.observe.recorder import RecorderFolder
from pqtls.observe.sock_diag import SockDiag
from pqtls.observe.socket_owner import Claim, ClientSocket, match_client_sockets
from pqtls.wire.packets import Endpoint
from tests.observe.network import Namespace, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pqtls.observe.host_capture import HostWatch
    from pqtls.observe.host_report import HostCaptureReport

CHILD = Path(__file__).with_name("host_child.py")
ROOT = Path(__file__).parent.parent.parent
NOBODY = 65534
MARKER = "PQTLS_RECORD=/nowhere/of-this-test"
MINE, THEIRS = "client.example", "bystander.example"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    ca = trustme.CA()
    leaf = ca.issue_cert(MINE, THEIRS)
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(str(folder / "chain.pem"), append=True)
    return folder


@pytest.fixture(scope="module")
def lone(pki: Path) -> Iterator[Namespace]:
    """Yield a namespace with a TLS server at port 443 of every address in it."""
    with Namespace() as namespace, serving(namespace, pki):
        yield namespace


@contextmanager
def serving(namespace: Namespace, pki: Path) -> Iterator[None]:
    server = namespace.run(lambda: start("serve", pki))
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    yield
    server.communicate(timeout=20)


def start(
    *words: object, marker: str = "", hold_s: float = 0.02, more: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    environment = {**dict([marker.split("=")] if marker else []), "HOLD_S": str(hold_s), **(more or {})}
    command = [sys.executable, str(CHILD), *map(str, words)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def bystander(namespace: Namespace, pki: Path, address: str) -> Iterator[None]:
    """Make connections to the same server in a tight loop, by a process that was there before the client."""
    process = namespace.run(lambda: start("connect", THEIRS, address, pki, 0, hold_s=0))
    time.sleep(0.2)  # it is no orphan of the client's: it is older
    yield
    made, _ = process.communicate(timeout=20)
    assert int(made) > 10


def watch(
    namespace: Namespace,
    *words: object,
    marker: str = MARKER,
    follows: bool = False,
    more: dict[str, str] | None = None,
) -> HostWatch:
    """Run a client under a watch of every interface of the namespace."""

    def run() -> HostWatch:
        with HostCapture() as capture, capture.watch(None if follows else MARKER) as watched:
            client = start(*words, marker=marker, more=more)
            if follows:
                watched.follow(client.pid)
            client.communicate(timeout=60)
            assert client.returncode == 0
        return watched

    return namespace.run(run)


def count(report: HostCaptureReport, name: str) -> tuple[int, int]:
    """Return how many connections to a name are the client's, and of how many that is not known."""
    return tuple(
        sum(each.handshake.sni == name for each in kind) for kind in (report.observations, report.unattributed)
    )  # type: ignore[return-value]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_the_clients_connections_among_a_bystanders(lone: Namespace, pki: Path, address: str, tmp_path: Path) -> None:
    with bystander(lone, pki, address):
        watched = watch(lone, "connect", MINE, address, pki, 40, more={"HOLD_S": "0"})
    report = watched.report
    mine, unknown = count(report, MINE)
    assert count(report, THEIRS)[0] == 0
    assert mine + unknown == 40
    assert mine >= 10  # nearly all, but on a machine that lets nobody come first; what is missing is told
    assert report.others > 0
    assert bool(report.unattributed) == any("whose" in spot for spot in report.blind_spots)
    assert all(each.finding.verdict != "inconclusive" for each in report.observations)
    assert {each.handshake.client_hellos[0].segments for each in report.observations} == {None}
    watched.write_pcap(tmp_path / "mine.pcap")
    assert [each.handshake.sni for each in read_capture(tmp_path / "mine.pcap")] == [MINE] * mine


def test_a_process_that_is_named_instead_of_marked(lone: Namespace, pki: Path) -> None:
    report = watch(lone, "connect", MINE, "127.0.0.1", pki, 5, marker="", follows=True).report
    assert count(report, MINE) == (5, 0)
    assert report.blind_spots == ()


def test_an_orphan_in_a_session_of_its_own(lone: Namespace, pki: Path) -> None:
    report = watch(lone, "session", MINE, "::1", pki, 5).report
    assert count(report, MINE) == (5, 0)


def test_an_orphan_without_its_environment_is_never_another(lone: Namespace, pki: Path) -> None:
    report = watch(lone, "without-environment", MINE, "::1", pki, 5).report
    assert sum(count(report, MINE)) == 5
    assert report.others == 0


def test_a_process_without_the_marker_is_not_the_client(lone: Namespace, pki: Path) -> None:
    """Started after the watch began, it might be a child of the client's that got away: nothing is claimed."""
    report = watch(lone, "connect", MINE, "127.0.0.1", pki, 5, marker="PQTLS_RECORD=/nowhere/of-this-test-2").report
    assert count(report, MINE) == (0, 5)
    assert "whose 5 TLS connections to 127.0.0.1:443 were" in report.blind_spots[0]


def test_what_the_recorder_saw_is_the_clients(lone: Namespace, pki: Path, tmp_path: Path) -> None:
    with RecorderFolder() as recorder:
        recorded = recorder.environment({})
        watched = watch(lone, "connect", MINE, "127.0.0.1", pki, 5, marker="", more=recorded)
        ids = [each.id for each in recorder.read().observations]
    assert (count(watched.report, MINE), watched.write_pcap(tmp_path / "x")) == ((0, 5), 0)
    watched.claim(["", "0123456789abcdef"])
    assert count(watched.report, MINE) == (0, 5)
    watched.claim(ids)
    assert count(watched.report, MINE) == (5, 0)
    assert watched.report.blind_spots == ()
    assert watched.write_pcap(tmp_path / "x") > 0


def test_through_a_proxy_of_somebody_elses(lone: Namespace, pki: Path, tmp_path: Path) -> None:
    """The proxy's own connections carry the same handshakes; the client's are the ones to the proxy."""

    def run() -> tuple[HostWatch, int]:
        with Router() as router, router.open_entry({MINE: ("127.0.0.1", 443)}) as entry, HostCapture() as capture:
            with capture.watch(MARKER) as watched:
                client = start("tunnel", entry.proxy_port, MINE, pki, 5, marker=MARKER)
                client.communicate(timeout=60)
                assert client.returncode == 0
            return watched, entry.proxy_port

    watched, port = lone.run(run)
    report = watched.report
    assert [each.server for each in report.observations] == [f"127.0.0.1:{port}"] * 5
    assert {each.handshake.complete for each in report.observations} == {True}
    assert (report.others, report.blind_spots) == (5, ())
    watched.write_pcap(tmp_path / "x.pcap")
    assert b"Proxy-Authorization" not in (tmp_path / "x.pcap").read_bytes()
    assert len(list(read_capture(tmp_path / "x.pcap"))) == 5


def test_what_is_no_tls_and_a_proxy_over_tls_are_told(lone: Namespace) -> None:
    report = watch(lone, "plain", "127.0.0.1", more={"https_proxy": "https://user:secret@proxy.example"}).report
    assert (report.observations, report.plain_servers) == ((), ("127.0.0.1:443",))
    assert "https:// proxy" in report.blind_spots[0]
    assert "secret" not in str(report)


def test_between_two_hosts(pki: Path) -> None:
    """On the client's host they are its own; on the server's host nobody's there; unwatched, they are told."""
    with Namespace() as west, Namespace() as east:
        connect(west, east)
        with serving(east, pki):
            report = watch(west, "connect", MINE, "10.9.0.2", pki, 3).report
            assert (count(report, MINE), report.blind_spots) == ((3, 0), ())

            def serve_side() -> HostCaptureReport:
                with HostCapture() as capture, capture.watch(MARKER) as watched:
                    client = west.run(lambda: start("connect", MINE, "10.9.0.2", pki, 3, marker=MARKER))
                    client.communicate(timeout=60)
                return watched.report

            report = east.run(serve_side)
            assert (report.observations, report.unattributed, report.others) == ((), (), 3)
            assert "another network namespace" in report.blind_spots[0]

            def on_loopback_only() -> HostCaptureReport:
                with HostCapture(["lo"]) as capture, capture.watch(MARKER) as watched:
                    start("connect", MINE, "10.9.0.2", pki, 3, marker=MARKER).communicate(timeout=60)
                return watched.report

            report = west.run(on_loopback_only)
            assert (report.observations, report.unattributed) == ((), ())
            assert "10.9.0.2:443; none was captured" in report.blind_spots[0]


def test_one_connection_on_two_interfaces_is_one(pki: Path, tmp_path: Path) -> None:
    """A bridge and the card in it see the same packets."""
    program = shutil.which("ip") or "ip"

    def ip(*words: str) -> None:
        subprocess.run([program, *words], check=True)

    def build_bridge() -> None:
        done = subprocess.run([program, "link", "add", "br0", "type", "bridge"], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("no bridges here")
        ip("addr", "del", "10.9.0.1/24", "dev", "west")
        ip("link", "set", "west", "master", "br0")
        ip("addr", "add", "10.9.0.1/24", "dev", "br0")
        ip("link", "set", "br0", "up")

    with Namespace() as west, Namespace() as east:
        connect(west, east)
        west.run(build_bridge)
        with serving(east, pki):
            watched = watch(west, "connect", MINE, "10.9.0.2", pki, 3)
    assert count(watched.report, MINE) == (3, 0)
    assert watched.report.blind_spots == ()
    watched.write_pcap(tmp_path / "x.pcap")
    assert len(list(read_capture(tmp_path / "x.pcap"))) == 3


def test_killed_it_leaves_no_process() -> None:
    script = """
import time
from pqtls.observe.host_capture import HostCapture
with HostCapture(["lo"]) as capture, capture.watch() as watched:
    print(watched._finder._process.pid, flush=True)
    time.sleep(60)
"""
    with Namespace() as namespace:
        command = [sys.executable, "-c", script]
        process = namespace.run(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert process.stdout is not None
        helper = Path("/proc") / process.stdout.readline().strip()
        assert helper.exists()
        process.kill()
        process.communicate(timeout=20)
        deadline = time.monotonic() + 10
        while helper.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not helper.exists()


def test_one_client_at_a_time(lone: Namespace) -> None:
    def run() -> None:
        with HostCapture(["lo"]) as capture:
            with capture.watch(), pytest.raises(RuntimeError, match="one client"), capture.watch():
                pass
            with capture.watch() as again, pytest.raises(RuntimeError, match="after"):
                _ = again.report
            assert again.report.blind_spots == ()

    lone.run(run)


def test_without_the_capability_it_says_so() -> None:
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("no setpriv here")
    script = "from pqtls.observe.host_capture import HostCapture\nHostCapture(['lo']).__enter__()"
    for python in (sys.executable, "/usr/bin/python3"):
        command = [program, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python, "-c", script]
        environment = {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
        if "setpriv:" not in done.stderr:
            break
    else:
        pytest.skip(done.stderr.strip())
    assert "CannotProveError" in done.stderr
    assert "CAP_NET_RAW" in done.stderr


def test_what_this_host_only_passes_on_is_another_hosts(pki: Path) -> None:
    """A container's connections leave by this host's card, and no process here holds their sockets."""
    program = shutil.which("ip") or "ip"

    def ip(*words: str) -> None:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"ip {' '.join(words)}: {done.stderr.strip()}")

    with Namespace() as inner, Namespace() as west, Namespace() as east:
        connect(west, east)
        west.run(lambda: ip("link", "add", "box", "type", "veth", "peer", "box0", "netns", str(inner.thread_id)))
        for namespace, name, address in ((west, "box", "10.8.0.1/24"), (inner, "box0", "10.8.0.2/24")):
            namespace.run(lambda name=name, address=address: ip("addr", "add", address, "dev", name))  # type: ignore[misc]
            namespace.run(lambda name=name: ip("link", "set", name, "up"))  # type: ignore[misc]
        inner.run(lambda: ip("route", "add", "default", "via", "10.8.0.1"))
        east.run(lambda: ip("route", "add", "default", "via", "10.9.0.1"))
        west.run(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))

        def run() -> HostCaptureReport:
            with HostCapture() as capture, capture.watch(MARKER) as watched:
                other = inner.run(lambda: start("connect", THEIRS, "10.9.0.2", pki, 10))
                client = start("connect", MINE, "10.9.0.2", pki, 10, marker=MARKER)
                for each in (other, client):
                    each.communicate(timeout=60)
                    assert each.returncode == 0
            return watched.report

        with serving(east, pki):
            report = west.run(run)
    assert count(report, MINE)[0] >= 9
    assert count(report, THEIRS)[0] == 0
    assert count(report, THEIRS)[1] <= 1
    assert report.others >= 9


# What is given to whom, without any process


HERE, THERE = Endpoint(b"\x7f\0\0\1", 50_000), Endpoint(b"\x7f\0\0\1", 443)


def test_an_answer_that_may_be_the_next_connections_is_taken_back() -> None:
    for answered_ns, owner in ((150, "client"), (200, "unknown"), (250, "unknown")):
        claim = Claim(HERE, THERE, 100, 1, 7)
        claim.settle("client", answered_ns)
        claim.settle("another", answered_ns)  # the first answer stands
        claim.close(200)
        assert claim.owner == owner
        late = Claim(HERE, THERE, 100, 1, 7)
        late.close(200)
        late.settle("client", answered_ns)
        assert late.owner == owner


def test_sockets_of_the_client_and_captured_connections() -> None:
    first, second = Claim(HERE, THERE, 100, 1, 7), Claim(HERE, THERE, 200, 1, 8)
    first.close(200)
    assert match_client_sockets([first, second], [ClientSocket(HERE, THERE, 220, 230, True)]) == []
    assert (first.owner, second.owner) == ("unknown", "client")
    # Seen by both, perhaps: it cannot be told which of them it was.
    first, second = Claim(HERE, THERE, 100, 1, 7), Claim(HERE, THERE, 200, 1, 8)
    first.close(200)
    match_client_sockets([first, second], [ClientSocket(HERE, THERE, 150, 230, True)])
    assert (first.owner, second.owner) == ("unknown", "unknown")
    # A connection that the client took is not one that it opened.
    taken = Claim(HERE, THERE, 100, 1, 7)
    assert match_client_sockets([taken], [ClientSocket(THERE, HERE, 150, 160, True)]) == []
    assert taken.owner == "unknown"
    # No packet of these was captured: one had none, being on its way only.
    missing = ClientSocket(HERE, Endpoint(b"\1\2\3\4", 443), 150, 160, True)
    waiting = ClientSocket(HERE, Endpoint(b"\1\2\3\5", 443), 150, 160, False)
    assert match_client_sockets([], [missing, waiting]) == [missing]


def test_the_kernel_finds_sockets_by_their_ends() -> None:
    diag = SockDiag()
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        for family, address, raw in (
            (socket.AF_INET, "127.0.0.1", b"\x7f\0\0\1"),
            (socket.AF_INET6, "::ffff:127.0.0.1", b"\x7f\0\0\1"),
            (socket.AF_INET6, "::1", bytes(15) + b"\1"),
        ):
            with socket.socket(family) as own:
                own.connect((address, port))
                local, remote = Endpoint(raw, own.getsockname()[1]), Endpoint(raw, port)
                inode = os.fstat(own.fileno()).st_ino
                found = diag.find(local, remote, 1)
                assert found is not None
                assert (found.inode, found.local, found.remote) == (inode, local, remote)
                assert inode in [each.inode for each in diag.list_all()]
                # The listener's port alone is no connection.
                assert diag.find(remote, Endpoint(raw, 1)) is None
            assert (diag.find(local, remote) or found).inode in (0, inode)
    diag.close()
