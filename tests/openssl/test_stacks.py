"""Every TLS stack in an environment is judged by what it does; whatever a package does, the doctor ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from pqtls.openssl.carried_library import read_carried_library
from pqtls.openssl.doctor import examine
from pqtls.openssl.graft import Graft
from pqtls.openssl.installed import Installed, list_installed
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.probe_child import PUBLIC_TEST_PEM
from pqtls.openssl.stack_listener import LOOPBACK, MAX_CONNECTIONS, StackListener
from pqtls.openssl.stack_server import StackServer, find_server_way
from pqtls.openssl.stacks import STACKS, StackReport, examine_stacks
from pqtls.openssl.ways import explain_ways
from pqtls.wire.groups import group_code

X25519, MLKEM = group_code("x25519"), group_code("X25519MLKEM768")
HELD_TO_X25519 = (
    "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = defaults\n[defaults]\nGroups = x25519\n"
)
# A client that cannot have ML-KEM, whatever OpenSSL runs it.
CLASSICAL_CONNECTION = (
    "        import socket, ssl\n"
    "        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n"
    "        context.maximum_version = ssl.TLSVersion.TLSv1_2\n"
    "        context.wrap_socket(socket.create_connection(('127.0.0.1', self.port)), server_hostname='x.example')\n"
)
PYCURL = """
def version_info():
    return (9, "9.9.9", 0, "", 0, "OpenSSL/9.9.9 with ML-KEM")
URL, PROXY, NOSIGNAL, TIMEOUT_MS, CAINFO, RESOLVE, WRITEFUNCTION = range(7)
class Curl:
    def setopt(self, option, value):
        if option == URL:
            self.port = int(value.split(":")[2].strip("/"))
    def perform(self):
@PERFORM@
"""


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "test.pem").write_text(PUBLIC_TEST_PEM)
    return folder / "test.pem"


@pytest.fixture(scope="module")
def here() -> Interpreter:
    return inspect_interpreter(sys.executable)


def no_server() -> Future[int | None]:
    return server_at(None)


def server_at(port: int | None) -> Future[int | None]:
    future: Future[int | None] = Future()
    future.set_result(port)
    return future


def fake(folder: Path, module: str, code: str, version: str = "9.9") -> Installed:
    """Install a distribution of one module into a folder that only this examination sees."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    return Installed((str(folder), *sys.path[1:]), {module: (version, info)})


def examine_fake(here: Interpreter, pem: Path, code: str, timeout_s: float = 10.0) -> StackReport:
    installed = fake(pem.parent / "fakes", "pycurl", code)
    (report,) = examine_stacks(here, installed, pem, no_server(), timeout_s)
    assert (report.name, report.version) == ("pycurl", "9.9")
    return report


def own(here: Interpreter, *names: str) -> Installed:
    """Return what is really installed here, but only these of the stacks."""
    installed = list_installed(here)
    missing = [name for name in names if name not in installed.found]
    if missing:
        pytest.skip(f"not installed: {missing}")
    return Installed(installed.path, {name: installed.found[name] for name in names})


class TestReal:
    """The stacks that the dev extra brings, by real handshakes."""

    def test_cryptography_shakes_hands_with_itself(self, here: Interpreter, pem: Path) -> None:
        (report,) = examine_stacks(here, own(here, "cryptography"), pem, no_server())
        assert report.library.startswith("OpenSSL ")
        assert (report.ml_kem, report.group) == ("negotiates", "X25519MLKEM768"), report

    def test_libpq_offers_and_with_a_server_negotiates(self, here: Interpreter, pem: Path, graft: Graft) -> None:
        installed = own(here, "psycopg-binary")
        (alone,) = examine_stacks(here, installed, pem, no_server())
        assert (alone.ml_kem, alone.group) == ("offers", "")
        assert alone.explanation == "offers X25519MLKEM768; no handshake with it was finished"
        (pem.parent / "psycopg").rmdir()
        with StackServer(find_server_way(here, explain_ways(here), ()), pem) as server:
            assert server.port is not None
            (report,) = examine_stacks(here, installed, pem, server_at(server.port))
        assert (report.ml_kem, report.group) == ("negotiates", "X25519MLKEM768"), report
        assert report.library == graft.source.version

    def test_a_classical_server_does_not_make_it_negotiate(self, here: Interpreter, pem: Path) -> None:
        """The control: what is told is what happened on this connection, not what the library could do."""
        script = (
            "import socket, ssl, sys\n"
            "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[1])\n"
            "context.maximum_version = ssl.TLSVersion.TLSv1_2\n"
            "listener = socket.create_server(('127.0.0.1', 0)); print(listener.getsockname()[1], flush=True)\n"
            "context.wrap_socket(listener.accept()[0], server_side=True)\n"
        )
        server = subprocess.Popen([sys.executable, "-c", script, str(pem)], stdout=subprocess.PIPE)
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            (report,) = examine_stacks(here, own(here, "psycopg-binary"), pem, server_at(port))
        finally:
            server.kill()
            server.communicate()
        assert (report.ml_kem, report.group) == ("offers", ""), report

    def test_held_to_x25519_is_no(
        self, here: Interpreter, pem: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "held.cnf").write_text(HELD_TO_X25519)
        monkeypatch.setenv("OPENSSL_CONF", str(tmp_path / "held.cnf"))
        reports = examine_stacks(here, own(here, "cryptography", "psycopg-binary"), pem, no_server())
        assert [(report.name, report.ml_kem, report.offered) for report in reports] == [
            ("cryptography", "no", (X25519,)),
            ("psycopg", "no", (X25519,)),
        ]
        assert reports[0].explanation == "no: offers x25519"

    def test_held_to_x25519_with_a_server_that_is_not(
        self, graft: Graft, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """OPENSSL_CONF holds the clients, not the doctor's own server; the answer is theirs all the same."""
        assert graft.source.is_usable
        (tmp_path / "held.cnf").write_text(HELD_TO_X25519)
        monkeypatch.setenv("OPENSSL_CONF", str(tmp_path / "held.cnf"))
        found = examine(sys.executable)
        assert not found.is_able
        stacks = {stack.name: stack for stack in found.stacks}
        assert stacks["psycopg"].ml_kem == "no"
        assert stacks["cryptography"].ml_kem == "no"
        assert found.surroundings.configuration.settings == ("Groups = x25519",)

    def test_nothing_of_the_users_leads_it_elsewhere(
        self, here: Interpreter, pem: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with socket.create_server((LOOPBACK, 0)) as elsewhere:
            elsewhere.settimeout(0.2)
            port = elsewhere.getsockname()[1]
            monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
            monkeypatch.setenv("PGSSLMODE", "disable")
            for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy"):
                monkeypatch.setenv(name, f"http://{LOOPBACK}:{port}")
            monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
            reports = examine_stacks(here, own(here, "cryptography", "psycopg-binary"), pem, no_server())
            assert [report.ml_kem for report in reports] == ["negotiates", "offers"]
            with pytest.raises(TimeoutError):
                elsewhere.accept()
        assert not (tmp_path / "keys").exists()


class TestFakes:
    """A package may hang, crash, lie or write rubbish: it is said of that one, and the others are told."""

    def test_one_that_hangs(self, here: Interpreter, pem: Path, tmp_path: Path) -> None:
        began = time.monotonic()
        code = f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        report = examine_fake(here, pem, code + "time.sleep(600)\n", timeout_s=1.0)
        assert report.ml_kem == "unknown"
        assert report.explanation == "unknown: it did not answer within 1 seconds"
        assert time.monotonic() - began < 8
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)

    def test_one_that_crashes(self, here: Interpreter, pem: Path) -> None:
        report = examine_fake(here, pem, "import ctypes\nctypes.string_at(0)\n")
        assert report.explanation == "unknown: it was killed by SIGSEGV"

    def test_one_that_lies_about_its_version(self, here: Interpreter, pem: Path) -> None:
        report = examine_fake(here, pem, PYCURL.replace("@PERFORM@", CLASSICAL_CONNECTION))
        assert report.library == "OpenSSL/9.9.9 with ML-KEM in libcurl 9.9.9"
        assert report.ml_kem == "no"
        assert MLKEM not in report.offered

    @pytest.mark.parametrize(
        "answer",
        [
            '{"flights": [["client", "16"]], "finished": ["client", "server"], "hello": "zz"}',
            '{"flights": 7, "mapped": "no list", "library": ["x"], "finished": null}',
            '{"mapped": ["/dev/zero", "/nowhere", "a\\u0000b", 7]}',
            "[]",
            "{",
        ],
    )
    def test_one_that_writes_an_answer_of_its_own(self, here: Interpreter, pem: Path, answer: str) -> None:
        code = f"import os, sys\nsys.stdout.write('pqtls-answer:' + {answer!r} + chr(10))\nsys.stdout.flush()\n"
        report = examine_fake(here, pem, code + "os._exit(0)\n")
        assert report.ml_kem == "unknown"

    def test_an_answer_of_its_own_is_no_proof(self, here: Interpreter, pem: Path) -> None:
        """Bytes that a package hands over count only for the stacks that have no connection to be seen."""
        believed = {stack.name for stack in STACKS if stack.in_memory}
        assert believed == {"pyOpenSSL", "cryptography", "aioquic"}

    def test_one_that_does_not_connect(self, here: Interpreter, pem: Path) -> None:
        report = examine_fake(here, pem, PYCURL.replace("@PERFORM@", "        print('noise', flush=True)"))
        assert report.explanation == "unknown: it sent no ClientHello"

    def test_one_that_fails_to_import(self, here: Interpreter, pem: Path) -> None:
        report = examine_fake(here, pem, "raise ImportError('lib\\x1b[31mx.so.9 is missing' + 'x' * 999)\n")
        assert report.explanation.startswith(
            "unknown: it sent no ClientHello (ImportError: lib\N{REPLACEMENT CHARACTER}"
        )
        assert len(report.explanation) <= 160

    @pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x16"])
    def test_one_that_sends_rubbish(self, here: Interpreter, pem: Path, data: bytes) -> None:
        code = (
            "        import socket\n        client = socket.create_connection(('127.0.0.1', self.port))\n"
            f"        client.sendall({data!r})\n        client.close()\n"
        )
        assert examine_fake(here, pem, PYCURL.replace("@PERFORM@", code)).ml_kem == "unknown"

    def test_one_that_crashes_after_its_hello(self, here: Interpreter, pem: Path) -> None:
        """What was seen stays seen."""
        code = CLASSICAL_CONNECTION.replace("        context.wrap", "        try: context.wrap") + (
            "        except Exception: pass\n        import ctypes; ctypes.string_at(0)\n"
        )
        assert examine_fake(here, pem, PYCURL.replace("@PERFORM@", code)).ml_kem == "no"

    def test_the_others_are_told(self, here: Interpreter, pem: Path) -> None:
        installed = fake(pem.parent / "fakes", "pycurl", "import ctypes\nctypes.string_at(0)\n")
        installed.found.update(own(here, "cryptography").found)
        reports = examine_stacks(here, installed, pem, no_server())
        assert [(report.name, report.ml_kem) for report in reports] == [
            ("cryptography", "negotiates"),
            ("pycurl", "unknown"),
        ]


class TestListener:
    def test_it_ends_at_once_with_connections_open(self) -> None:
        listener = StackListener("tls", no_server())
        clients = [socket.create_connection((LOOPBACK, listener.port)) for _ in range(3)]
        for client in clients:
            client.close()
        began = time.monotonic()
        assert listener.close() == []
        assert time.monotonic() - began < 2

    def test_it_takes_no_more_connections_than_it_can_hold(self) -> None:
        listener = StackListener("tls", no_server())
        clients = [socket.create_connection((LOOPBACK, listener.port)) for _ in range(MAX_CONNECTIONS + 5)]
        for client in clients:
            client.close()
        assert listener.close() == []

    def test_it_is_on_loopback_alone(self) -> None:
        listener = StackListener("mysql", no_server())
        with socket.create_connection((LOOPBACK, listener.port)) as client:
            assert client.getsockname()[0] == LOOPBACK
            assert client.recv(5)[4] == 10
        listener.close()

    def test_the_server_ends_with_the_process_that_started_it(self, pem: Path) -> None:
        script = (
            "import os, sys\nfrom pathlib import Path\n"
            "from pqtls.openssl.interpreter import inspect_interpreter\n"
            "from pqtls.openssl.stack_server import StackServer\n"
            "from pqtls.openssl.ways import choose_way\n"
            "way = choose_way('system', inspect_interpreter(sys.executable))\n"
            "server = StackServer(way, Path(sys.argv[1]))\n"
            "print(server._process.pid, flush=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(pem)], capture_output=True, text=True, check=False)
        pid = int(done.stdout)
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
            assert time.monotonic() < deadline, "it still runs"
            time.sleep(0.02)


class TestInstalled:
    def test_pythonpath_and_old_metadata(
        self, here: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "Py_Curl.X-7.45.2.egg-info").mkdir()
        (tmp_path / "psycopg2-2.9.5-py3.11.egg-info").write_text("")
        (tmp_path / "no-version.egg-info").mkdir()
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:relative:")
        installed = list_installed(here)
        assert installed.path[0] == str(tmp_path)
        assert "relative" not in installed.path
        assert "" not in installed.path
        assert installed.found["py-curl-x"][0] == "7.45.2"
        assert installed.found["psycopg2"] == ("2.9.5", tmp_path / "psycopg2-2.9.5-py3.11.egg-info")
        assert "no" not in installed.found

    def test_the_pythonpaths_stacks_are_examined(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake(tmp_path / "fakes", "pycurl", PYCURL.replace("@PERFORM@", CLASSICAL_CONNECTION))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fakes"))
        stacks = {stack.name: stack for stack in examine(sys.executable).stacks}
        assert stacks["pycurl"].ml_kem == "no"


class TestCarried:
    """What a file says of itself, for those that cannot be asked."""

    @pytest.mark.parametrize(
        ("data", "library"),
        [
            (b"\0OpenSSL 1.1.1k  25 Mar 2021\0", "OpenSSL 1.1.1k 25 Mar 2021"),
            (b"..OpenSSL 1.1.1 (compatible; BoringSSL)..", "BoringSSL"),
            (b"AWS-LC 1.60 BoringSSL s2n_connection_new", "s2n-tls, AWS-LC"),
            (b"nothing of the kind", ""),
        ],
    )
    def test_constants(self, tmp_path: Path, data: bytes, library: str) -> None:
        info = tmp_path / "x-1.dist-info"
        info.mkdir()
        (tmp_path / "libx.so.1.1.1k").write_bytes(data)
        (info / "RECORD").write_text("libx.so.1.1.1k,sha256=x,1\ngone.so,,\nx.py,,\n")
        assert read_carried_library(info) == library

    def test_the_systems(self, here: Interpreter, tmp_path: Path) -> None:
        if here.ssl_module is None or here.linkage != "dynamic":
            pytest.skip("ssl is built in")
        info = tmp_path / "x-1.dist-info"
        info.mkdir()
        (tmp_path / "x.so").write_bytes(here.ssl_module.read_bytes())
        (info / "RECORD").write_text("x.so,,\n")
        assert read_carried_library(info) == "the system's libssl.so.3"

    def test_a_libcrypto_of_its_own_is_not_linked_into_it(self, tmp_path: Path) -> None:
        info = tmp_path / "x-1.dist-info"
        info.mkdir()
        (tmp_path / "libcrypto.so.3").write_bytes(b"OpenSSL 3.5.8 25 Aug 2026")
        (info / "RECORD").write_text("libcrypto.so.3,,\n")
        assert read_carried_library(info) == "OpenSSL 3.5.8 25 Aug 2026"
        assert read_carried_library(info, only_static=True) == ""

    def test_no_record(self, tmp_path: Path) -> None:
        assert read_carried_library(tmp_path) == ""
