"""The recorder inside real child processes: what it sees, what it leaves alone, and when it says it is blind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pqtls.observe.recorder import RecorderFolder, Recording
from tests.tls_server import HOST, run_tls_server

if TYPE_CHECKING:
    from collections.abc import Iterator

# A client over TCP; %s is put before its end.
CLIENT = f"""
import os, socket, ssl, sys
context = ssl.create_default_context(cafile=os.environ["BUNDLE"])
def connect():
    with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=10) as tcp:
        with context.wrap_socket(tcp, server_hostname="{HOST}") as tls:
            data = tls.recv(100)
    return data
"""
ASYNC_CLIENT = f"""
import asyncio, os, ssl
async def main():
    context = ssl.create_default_context(cafile=os.environ["BUNDLE"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(os.environ["PORT"]), ssl=context, server_hostname="{HOST}")
    print((await reader.read()).decode())
    writer.close()
asyncio.run(main())
"""
PYTHONS = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with run_tls_server(tmp_path_factory.mktemp("server")) as (port, bundle):
        yield {"PATH": os.environ["PATH"], "PORT": str(port), "BUNDLE": str(bundle)}


def run(
    script: str, environment: dict[str, str], *options: str, python: str = sys.executable, code: int = 0
) -> tuple[Recording, str]:
    with RecorderFolder() as recorder:
        done = subprocess.run(
            [python, *options, "-c", script],
            env=recorder.environment(environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return recorder.read(), done.stdout + done.stderr


@pytest.mark.smoke
def test_a_plain_client_is_seen(server: dict[str, str]) -> None:
    recording, output = run(CLIENT + "print(connect().decode())", server)
    assert output.strip() == "hello"
    (process,) = recording.processes
    assert process.python == ".".join(map(str, sys.version_info[:3]))
    assert process.openssl.startswith("OpenSSL 3")
    assert process.ended_normally
    assert recording.blind_spots == ()
    (seen,) = recording.observations
    assert seen.sources == ("recorder",)
    assert seen.role == "client"
    assert seen.host == HOST
    assert seen.server == f"127.0.0.1:{server['PORT']}"
    assert seen.process is not None
    assert seen.process.pid == process.pid
    assert seen.handshake.complete
    assert seen.handshake.version == 0x0304
    assert seen.handshake.client_hellos[0].records == 1
    assert (seen.handshake.handshake_ms or 0) > 0


@pytest.mark.smoke
def test_asyncio_is_seen(server: dict[str, str]) -> None:
    recording, output = run(ASYNC_CLIENT, server)
    assert output.strip() == "hello"
    (seen,) = recording.observations
    assert seen.handshake.complete
    assert seen.client is None, "an SSLObject has no socket to ask"


def test_every_connection_is_seen_also_in_threads_and_children(server: dict[str, str]) -> None:
    script = CLIENT + (
        "import threading, subprocess\n"
        "threads = [threading.Thread(target=connect) for _ in range(8)]\n"
        "[each.start() for each in threads]; [each.join() for each in threads]\n"
        "child = os.fork()\n"
        "if child == 0:\n    connect(); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "if not os.environ.get('INNER'):\n"
        "    subprocess.run([sys.executable, '-c', os.environ['SELF']], env={**os.environ, 'INNER': '1'}, check=True)\n"
    )
    recording, _ = run(script, {**server, "SELF": script})
    assert len(recording.observations) == 18
    assert all(each.handshake.complete for each in recording.observations)
    assert len({each.id for each in recording.observations}) == 18
    assert len(recording.processes) == 4
    forked = [process for process in recording.processes if not process.ended_normally]
    assert len(forked) == 2, "a child that leaves by os._exit writes no last line, but loses no connection"


def test_a_crash_loses_nothing(server: dict[str, str]) -> None:
    recording, _ = run(CLIENT + "connect()\nimport signal\nos.kill(os.getpid(), signal.SIGKILL)", server, code=-9)
    (seen,) = recording.observations
    assert seen.handshake.complete
    assert not recording.processes[0].ended_normally


def test_a_refused_certificate_is_an_alert(server: dict[str, str]) -> None:
    script = CLIENT.replace('cafile=os.environ["BUNDLE"]', "") + "connect()"
    recording, output = run(script, server, code=1)
    assert "CERTIFICATE_VERIFY_FAILED" in output
    (seen,) = recording.observations
    assert not seen.handshake.complete
    assert seen.handshake.alert is not None


def test_a_server_process_is_seen_as_a_server(server: dict[str, str]) -> None:
    script = CLIENT + (
        "sys.path.insert(0, os.environ['ROOT'])\n"
        "from pathlib import Path\n"
        "from tests.tls_server import run_tls_server\n"
        "import tempfile\n"
        "with tempfile.TemporaryDirectory() as folder, run_tls_server(Path(folder)) as (port, bundle):\n"
        "    context = ssl.create_default_context(cafile=bundle)\n"
        "    os.environ['PORT'] = str(port)\n"
        "    connect()\n"
    )
    recording, _ = run(script, {**server, "ROOT": str(Path(__file__).parents[2])})
    assert sorted(each.role or "" for each in recording.observations) == ["client", "server"]
    one, other = recording.observations
    assert one.id == other.id
    assert one.handshake.server_hello == other.handshake.server_hello


class TestLeavesTheProgramAlone:
    def test_its_own_callback_is_called_and_ours_too(self, server: dict[str, str]) -> None:
        script = CLIENT + (
            "assert context._msg_callback is None\n"
            "calls = []\n"
            "def own(conn, direction, version, content_type, msg_type, data): calls.append(type(msg_type).__name__)\n"
            "context._msg_callback = own\n"
            "assert context._msg_callback is own\n"
            "connect()\n"
            "assert '_TLSMessageType' in calls, calls\n"
            "context._msg_callback = None\n"
            "assert context._msg_callback is None\n"
            "connect()\n"
        )
        recording, _ = run(script, server)
        assert len(recording.observations) == 2

    def test_the_path_and_its_own_sitecustomize(self, server: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.marked = True\n")
        script = (
            "import sys\n"
            "print(sys.marked, sys.modules['sitecustomize'].__file__, [p for p in sys.path if 'inject' in p])\n"
        )
        _, output = run(script, {**server, "PYTHONPATH": str(tmp_path)})
        assert output.strip() == f"True {tmp_path / 'sitecustomize.py'} []"

    def test_an_error_in_its_sitecustomize_is_told_as_before(self, server: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("raise RuntimeError('mine')\n")
        _, output = run("print('runs')", {**server, "PYTHONPATH": str(tmp_path)})
        assert "RuntimeError: mine" in output
        assert "runs" in output

    def test_classes_and_subclasses_work(self, server: dict[str, str]) -> None:
        script = CLIENT + (
            "import copy, pickle, inspect\n"
            "class Mine(ssl.SSLContext):\n"
            "    def __new__(cls, *args): return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)\n"
            "context = Mine(); context.load_verify_locations(os.environ['BUNDLE'])\n"
            "context.minimum_version = ssl.TLSVersion.TLSv1_3\n"
            "print(connect().decode(), isinstance(context, ssl.SSLContext))\n"
            "import warnings; warnings.simplefilter('ignore')\n"
            "print(ssl.SSLContext().protocol == ssl.PROTOCOL_TLS)\n"
        )
        recording, output = run(script, server)
        assert output.split() == ["hello", "True", "True"]
        assert len(recording.observations) == 1

    def test_a_program_without_tls_does_not_import_ssl(self, server: dict[str, str]) -> None:
        recording, output = run("import sys; print('ssl' in sys.modules, 'json' in sys.modules)", server)
        assert output.strip() == "False False"
        assert recording.processes[0].openssl == ""
        assert recording.blind_spots == ()

    def test_a_fifo_that_it_tries_to_start_is_not_waited_for(self, server: dict[str, str], tmp_path: Path) -> None:
        """It fails as before: to tell a shell from other programs, the recorder reads the start of the file."""
        os.mkfifo(tmp_path / "program")
        script = f"import subprocess\ntry: subprocess.run([{str(tmp_path / 'program')!r}])\n"
        _, output = run(script + "except PermissionError: print('refused')", server)
        assert output == "refused\n"

    def test_a_folder_that_vanishes_harms_nothing(self, server: dict[str, str]) -> None:
        script = "import os, shutil\nshutil.rmtree(os.environ['PQTLS_RECORD'])\n" + CLIENT + "print(connect().decode())"
        with RecorderFolder() as recorder:
            done = subprocess.run(
                [sys.executable, "-c", script],
                env=recorder.environment(server),
                capture_output=True,
                text=True,
                check=True,
            )
        assert done.stdout.strip() == "hello"
        assert done.stderr == ""

    @pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
    def test_every_python_found_runs_as_before(self, python: Path, server: dict[str, str]) -> None:
        """Down to 2.7, where it does nothing; from 3.8 on it sees."""
        script = CLIENT + "print(connect().decode()); print(sys.version_info >= (3, 8))"
        if "versions/2." in str(python) or "versions/3.6" in str(python) or "versions/3.7" in str(python):
            script = "import ssl, sys; print('hello'); print(sys.version_info >= (3, 8))"
        recording, output = run(script, server, python=str(python))
        assert output.split()[0] == "hello"
        sees = output.split()[1] == "True"
        assert len(recording.observations) == sees
        assert bool(recording.processes) == sees


class TestSaysWhatIsNotVisible:
    @pytest.mark.parametrize("option", ["-I", "-E", "-S"])
    def test_a_python_that_takes_no_sitecustomize(self, server: dict[str, str], option: str) -> None:
        recording, _ = run(CLIENT + "connect()", server, option)
        assert recording.processes == ()
        assert recording.observations == ()
        assert "no Python process" in recording.blind_spots[0]

    def test_the_private_api_is_gone(self, server: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "ssl.py").write_text("OPENSSL_VERSION = 'other'\nclass SSLContext: pass\n")
        recording, _ = run("import ssl", {**server, "PYTHONPATH": str(tmp_path)})
        assert "not visible here" in recording.blind_spots[0]
        assert "AttributeError" in recording.blind_spots[0]

    def test_a_callback_that_is_never_called(self, server: dict[str, str], tmp_path: Path) -> None:
        """The hook can be set but nothing comes of it: only the probe handshake can tell."""
        script = (
            "import sys, _ssl\n"
            "recorder = sys.modules['_pqtls_recorder']\n"
            "recorder.Recorder._see = lambda *_: None\n"
            "import ssl\n"
        )
        recording, _ = run(script, server)
        assert "did not see the ClientHello" in recording.blind_spots[0]

    def test_another_tls_stack(self, server: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "pycurl.py").write_text("")
        recording, _ = run(CLIENT + "import pycurl\nconnect()", {**server, "PYTHONPATH": str(tmp_path)})
        assert recording.blind_spots == (
            f"not visible here: python (process {recording.processes[0].pid}) loaded pycurl",
        )
        assert len(recording.observations) == 1

    def test_another_tls_stack_is_told_even_if_the_process_ends_at_once(
        self, server: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "pycurl.py").write_text("")
        script = CLIENT + "import pycurl\nconnect()\nos._exit(0)"
        recording, _ = run(script, {**server, "PYTHONPATH": str(tmp_path)})
        assert "loaded pycurl" in recording.blind_spots[0]

    def test_a_stack_that_is_loaded_but_not_used_is_none(self, server: dict[str, str], tmp_path: Path) -> None:
        """botocore loads pyOpenSSL where it is installed, and does not use it."""
        (tmp_path / "OpenSSL").mkdir()
        (tmp_path / "OpenSSL" / "__init__.py").write_text("")
        (tmp_path / "OpenSSL" / "SSL.py").write_text(
            "class Connection:\n    def __init__(self, context): self.context = context\n"
        )
        environment = {**server, "PYTHONPATH": str(tmp_path)}
        loaded, _ = run(CLIENT + "import OpenSSL.SSL\nconnect()", environment)
        assert loaded.blind_spots == ()
        used = CLIENT + "import OpenSSL.SSL\nassert OpenSSL.SSL.Connection(5).context == 5\nconnect()\nos._exit(0)"
        recording, _ = run(used, environment)
        assert "loaded pyOpenSSL" in recording.blind_spots[0]

    @pytest.mark.parametrize(
        "start",
        [
            "import subprocess; subprocess.run([sys.executable, '-I', '-c', 'pass'], check=True)",
            "import subprocess; subprocess.run(['true', 'secret'], check=True)",
            "import subprocess; subprocess.run('true secret', shell=True, check=True)",
            "import subprocess; subprocess.run([sys.executable, '-c', 'pass'], env={}, check=True)",
            "os.system('true secret')",
            "os.waitpid(os.posix_spawn('/bin/true', ['true', 'secret'], {}), 0)",
            "pid = os.fork()\nif not pid: os.execv('/bin/true', ['true', 'secret'])\nos.waitpid(pid, 0)",
        ],
    )
    def test_a_program_that_is_started_and_not_watched(self, server: dict[str, str], start: str) -> None:
        with RecorderFolder() as recorder:
            script = CLIENT + "connect()\n" + start
            subprocess.run(
                [sys.executable, "-c", script], env=recorder.environment(server), capture_output=True, check=True
            )
            recording = recorder.read()
            assert not any("secret" in path.read_text() for path in recorder.folder.glob("*"))
        assert any("not all of it was watched" in spot for spot in recording.blind_spots)
        assert len(recording.observations) == 1

    @pytest.mark.parametrize(
        "start",
        [
            "subprocess.run(f'true; exec {sys.executable} -c pass', shell=True, check=True)",
            "subprocess.run(['true']); os.spawnv(os.P_WAIT, sys.executable, [sys.executable, '-c', 'pass'])",
            "subprocess.run(['true']); os.execv(sys.executable, [sys.executable, '-c', 'pass'])",
            "os.execv(sys.executable, [sys.executable, '-c', 'import subprocess; subprocess.run([\"true\"])'])",
            "subprocess.run(['true']); import multiprocessing as m; p = m.get_context('spawn').Process(target=print)\n"
            "if __name__ == '__main__': p.start(); p.join()",
            "open('s', 'w').write(f'#!/bin/sh\\ntrue; exec {sys.executable} -c pass'); os.chmod('s', 0o700)\n"
            "subprocess.run(['./s'], check=True)",
        ],
        ids=["shell", "spawnv", "exec-after", "exec-before", "multiprocessing", "script"],
    )
    def test_one_that_is_watched_does_not_hide_one_that_is_not(
        self, server: dict[str, str], start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        recording, _ = run(CLIENT + "import subprocess\nconnect()\n" + start, server)
        (spot,) = recording.blind_spots
        assert "started" in spot
        assert len(recording.observations) == 1

    def test_what_multiprocessing_starts_is_no_blind_spot(self, server: dict[str, str]) -> None:
        script = CLIENT + "import multiprocessing as m\nconnect()\np = m.get_context('spawn').Process(target=print)\n"
        recording, _ = run(
            script + "p.start(); p.join()\nimport time; time.sleep(0.5)  # for its resource tracker", server
        )
        assert recording.blind_spots == ()
        assert len(recording.processes) >= 2

    def test_a_script_that_pip_put_before_a_python_with_a_long_path(
        self, server: dict[str, str], tmp_path: Path
    ) -> None:
        script = tmp_path / "aws"
        script.write_text(f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\nprint('yes')\n")
        script.chmod(0o700)
        recording, done = run(f"import subprocess; subprocess.run([{str(script)!r}], check=True)", server)
        assert recording.blind_spots == ()
        assert len(recording.processes) == 2
        del done

    def test_a_tls_library_that_is_called_by_ctypes(self, server: dict[str, str]) -> None:
        call = "import ctypes, _ssl\nctypes.CDLL(_ssl.__file__)\nlibrary = ctypes.CDLL('libssl.so.3')\n"
        recording, _ = run(CLIENT + call + "connect()\nlibrary.OpenSSL_version_num", server)
        assert recording.blind_spots == ()
        for name in ("SSL_connect", "SSL_new"):  # the second is what no connection can do without
            recording, _ = run(CLIENT + call + f"connect()\nlibrary.{name}", server)
            assert f"{name} of a C library" in recording.blind_spots[0]
        by_handle = "import _ctypes\n_ctypes.dlsym(library._handle, 'SSL_new')\nconnect()\n"
        recording, _ = run(CLIENT + call + by_handle, server)
        assert "SSL_new of a C library" in recording.blind_spots[0]

    def test_a_popen_that_spawns_is_one_start(self, server: dict[str, str]) -> None:
        """Without close_fds, and from 3.13 on mostly, subprocess starts programs by os.posix_spawn."""
        script = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import ssl'], close_fds=False)"
        recording, _ = run(script, server)
        starter = next(process for process in recording.processes if process.started_programs)
        assert len(starter.started_programs) == 1
        assert len(recording.processes) == 2
        assert recording.blind_spots == ()

    def test_a_watched_child_is_no_blind_spot(self, server: dict[str, str]) -> None:
        script = CLIENT + (
            "import subprocess, multiprocessing\nconnect()\n"
            "subprocess.run([sys.executable, '-c', 'pass'], check=True)\n"
            "subprocess.run([sys.executable, '-c', 'pass'], check=True, close_fds=False)\n"  # by posix_spawn
            "pid = os.fork()\n"
            "if not pid: os.execv(sys.executable, [sys.executable, '-c', 'import ssl'])\n"
            "os.waitpid(pid, 0)\n"
        )
        recording, _ = run(script, server)
        assert recording.blind_spots == ()
        assert len(recording.processes) == 5

    def test_a_context_that_is_older_than_the_recorder(self, server: dict[str, str]) -> None:
        """Whatever removed the callback, it is back before the next connection."""
        script = CLIENT + (
            "import _ssl\n"
            "_ssl._SSLContext._msg_callback.__set__(context, None)\n"
            "connect()\n"
            "class Mine(ssl.SSLContext):\n"
            "    def __new__(cls): return _ssl._SSLContext.__new__(cls, ssl.PROTOCOL_TLS_CLIENT)\n"
            "context = Mine(); context.load_verify_locations(os.environ['BUNDLE'])\n"
            "connect()\n"
        )
        recording, _ = run(script, server)
        assert len(recording.observations) == 2

    def test_lines_that_were_lost(self, server: dict[str, str]) -> None:
        script = (
            "import os\nfolder = os.environ['PQTLS_RECORD']\n"
            + CLIENT
            + "os.close(1023)\n"  # the spare descriptor
            + "os.rename(folder, folder + '-away')\nconnect()\nos.rename(folder + '-away', folder)\nconnect()\n"
        )
        recording, _ = run(script, server)
        assert len(recording.observations) == 1
        assert any("lost" in spot for spot in recording.blind_spots)

    @pytest.mark.parametrize(
        "hinder",
        [
            "folder = os.environ['PQTLS_RECORD']; os.rename(folder, folder + '-away')",
            "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
            "os.setgid(65534); os.setuid(65534)",
        ],
        ids=["moved", "no-descriptor", "setuid"],
    )
    def test_a_record_out_of_reach_goes_on(self, server: dict[str, str], hinder: str) -> None:
        """Until the end, of which no exit handler tells: what was lost then would never have been said."""
        if "setuid" in hinder and os.geteuid() != 0:
            pytest.skip("only root can become another user")
        script = (
            "import os, resource\n" + CLIENT + "connect()\n"
            "tcp = socket.create_connection(('127.0.0.1', int(os.environ['PORT'])))\n"
            f"{hinder}\n"
            f"tls = context.wrap_socket(tcp, server_hostname={HOST!r}); assert tls.recv(5)\nos._exit(0)\n"
        )
        with RecorderFolder() as recorder:
            command = [sys.executable, "-c", script]
            subprocess.run(command, env=recorder.environment(server), capture_output=True, check=True)
            away = recorder.folder.with_name(recorder.folder.name + "-away")
            if away.exists():
                away.rename(recorder.folder)
            recording = recorder.read()
        assert [each.handshake.complete for each in recording.observations] == [True, True]
        assert recording.blind_spots == ()

    def test_a_record_that_nothing_can_be_added_to_says_so(self, server: dict[str, str]) -> None:
        script = (
            "import os, resource, signal\n" + CLIENT + "connect()\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\nconnect()\nos._exit(0)\n"
        )
        recording, _ = run(script, server)
        assert len(recording.observations) == 1
        assert any("lost" in spot for spot in recording.blind_spots)

    def test_nothing_is_written_into_what_a_program_puts_in_the_spares_place(
        self, server: dict[str, str], tmp_path: Path
    ) -> None:
        script = (
            "import os\nfolder = os.environ['PQTLS_RECORD']\n" + CLIENT + "connect()\n"
            f"mine = os.open({str(tmp_path / 'mine')!r}, os.O_RDWR | os.O_CREAT)\nos.dup2(mine, 1023)\n"
            "os.rename(folder, folder + '-away')\nconnect()\nprint(os.fstat(1023).st_size)\n"
            "os.rename(folder + '-away', folder)\n"
        )
        recording, output = run(script, server)
        assert output == "0\n"
        assert any("lost" in spot for spot in recording.blind_spots)

    def test_a_fork_that_cannot_begin_a_record_says_so_in_its_parents(self, server: dict[str, str]) -> None:
        script = (
            "import os\nfolder = os.environ['PQTLS_RECORD']\n" + CLIENT + "connect()\n"
            "os.rename(folder, folder + '-away')\n"
            "if os.fork() == 0:\n    connect()\n    os._exit(0)\n"
            "os.wait()\nos.rename(folder + '-away', folder)\n"
        )
        recording, _ = run(script, server)
        assert any("lost" in spot for spot in recording.blind_spots)

    @pytest.mark.parametrize(
        "line",
        [
            b"not json\n",
            b"{}\n",
            b'{"e":"msg"}\n',
            b'{"e":"type","c":7,"d":"w","t":1,"m":1,"mt":20}\n',
            b'["e"]\n',
            b'{"e":"start"',
            b'{"e":"msg","c":1,"d":"w","t":1,"m":1,"ct":22,"b":"zz"}\n',
            b"x" * 900_000 + b"\n",
            b"\xff\xfe\n",
            b"[" * 100_000 + b"\n",
            b'{"e":"lost","n":1e999}\n',
        ],
    )
    def test_a_damaged_line_is_counted_and_the_rest_is_kept(self, server: dict[str, str], line: bytes) -> None:
        with RecorderFolder() as recorder:
            subprocess.run(
                [sys.executable, "-c", CLIENT + "connect()"],
                env=recorder.environment(server),
                capture_output=True,
                check=True,
            )
            (path,) = recorder.folder.glob("*.jsonl")
            path.write_bytes(path.read_bytes() + line)
            recording = recorder.read()
        assert len(recording.observations) == 1
        assert any("lost" in spot for spot in recording.blind_spots)

    @pytest.mark.parametrize("kind", ["fifo", "zero", "dangling", "folder", "foreign"])
    def test_what_a_program_puts_into_the_folder(self, server: dict[str, str], kind: str) -> None:
        """Reading always ends, keeps what is good, and says that something was not read."""
        with RecorderFolder() as recorder:
            subprocess.run(
                [sys.executable, "-c", CLIENT + "connect()"],
                env=recorder.environment(server),
                capture_output=True,
                check=True,
            )
            path = recorder.folder / "0.jsonl"
            if kind == "fifo":
                os.mkfifo(path)
            elif kind in ("zero", "dangling"):
                path.symlink_to("/dev/zero" if kind == "zero" else "/proc/nonexistent")
            elif kind == "folder":
                path.mkdir()
            else:
                path.write_bytes(b"\x00" * 5_000_000)
            recording = recorder.read()
        assert len(recording.observations) == 1
        assert recording.blind_spots == ("not visible here: 1 files of the record could not be read",)


class TestPrivacy:
    def test_the_record_is_private_and_goes_away(self, server: dict[str, str]) -> None:
        with RecorderFolder() as recorder:
            subprocess.run(
                [sys.executable, "-c", CLIENT + "connect()"],
                env=recorder.environment(server),
                capture_output=True,
                check=True,
            )
            (path,) = recorder.folder.glob("*.jsonl")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(recorder.folder.stat().st_mode) == 0o700
            folder = recorder.folder
        assert not folder.exists()

    def test_no_arguments_certificates_or_payload_are_written(self, server: dict[str, str]) -> None:
        with RecorderFolder() as recorder:
            subprocess.run(
                [sys.executable, "-c", CLIENT + "connect()", "--password=opensesame"],
                env=recorder.environment(server),
                capture_output=True,
                check=True,
            )
            (path,) = recorder.folder.glob("*.jsonl")
            text = path.read_text()
        assert "opensesame" not in text
        assert b"hello".hex() not in text
        kinds = {int(line.split('"b":"')[1][:2], 16) for line in text.splitlines() if '"ct":22' in line}
        assert kinds <= {1, 2, 8, 12}, "hellos, EncryptedExtensions and ServerKeyExchange only"
