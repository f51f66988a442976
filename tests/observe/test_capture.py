"""The capture against real kernels, real TLS and the recorder, in network namespaces that the tests make."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from pqtls.errors import CannotProveError, UsageError
from pqtls.observe.capture import LiveCapture, read_capture
from pqtls.observe.kept_packets import KeptPackets, write_packets
from pqtls.observe.observation import find_disagreements
from pqtls.observe.packet_socket import build_filter
from pqtls.observe.recorder import RecorderFolder
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from pqtls.wire import link
from pqtls.wire.facts import Side
from pqtls.wire.packet_builder import build_packet
from pqtls.wire.packet_tracker import PacketTracker
from pqtls.wire.packets import ACK, FIN, PSH, RST, SYN, TcpSegment, parse_packet
from pqtls.wire.pcap import CapturedPacket, CaptureReader, build_pcap_header, build_pcap_packet
from tests.observe.network import Namespace, connect
from tests.wire.flows import CLIENT, CLIENT6, SERVER, SERVER6, Ends, segments_of
from tests.wire.vectors import EXPECTED, Vector, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pqtls.observe.observation import Observation

CHILD = Path(__file__).with_name("capture_child.py")
ROOT = Path(__file__).parent.parent.parent
NOBODY = 65534


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    ca = trustme.CA()
    leaf = ca.issue_cert("server.example")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(str(folder / "chain.pem"), append=True)
    return folder


@pytest.fixture(scope="module")
def hybrid_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what makes this interpreter negotiate ML-KEM."""
    try:
        way = choose_way("auto", inspect_interpreter(sys.executable, {}), (), tmp_path_factory.mktemp("ways"), {})
    except CannotProveError as error:
        pytest.skip(f"no OpenSSL 3.5 here: {error}")
    return way.apply({})


@pytest.fixture
def lone() -> Iterator[Namespace]:
    with Namespace() as namespace:
        yield namespace


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with Namespace() as west, Namespace() as east:
        connect(west, east)
        yield west, east


def start(mode: str, address: str, folder: Path, count: int, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), mode, address, str(folder), str(count)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    if mode == "serve":
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return process


def run_pair(
    west: Namespace, east: Namespace, interface: str, address: str, pki: Path, environment: dict[str, str]
) -> tuple[LiveCapture, list[Observation]]:
    """Capture three connections at the client's end; return the capture, and what the recorder saw of each end."""
    with RecorderFolder() as recorder:
        recorded = recorder.environment(environment)
        with east.run(lambda: start("serve", address, pki, 3, recorded)) as server:

            def watch() -> LiveCapture:
                with LiveCapture(interface) as capture, start("connect", address, pki, 3, recorded) as client:
                    assert client.wait(60) == 0
                    assert server.wait(60) == 0
                return capture

            capture = west.run(watch)
        return capture, list(recorder.read().observations)


def assert_agreement(capture: LiveCapture, recorded: list[Observation], reason: str) -> None:
    report = capture.report
    assert report.blind_spots == ()
    assert len(report.observations) == 3
    assert len(recorded) == 6  # both ends of each
    for seen in report.observations:
        assert seen.sources == ("capture",)
        assert seen.finding.reason == reason
        assert seen.handshake.sni == "server.example"
        assert seen.handshake.alpn == ("http/1.1",)
        ends = [each for each in recorded if each.id == seen.id]
        assert {each.role for each in ends} == {"client", "server"}
        for each in ends:
            assert find_disagreements(each, seen) == []
            assert each.finding == seen.finding
            assert (each.client, each.server) == (seen.client, seen.server)
            assert abs((each.started_ns or 0) - (seen.started_ns or 0)) < 1_000_000_000


@pytest.mark.parametrize("tls", ["system", "hybrid"])
def test_recorder_and_capture_agree_on_loopback(
    lone: Namespace, pki: Path, tls: str, request: pytest.FixtureRequest
) -> None:
    environment = request.getfixturevalue("hybrid_environment") if tls == "hybrid" else {}
    capture, recorded = run_pair(lone, lone, "lo", "127.0.0.1", pki, environment)
    reason = capture.report.observations[0].finding.reason if tls == "system" else "negotiated-hybrid"
    assert_agreement(capture, recorded, reason)
    assert [each.handshake.client_hellos[0].segments for each in capture.report.observations] == [1, 1, 1]


@pytest.mark.parametrize("tls", ["system", "hybrid"])
def test_recorder_and_capture_agree_between_two_hosts(
    pair: tuple[Namespace, Namespace], pki: Path, tls: str, request: pytest.FixtureRequest
) -> None:
    environment = request.getfixturevalue("hybrid_environment") if tls == "hybrid" else {}
    capture, recorded = run_pair(*pair, "west", "10.9.0.2", pki, environment)
    reason = capture.report.observations[0].finding.reason if tls == "system" else "negotiated-hybrid"
    assert_agreement(capture, recorded, reason)
    if reason == "negotiated-hybrid":
        assert [each.handshake.client_hellos[0].segments for each in capture.report.observations] == [2, 2, 2]


# Vectors, played between real kernels


def play(connection: socket.socket, vector: Vector, own: Side) -> None:
    """Say one side's part of a recorded handshake."""
    with connection:
        connection.settimeout(20)
        for side, flight in vector.flights:
            left = len(flight)
            if side is own:
                connection.sendall(flight)
            while side is not own and left:
                data = connection.recv(left)
                assert data
                left -= len(data)


def play_all(names: list[str], listener: socket.socket, address: tuple[str, int]) -> None:
    for name in names:
        client = socket.create_connection(address, timeout=20)
        server, _ = listener.accept()
        thread = threading.Thread(target=play, args=(server, load(name), Side.SERVER))
        thread.start()
        play(client, load(name), Side.CLIENT)
        thread.join(20)


def capture_vectors(west: Namespace, east: Namespace, interface: str, address: str, names: list[str]) -> LiveCapture:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = east.run(lambda: socket.create_server((address, 443), family=family))

    def watch() -> LiveCapture:
        with LiveCapture(interface) as capture:
            play_all(names, listener, (address, 443))
        return capture

    with listener:
        return west.run(watch)


def assert_vectors(observations: list[Observation], names: list[str]) -> None:
    found = {each.handshake.client_random: each for each in observations}
    assert len(observations) == len(names)
    for name in names:
        seen = found[load(name).track().client_random]
        assert (seen.finding.verdict, seen.finding.reason) == EXPECTED[name][:2]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_every_vector_through_loopback(lone: Namespace, tmp_path: Path, address: str) -> None:
    names = sorted(EXPECTED)
    capture = capture_vectors(lone, lone, "lo", address, names)
    assert capture.report.blind_spots == ()
    assert_vectors(list(capture.observations), names)
    # Checksums are left to a card that is none; in the file they are complete.
    written = capture.write_pcap(tmp_path / "lo.pcap")
    packets = {packet.data for packet in CaptureReader().feed((tmp_path / "lo.pcap").read_bytes())}
    assert len(packets) == written > 0  # each passes loopback twice, and is seen once
    assert all(state == "valid" for state in checksum_states(tmp_path / "lo.pcap"))


def test_every_vector_between_two_hosts(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    names = sorted(EXPECTED)
    capture = capture_vectors(*pair, "west", "10.9.0.2", names)
    assert capture.report.blind_spots == ()
    assert_vectors(list(capture.observations), names)
    for each in capture.observations:
        for hello in each.handshake.client_hellos:
            assert hello.segments == (2 if hello.size_bytes > 1443 else 1)
    file = tmp_path / "veth.pcap"
    written = capture.write_pcap(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert written == len(checksum_states(file))
    assert all(state == "valid" for state in checksum_states(file))
    again = read_capture(file)
    assert list(again) == list(capture.observations)
    assert again.blind_spots == ()
    assert_tshark_agrees(file, list(capture.observations))


def checksum_states(file: Path) -> list[str]:
    states: list[str] = []
    for packet in CaptureReader().feed(file.read_bytes()):
        segment = parse_packet(packet.data, packet.link_type)
        assert isinstance(segment, TcpSegment)
        states.append(segment.checksum_state)
    return states


def assert_tshark_agrees(file: Path, observations: list[Observation]) -> None:
    """Compare randoms, key shares and checksums with a program that shares nothing with this one."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("no tshark here")
    options = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "json", "-J", "ip tcp tls"]
    done = subprocess.run([tshark, "-r", str(file), *options], capture_output=True, text=True, check=True)
    packets = json.loads(done.stdout, object_pairs_hook=lambda pairs: pairs)
    flat = [list(_leaves(packet)) for packet in packets]
    assert {value for leaves in flat for name, value in leaves if name == "tcp.checksum.status"} == {"1"}
    assert {value for leaves in flat for name, value in leaves if name == "ip.checksum.status"} == {"1"}
    groups = [int(v) for leaves in flat for n, v in leaves if n == "tls.handshake.extensions_key_share_group"]
    expected = []
    for each in observations:
        expected += [share.group for hello in each.handshake.client_hellos for share in hello.key_shares]
        retry, server = each.handshake.hello_retry, each.handshake.server_hello
        if server is not None and server.group is not None:
            expected.append(server.group)
        if retry is not None and retry.group is not None:
            expected.append(-retry.group)
    # tshark names a retry's group by another field or the same, by version.
    assert sorted(groups) in (sorted(map(abs, expected)), sorted(each for each in expected if each > 0))
    assert 4588 in groups


def _leaves(value: object) -> Iterator[tuple[str, str]]:
    for each in value if isinstance(value, list) else ():
        if isinstance(each, tuple) and isinstance(each[1], str):
            yield each[0], each[1]
        else:
            yield from _leaves(list(each) if isinstance(each, tuple) else each)


# What goes wrong


def test_without_the_capability_it_says_so() -> None:
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("no setpriv here")
    script = "from pqtls.observe.capture import LiveCapture\nLiveCapture('lo').__enter__()"
    command = [program, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "setpriv:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert "CannotProveError" in done.stderr
    assert "CAP_NET_RAW" in done.stderr


UNPRIVILEGED = """
import fcntl, socket, struct, threading
from pqtls.observe.capture import LiveCapture
from pqtls.wire.facts import Side
from tests.wire.vectors import load

def play(connection, vector, own):
    for side, flight in vector.flights:
        if side is own:
            connection.sendall(flight)
        else:
            connection.recv(len(flight), socket.MSG_WAITALL)
    connection.close()

with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", 1))
with socket.create_server(("127.0.0.1", 443)) as listener, LiveCapture("lo") as capture:
    for name in ("hybrid", "classical-chosen"):
        client = socket.create_connection(("127.0.0.1", 443))
        thread = threading.Thread(target=play, args=(listener.accept()[0], load(name), Side.SERVER))
        thread.start()
        play(client, load(name), Side.CLIENT)
        thread.join()
print(*(each.finding.reason for each in capture.observations), *capture.report.blind_spots)
"""


def test_as_an_unprivileged_user_in_namespaces_of_its_own() -> None:
    """Another user's interpreter may be out of reach (pyenv in a home folder): then the system's is taken."""
    setpriv, unshare = shutil.which("setpriv"), shutil.which("unshare")
    if setpriv is None or unshare is None:
        pytest.skip("no setpriv or unshare here")
    become = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", unshare, "-Urn"]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    why = ""
    for python in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run(
            [*become, python, "-c", UNPRIVILEGED],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        why = next((line for line in done.stderr.splitlines() if line.startswith(("setpriv:", "unshare:"))), "")
        if not why:
            assert done.stdout.split() == ["negotiated-hybrid", "server-chose-classical"], done.stderr
            return
    pytest.skip(why)


def test_an_interface_that_is_not_there(lone: Namespace) -> None:
    with pytest.raises(UsageError, match="nowhere0"):
        lone.run(LiveCapture("nowhere0").__enter__)


def test_an_interface_that_goes_away(pair: tuple[Namespace, Namespace]) -> None:
    west, _ = pair
    ip = shutil.which("ip") or "ip"

    def watch() -> LiveCapture:
        with LiveCapture("west") as capture:
            subprocess.run([ip, "link", "del", "west"], check=True)
        return capture

    assert "west" in west.run(watch).report.failure


def test_an_exception_in_the_block_ends_the_capture(lone: Namespace) -> None:
    def watch() -> None:
        with LiveCapture("lo"):
            raise KeyError("the program's own")

    before = threading.active_count()
    with pytest.raises(KeyError):
        lone.run(watch)
    assert threading.active_count() == before


def test_drops_are_counted_and_never_a_proof(lone: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for a few packets only, the kernel drops: what is lost is told, and proves nothing."""
    monkeypatch.setattr("pqtls.observe.packet_socket.RECEIVE_BUFFER_BYTES", 1)
    held = threading.Lock()
    real = PacketTracker.receive

    def slow(*words: object) -> object:
        with held:
            return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(PacketTracker, "receive", slow)
    listener = lone.run(lambda: socket.create_server(("127.0.0.1", 443)))

    def watch() -> LiveCapture:
        with LiveCapture("lo") as capture, held:
            play_all(["hybrid"] * 10, listener, ("127.0.0.1", 443))
        return capture

    with listener:
        report = lone.run(watch).report
    assert report.kernel_drops > 0
    assert "kernel dropped" in report.blind_spots[0]
    assert len([each for each in report.observations if each.finding.verdict == "post-quantum"]) < 10


# The filter, run by the kernel itself


@pytest.mark.parametrize("link_type", [link.ETHERNET, link.RAW])
def test_the_filter_lets_all_tcp_through_and_nothing_else(link_type: int) -> None:
    program = build_filter(link_type, skip_outgoing=False)
    tcp4 = build_packet(TcpSegment(CLIENT, SERVER, 1, 2, ACK), link_type)
    tcp6 = build_packet(TcpSegment(CLIENT6, SERVER6, 1, 2, ACK), link_type)
    hopped = build_packet(TcpSegment(CLIENT6, SERVER6, 1, 2, ACK), link_type, extensions=((0, bytes(8)),))
    start = 14 if link_type == link.ETHERNET else 0
    udp4 = tcp4[: start + 9] + b"\x11" + tcp4[start + 10 :]
    udp6 = tcp6[: start + 6] + b"\x11" + tcp6[start + 7 :]
    passed = [tcp4, tcp6, hopped]
    if link_type == link.ETHERNET:
        passed.append(build_packet(TcpSegment(CLIENT, SERVER, 1, 2, ACK), link_type, vlans=(7,)))
        arp = bytes(12) + b"\x08\x06" + bytes(46)
        assert run_filter(program, arp) == b""
    assert [run_filter(program, packet) for packet in passed] == passed
    assert run_filter(program, udp4) == run_filter(program, udp6) == b""


@pytest.mark.parametrize("link_type", [link.ETHERNET, link.RAW])
def test_the_filter_for_openings_lets_first_packets_through(link_type: int) -> None:
    program = build_filter(link_type, skip_outgoing=False, only_openings=True)
    for ends in ((CLIENT, SERVER), (CLIENT6, SERVER6)):
        for flags in (SYN, SYN | PSH, ACK, SYN | ACK, FIN | ACK, RST):
            packet = build_packet(TcpSegment(*ends, 1, 2, flags, b"x"), link_type)
            assert run_filter(program, packet) == (packet if flags & (SYN | ACK) == SYN else b"")


def run_filter(program: bytes, packet: bytes) -> bytes:
    """Let the kernel run the program over a datagram of a UNIX socket, whose content it sees from byte 0."""
    import ctypes

    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        memory = ctypes.create_string_buffer(program, len(program))
        other.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(program) // 8, ctypes.addressof(memory)))
        other.setblocking(False)
        one.send(packet)
        try:
            return other.recv(70_000)
        except BlockingIOError:
            return b""


# What is kept


def keep(segments: list[TcpSegment], max_bytes: int = 1 << 20) -> tuple[KeptPackets, list[CapturedPacket]]:
    tracker, kept = PacketTracker(), KeptPackets(max_bytes)
    packets = []
    for number, segment in enumerate(segments):
        data = build_packet(segment)
        packet = CapturedPacket(number, data, len(data), link.ETHERNET)
        kept.take(packet, tracker.receive(number, data, link.ETHERNET))
        packets.append(packet)
    return kept, packets


def test_only_handshakes_and_ends_are_kept() -> None:
    segments = segments_of(load("hybrid"))
    finished = max(number for number, each in enumerate(segments) if each.src == CLIENT and each.payload)
    assert finished < len(segments) - 4  # the server's tickets follow, then FIN, FIN, ACK
    kept, packets = keep(segments)
    assert kept.packets() == packets[: finished + 1] + packets[-3:-1]


def test_no_packet_of_another_protocol_is_kept() -> None:
    opening = segments_of(load("hybrid"), ends=Ends(SERVER, CLIENT))[:3]
    request = TcpSegment(SERVER, CLIENT, 1001, 5001, ACK, b"GET /?password=secret HTTP/1.1\r\n\r\n")
    kept, _ = keep([*opening, request, request])
    assert kept.packets() == []


def test_what_does_not_fit_is_counted() -> None:
    kept, packets = keep(segments_of(load("hybrid")), 2500)
    assert 0 < len(kept.packets()) < len(packets)
    assert kept.not_kept > 0


# Files


def file_of(tmp_path: Path, names: list[str], end: int | None = None) -> Path:
    data = build_pcap_header()
    for number, name in enumerate(names):
        for segment in segments_of(load(name), 1448, Ends(client_isn=number, server_isn=number)):
            packet = build_packet(segment)
            data += build_pcap_packet(CapturedPacket(10**18, packet, len(packet), link.ETHERNET))
    path = tmp_path / "file.pcap"
    path.write_bytes(data[:end])
    return path


def test_a_file_gives_the_verdicts_of_its_handshakes(tmp_path: Path) -> None:
    names = sorted(EXPECTED)
    capture = read_capture(file_of(tmp_path, names))
    found = list(capture)
    assert [(each.finding.verdict, each.finding.reason) for each in found] == [EXPECTED[name][:2] for name in names]
    assert {each.started_ns for each in found} == {10**18}
    assert {each.server for each in found} == {"10.0.0.2:443"}
    assert capture.blind_spots == ()


def test_a_file_cut_anywhere_proves_nothing_that_it_does_not_hold(tmp_path: Path) -> None:
    size = file_of(tmp_path, ["hybrid"]).stat().st_size
    verdicts = set()
    for end in range(24, size, 7):
        capture = read_capture(file_of(tmp_path, ["hybrid"], end))
        verdicts |= {(each.finding.verdict, each.finding.reason) for each in capture}
    assert verdicts == {
        ("inconclusive", "no-server-hello"),
        ("inconclusive", "truncated"),
        ("post-quantum", "negotiated-hybrid"),
    }
    assert capture.ended_early


def test_files_that_are_none(tmp_path: Path) -> None:
    for content in (b"", b"\xd4\xc3", b"not a capture file at all"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(UsageError, match="no pcap"):
            list(read_capture(tmp_path / "x"))
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_capture(tmp_path / "missing"))
    with pytest.raises(UsageError, match="cannot be written"):
        write_packets([], tmp_path / "missing" / "x", link.ETHERNET)


def test_damage_in_the_middle_keeps_what_came_before(tmp_path: Path) -> None:
    path = file_of(tmp_path, ["hybrid"])
    path.write_bytes(path.read_bytes() + b"\xff" * 16)
    capture = read_capture(path)
    assert [each.finding.verdict for each in capture] == ["post-quantum"]
    assert "damaged" in capture.blind_spots[0]


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(build_pcap_header(147) + build_pcap_packet(CapturedPacket(0, b"abc", 3, 147)))
    capture = read_capture(path)
    assert list(capture) == []
    assert "link type" in capture.blind_spots[0]
