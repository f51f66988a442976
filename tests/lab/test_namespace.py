"""The lab's own network, with real programs in it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pqtls.errors import BugError, CannotProveError
from pqtls.lab.ca import LabCA
from pqtls.lab.names import AWS_HOSTS
from pqtls.lab.namespace import NamespacedLab, find_namespace_obstacle
from pqtls.lab.server import LabServers
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from tests.lab.conftest import child_environment
from tests.lab.namespace_tools import (
    CLIENT,
    internet_checksum,
    python,
    read_tcp_packets,
    require_namespaces,
    run,
    tls_server,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.namespace_tools import Packet

HOST = AWS_HOSTS[0]
RESOLVE = "import json, socket, sys; print(json.dumps(sorted({i[4][0] for i in socket.getaddrinfo(sys.argv[1], 443)})))"
CONNECT = """
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[NamespacedLab]:
    require_namespaces()
    with NamespacedLab() as running_lab:
        yield running_lab


@pytest.fixture(scope="module")
def hosts(lab: NamespacedLab) -> dict[str, str]:
    return dict.fromkeys(AWS_HOSTS, lab.server_address)


class TestSetUp:
    def test_where_unshare_works_so_does_the_lab(self) -> None:
        """Everything else here skips where there is an obstacle: it must not be one of our own making."""
        unshare = shutil.which("unshare")
        if not unshare:
            pytest.skip("unshare (util-linux) is not installed")
        result = subprocess.run([unshare, "-Urnm", "true"], capture_output=True, check=False)
        if result.returncode:
            pytest.skip(f"unshare does not work here: {result.stderr.decode()}")
        assert find_namespace_obstacle() == ""

    def test_outside_nothing_changes(self, lab: NamespacedLab, hosts: dict[str, str]) -> None:
        def outside() -> tuple[object, ...]:
            interfaces = [name for _, name in socket.if_nameindex()]
            return interfaces, Path("/proc/self/mountinfo").read_text(), Path("/etc/hosts").read_bytes(), os.getuid()

        before = outside()
        with NamespacedLab():
            assert run(lab, python(RESOLVE, HOST), hosts=hosts).returncode == 0
            assert outside() == before

    def test_it_is_used_in_its_context_only(self) -> None:
        lab = NamespacedLab()
        with pytest.raises(BugError, match="outside of their context"):
            lab.wrap(["true"])


class TestNames:
    def test_an_unmodified_program_gets_the_lab(self, lab: NamespacedLab, hosts: dict[str, str]) -> None:
        result = run(lab, python(RESOLVE, HOST), hosts=hosts)
        assert json.loads(result.stdout) == [lab.server_address]

    def test_localhost_is_itself(self, lab: NamespacedLab, hosts: dict[str, str]) -> None:
        assert set(json.loads(run(lab, python(RESOLVE, "localhost"), hosts=hosts).stdout)) <= {"127.0.0.1", "::1"}

    @pytest.mark.parametrize("name", ["example.com", "sts.amazonaws.com", "other.invalid"])
    def test_no_other_name_is_known(self, lab: NamespacedLab, hosts: dict[str, str], name: str) -> None:
        began = time.monotonic()
        result = run(lab, python(RESOLVE, name), hosts=hosts)
        assert "gaierror" in result.stderr
        assert time.monotonic() - began < 2  # nobody is asked

    def test_clients_at_the_same_time_have_their_own(self, lab: NamespacedLab) -> None:
        def resolve(address: str) -> list[str]:
            answer: list[str] = json.loads(run(lab, python(RESOLVE, HOST), hosts={HOST: address}).stdout)
            return answer

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(resolve, lab.server_addresses)) == [[each] for each in lab.server_addresses]

    def test_users_are_still_known(self, lab: NamespacedLab) -> None:
        script = "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)"
        assert run(lab, python(script)).stdout.strip() == pwd.getpwuid(os.getuid()).pw_name

    def test_the_files_are_readable_whatever_the_mask(self, lab: NamespacedLab) -> None:
        command = lab.wrap(["sh", "-c", "umask; stat -c %a /etc/hosts /etc/nsswitch.conf"])
        result = subprocess.run(command, capture_output=True, text=True, umask=0o077, check=True)
        assert result.stdout.split() == ["0077", "644", "644"]


class TestNetwork:
    @pytest.mark.parametrize("side", ["client", "server"])
    @pytest.mark.parametrize("address", ["1.1.1.1", "10.0.0.1", "169.254.169.254"])
    def test_there_is_no_way_out(self, lab: NamespacedLab, side: str, address: str) -> None:
        command = python(CONNECT, address, "443")
        assert run(lab, command, "server" if side == "server" else "client").stdout == "ENETUNREACH\n"

    def test_loopback_is_not_the_one_outside(self, lab: NamespacedLab) -> None:
        with socket.create_server(("127.0.0.1", 0)) as outside:
            result = run(lab, python(CONNECT, "127.0.0.1", str(outside.getsockname()[1])))
        assert result.stdout == "ECONNREFUSED\n"

    def test_tls_at_port_443(self, lab: NamespacedLab, hosts: dict[str, str], tmp_path: Path) -> None:
        with tls_server(lab, tmp_path, lab.server_address, "hello") as bundle:
            result = run(lab, python(CLIENT, HOST, str(bundle), "0"), hosts=hosts)
            assert (result.stdout, result.stderr) == (f"hello {lab.server_address}\n", "")
            refused = run(lab, python(CLIENT, "localhost", str(bundle), "0"), hosts=hosts)
            assert "ConnectionRefusedError" in refused.stderr  # the control: it is not on the client's side

    def test_servers_share_a_port_on_their_own_addresses(self, lab: NamespacedLab, tmp_path: Path) -> None:
        one, two = lab.server_addresses[:2]
        (tmp_path / "two").mkdir()
        with tls_server(lab, tmp_path, one, "one") as first, tls_server(lab, tmp_path / "two", two, "two") as second:
            assert run(lab, python(CLIENT, HOST, str(first), "0"), hosts={HOST: one}).stdout == f"one {one}\n"
            assert run(lab, python(CLIENT, HOST, str(second), "0"), hosts={HOST: two}).stdout == f"two {two}\n"

    def test_two_labs_at_once(self, lab: NamespacedLab, hosts: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        with (
            NamespacedLab() as other,
            tls_server(lab, tmp_path, lab.server_address, "lab") as bundle,
            tls_server(other, tmp_path / "other", other.server_address, "other") as other_bundle,
        ):
            assert run(lab, python(CLIENT, HOST, str(bundle), "0"), hosts=hosts).stdout.startswith("lab ")
            assert run(other, python(CLIENT, HOST, str(other_bundle), "0"), hosts=hosts).stdout.startswith("other ")

    def test_the_servers_of_the_lab_run_there(self, lab: NamespacedLab, tmp_path: Path) -> None:
        wrapped = tmp_path / "python"
        words = " ".join("'" + each.replace("'", "'\\''") + "'" for each in lab.wrap([sys.executable], side="server"))
        wrapped.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
        wrapped.chmod(0o700)
        ca = LabCA(tmp_path / "ca")
        environment = {**child_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
        with LabServers(ca, wrapped, environment) as servers:
            host, port = servers.address("good")
            assert run(lab, python(CONNECT, host, str(port)), "server").stdout == ""
            assert run(lab, python(CONNECT, host, str(port)), "client").stdout == "ECONNREFUSED\n"
            assert servers.stats()["good"].accepted == 1


class TestCapture:
    @pytest.mark.parametrize("padding", [0, 900, 1400, 4000])
    def test_what_is_captured_is_what_a_cable_carries(
        self, lab: NamespacedLab, hosts: dict[str, str], tmp_path: Path, padding: int
    ) -> None:
        with (
            lab.open_capture_socket() as capture,
            tls_server(lab, tmp_path, lab.server_address, "x" * 90) as bundle,
        ):
            assert run(lab, python(CLIENT, HOST, str(bundle), str(padding)), hosts=hosts).returncode == 0
            packets = read_tcp_packets(capture)
        assert all(each.ip_sum == 0 and each.tcp_sum == 0 and each.length <= 1500 for each in packets)
        assert {each.source for each in packets} == {lab.client_address, lab.server_address}
        hello, segments = _client_hello(lab, packets)
        assert padding < len(hello) < padding + 600
        full, rest = divmod(len(hello), 1448)
        assert segments == [1448] * full + ([rest] if rest else [])
        assert (len(segments) > 1) == (padding >= 1400)

    def test_a_hybrid_hello_leaves_in_two_segments(
        self, lab: NamespacedLab, hosts: dict[str, str], tmp_path: Path
    ) -> None:
        try:
            way = choose_way("auto", inspect_interpreter(sys.executable))
        except CannotProveError as error:
            pytest.skip(f"no OpenSSL with ML-KEM here: {error}")
        with (
            lab.open_capture_socket() as capture,
            tls_server(lab, tmp_path, lab.server_address, "hello") as bundle,
        ):
            command = lab.wrap(python(CLIENT, HOST, str(bundle), "0"), hosts=hosts)
            result = subprocess.run(command, env=way.apply(dict(os.environ)), capture_output=True, check=True)
            packets = read_tcp_packets(capture)
        assert result.stdout.startswith(b"hello ")
        hello, segments = _client_hello(lab, packets)
        assert (0x11EC).to_bytes(2, "big") + (1216).to_bytes(2, "big") in hello  # its key share
        assert len(segments) == 2
        assert all(each.ip_sum == 0 and each.tcp_sum == 0 for each in packets)

    def test_a_wrong_checksum_would_be_seen(self) -> None:
        data = bytes(range(1, 21))
        right = data[:10] + internet_checksum(data[:10] + bytes(2) + data[12:]).to_bytes(2, "big") + data[12:]
        assert internet_checksum(right) == 0
        assert internet_checksum(right[:-1] + b"\0") != 0

    def test_it_tells_of_what_was_lost(self, lab: NamespacedLab, hosts: dict[str, str], tmp_path: Path) -> None:
        with lab.open_capture_socket() as capture, tls_server(lab, tmp_path, lab.server_address, "x") as bundle:
            assert run(lab, python(CLIENT, HOST, str(bundle), "0"), hosts=hosts).returncode == 0
            statistics = capture.getsockopt(263, 6, 8)
        seen, lost = (int.from_bytes(statistics[at : at + 4], sys.byteorder) for at in (0, 4))
        assert seen > 10
        assert lost == 0

    def test_each_socket_sees_all(self, lab: NamespacedLab, hosts: dict[str, str], tmp_path: Path) -> None:
        with (
            lab.open_capture_socket() as one,
            lab.open_capture_socket() as two,
            tls_server(lab, tmp_path, lab.server_address, "x") as bundle,
        ):
            assert not one.get_inheritable()
            assert run(lab, python(CLIENT, HOST, str(bundle), "0"), hosts=hosts).returncode == 0
            assert read_tcp_packets(one) == read_tcp_packets(two) != []


def _client_hello(lab: NamespacedLab, packets: list[Packet]) -> tuple[bytes, list[int]]:
    """Return the client's first record, and the lengths of the segments in which it came."""
    sent = [each for each in packets if each.source == lab.client_address and each.payload]
    assert sent[0].payload[0] == 22
    length = 5 + int.from_bytes(sent[0].payload[3:5], "big")
    data, segments = b"", []
    for each in sent:
        if len(data) < length:
            assert each.sequence == (sent[0].sequence + len(data)) % (1 << 32)
            data += each.payload
            segments.append(len(each.payload))
    assert len(data) == length
    return data, segments


class TestPrograms:
    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    def test_the_exit_code_is_the_programs(self, lab: NamespacedLab, code: int) -> None:
        assert run(lab, ["sh", "-c", f"exit {code}"]).returncode == code

    def test_a_program_that_is_not_there(self, lab: NamespacedLab, tmp_path: Path) -> None:
        result = run(lab, ["/no/such/program"])
        assert (result.returncode, result.stderr) == (
            127,
            "pqtls: /no/such/program cannot be started: No such file or directory.\n",
        )
        (tmp_path / "text").write_text("text", encoding="ascii")
        assert run(lab, [str(tmp_path / "text")]).returncode == 126

    def test_the_process_is_the_one_that_was_started(self, lab: NamespacedLab) -> None:
        command = lab.wrap(["sh", "-c", "echo $$; ps -o pgid= -p $$ 2>/dev/null || echo $$"])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            assert {int(line) for line in process.stdout} == {process.pid}

    def test_signals_reach_the_group(self, lab: NamespacedLab) -> None:
        command = lab.wrap(["sh", "-c", "sleep 60 & echo $!; wait"])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            child = process.stdout.readline().strip()
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM
        assert wait_until(lambda: not Path(f"/proc/{child}").exists())

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ])
    def test_signals_do_what_they_do_by_default(self, lab: NamespacedLab, number: int) -> None:
        assert run(lab, ["sh", "-c", f"kill -{number:d} $$; exit 0"]).returncode == -number

    def test_the_environment_is_as_given(self, lab: NamespacedLab, tmp_path: Path) -> None:
        given = {"PATH": os.environ["PATH"], "A": "1=2", "PYTHONPATH": "/nowhere", "EMPTY": ""}
        result = subprocess.run(lab.wrap(["env"]), env=given, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert dict(line.split("=", 1) for line in result.stdout.splitlines()) == given

    def test_the_folder_and_descriptors_too(self, lab: NamespacedLab, tmp_path: Path) -> None:
        read, write = os.pipe()
        with os.fdopen(read) as reader:
            script = f"import os; os.write({write}, b'through'); print(os.getcwd(), *os.listdir('/proc/self/fd'))"
            command = lab.wrap(python(script))
            result = subprocess.run(command, cwd=tmp_path, pass_fds=[write], capture_output=True, text=True, check=True)
            os.close(write)
            assert reader.read() == "through"
        folder, *descriptors = result.stdout.split()
        assert folder == str(tmp_path)
        assert len(descriptors) == 5  # 0, 1, 2, the pipe, and the listing itself
        assert str(write) in descriptors

    def test_the_user_is_who_it_was(self, lab: NamespacedLab, tmp_path: Path) -> None:
        result = run(lab, ["sh", "-c", f"id -u; id -g; touch {tmp_path}/made; grep CapEff: /proc/self/status"])
        user, group, _, capabilities = result.stdout.split()
        assert (int(user), int(group)) == (os.getuid(), os.getgid())
        assert (tmp_path / "made").owner() == pwd.getpwuid(os.getuid()).pw_name
        assert int(capabilities, 16) == 0 or os.getuid() == 0

    def test_a_crowd(self, lab: NamespacedLab, hosts: dict[str, str], tmp_path: Path) -> None:
        with tls_server(lab, tmp_path, lab.server_address, "hello") as bundle, ThreadPoolExecutor(8) as pool:
            command = python(CLIENT, HOST, str(bundle), "0")
            results = list(pool.map(lambda _: run(lab, command, hosts=hosts), range(24)))
        assert {each.stdout for each in results} == {f"hello {lab.server_address}\n"}
