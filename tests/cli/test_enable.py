"""`pqtls enable`, `disable`, `status` as commands, and real programs of an environment, watched on the wire."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from pqtls.observe.observation import Observation
from pqtls.observe.relay import RelayWitness
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.sources import Source, find_sources
from pqtls.wire.facts import Side
from tests.openssl.venv_tools import VERSION, hash_tree, make_venv, run
from tests.schemas import validate

PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]

# An HTTPS server with a package index and an answer for AWS; it prints its port.
SERVER = """
import http.server, os, ssl, sys
folder = sys.argv[1]
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"SecretList": [{"Name": "first"}]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
os.chdir(folder)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), **environment}
    return subprocess.run([*PQTLS, *arguments], env=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def source() -> Source:
    return next(each for each in find_sources(inspect_interpreter(sys.executable, {})) if each.is_usable)


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""File names are ASCII there, and every other byte of them a surrogate."""
UTF8_LOCALE = {"LC_ALL": "C.UTF-8"}


class TestNames:
    """Names of files are bytes: in a locale without UTF-8, and where they are no UTF-8 at all."""

    @pytest.mark.parametrize(
        ("name", "shown", "one", "other"),
        [("Müller".encode(), "Müller", C_LOCALE, UTF8_LOCALE), (b"no-text-\xff", "no-text-?", UTF8_LOCALE, C_LOCALE)],
    )
    def test_every_verb(
        self, tmp_path: Path, source: Source, name: bytes, shown: str, one: dict[str, str], other: dict[str, str]
    ) -> None:
        place = tmp_path / os.fsdecode(name)
        place.mkdir()
        make_venv(tmp_path / "venv").rename(place / "venv")  # `venv` itself can't write such a name
        shutil.copytree(source.libssl.parent, place / "source")
        root = place / "venv"

        def call_bytes(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
            given = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), **environment}
            done = subprocess.run([*PQTLS, *arguments], env=given, capture_output=True, timeout=60, check=False)
            assert b"Traceback" not in done.stderr
            return done

        before = hash_tree(root)
        options = ("--openssl-source", str(place / "source"), "--require-pq")
        enabled = call_bytes("enable", "--venv", str(root), *options, **one)
        assert enabled.returncode == 0, enabled.stderr
        assert os.fsencode(root) in enabled.stdout, "the name as the bytes that it is"
        for environment in (one, other):
            done = run(root, "-c", VERSION, **environment)
            assert (done.stdout.strip(), done.stderr) == (source.version, "")
        status = call_bytes("status", "--venv", str(root), "--json", **other)
        assert status.returncode == 0, status.stdout
        assert json.loads(status.stdout)["venv"] == str(tmp_path / shown / "venv")
        for package in root.glob("lib/python*/site-packages/_pqtls_graft_*"):
            shutil.rmtree(package)
        for environment in (one, other):  # the line that is left says what was asked for, with such names in it
            done = run(root, "-c", "import sys; print(sys.modules['ssl'])", **environment)
            assert (done.stdout, done.stderr.count("\n")) == ("None\n", 1), done.stderr
            assert "pqtls: its loader is gone" in done.stderr
            assert "--require-pq --openssl-source" in done.stderr
        assert call_bytes("disable", "--venv", str(root), **other).returncode == 0
        assert hash_tree(root) == before
        command = ("--groups", "hybrid-only", "--", str(root / "bin" / "python"), "-c", VERSION)
        assert call_bytes("run", *command, **C_LOCALE).stdout.startswith(b"OpenSSL 3.5")
        gone = call_bytes("enable", "--venv", str(place / "none"), **one)
        assert (gone.returncode, os.fsencode(place) in gone.stderr) == (2, True)


class TestCommands:
    @pytest.mark.smoke
    def test_on_and_off(self, tmp_path: Path) -> None:
        root = make_venv(tmp_path / "venv")
        before = hash_tree(root)
        off = call("status", "--venv", str(root))
        assert (off.returncode, "not enabled" in off.stdout) == (1, True)
        done = call("enable", "--venv", str(root))
        assert done.returncode == 0, done.stderr
        assert "enabled" in done.stdout
        assert "X25519MLKEM768" in done.stdout
        assert "Keep " in done.stdout, "pqtls's own wheel, outside the environment, was the source"
        assert run(root, "-c", VERSION).stdout.startswith("OpenSSL 3.5")
        on = call("status", "--fail-if-older-than", "3.5.0", VIRTUAL_ENV=str(root))
        assert on.returncode == 0, on.stdout
        assert "enabled and active" in on.stdout
        assert "(VIRTUAL_ENV)" in on.stdout
        assert call("status", "--venv", str(root), "--fail-if-older-than", "3.99").returncode == 1
        status = call("status", "--venv", str(root), "--json")
        validate(json.loads(status.stdout))
        assert "already enabled" in call("enable", "--venv", str(root)).stdout
        assert call("disable", "--venv", str(root)).returncode == 0
        assert "was not enabled" in call("disable", "--venv", str(root)).stdout
        assert hash_tree(root) == before
        assert run(root, "-c", VERSION).stdout.strip() == inspect_interpreter(sys.executable, {}).openssl_version

    def test_what_it_says_to_type_is_all_that_was_asked_for(self, tmp_path: Path, source: Source) -> None:
        root = make_venv(tmp_path / "the venv")
        folder = tmp_path / "a source"
        shutil.copytree(source.libssl.parent, folder)
        options = ["--groups", "hybrid-only", "--openssl-source", str(folder), "--ignore-crypto-policies"]
        assert f"in {folder}" in call("enable", "--venv", str(root), *options).stdout
        for graft in root.glob("lib/pqtls-graft/*/libssl.so.3"):
            graft.unlink()
        said = re.search(r"run `(.+)` again", run(root, "-c", VERSION).stderr)
        assert said is not None
        assert shlex.split(said[1]) == ["pqtls", "enable", *options, "--venv", str(root)]
        again = call(*shlex.split(said[1])[1:])
        assert again.returncode == 0, again.stderr
        manifest = json.loads(call("status", "--venv", str(root), "--json").stdout)["graft"]
        assert (manifest["source_folder"], manifest["origin"]) == (str(folder), str(folder))

    def test_a_source_inside_needs_no_remark(self, tmp_path: Path, source: Source) -> None:
        root = make_venv(tmp_path / "venv")
        shutil.copytree(source.libssl.parent, root / "openssl")
        done = call("enable", "--venv", str(root), "--openssl-source", str(root / "openssl"))
        assert (done.returncode, "Keep " in done.stdout) == (0, False), done.stdout + done.stderr

    def test_no_environment(self, tmp_path: Path) -> None:
        for verb in ("enable", "disable", "status"):
            done = call(verb, "--venv", str(tmp_path))
            assert done.returncode == 2
            assert "no pyvenv.cfg" in done.stderr
            assert "Traceback" not in done.stderr

    def test_no_version(self, tmp_path: Path) -> None:
        assert call("status", "--fail-if-older-than", "new").returncode == 2

    def test_a_source_that_is_none(self, tmp_path: Path) -> None:
        root = make_venv(tmp_path / "venv")
        before = hash_tree(root)
        done = call("enable", "--venv", str(root), "--openssl-source", str(tmp_path))
        assert (done.returncode, "Traceback" in done.stderr) == (3, False)
        assert hash_tree(root) == before


@dataclass
class World:
    """An enabled environment, a server in it, and a relay that watches what its programs do."""

    root: Path
    folder: Path
    port: int
    seen: list[Observation] = field(default_factory=list)

    def last(self) -> tuple[str, str]:
        """Wait for the last connection's verdict."""
        deadline = time.monotonic() + 10
        while not self.seen and time.monotonic() < deadline:
            time.sleep(0.02)
        observations = list(self.seen)
        self.seen.clear()
        verdicts = {(each.finding.verdict, each.finding.reason) for each in observations}
        assert len(verdicts) == 1, verdicts
        return verdicts.pop()

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.folder / "home"),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)


def relay(listener: socket.socket, port: int, seen: list[Observation]) -> None:
    """Carry connections to a port, and watch their bytes."""

    def pump(source: socket.socket, sink: socket.socket, side: Side, witness: RelayWitness, end: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                witness.receive(side, data, time.time_ns())
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if end:
            witness.finished("closed")

    while True:
        try:
            client, address = listener.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", port))
        witness = RelayWitness(f"127.0.0.1:{address[1]}", f"127.0.0.1:{port}", seen.append)
        threading.Thread(target=pump, args=(client, server, Side.CLIENT, witness, False), daemon=True).start()
        threading.Thread(target=pump, args=(server, client, Side.SERVER, witness, True), daemon=True).start()


def write_wheel(folder: Path) -> None:
    """Make a wheel with a command that fetches a page by `urllib`."""
    files = {
        "demo_tool.py": "def main():\n import sys, urllib.request, ssl\n"
        " context = ssl.create_default_context(cafile=sys.argv[2])\n"
        " print(urllib.request.urlopen(sys.argv[1], context=context).status)\n",
        "demo_tool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo-tool\nVersion: 1.0\n",
        "demo_tool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "demo_tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ndemo-tool = demo_tool:main\n",
    }
    record = ""
    with zipfile.ZipFile(folder / "demo_tool-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
        wheel.writestr("demo_tool-1.0.dist-info/RECORD", record + "demo_tool-1.0.dist-info/RECORD,,\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    root = make_venv(folder / "venv", with_pip=True)
    enabled = call("enable", "--venv", str(root))
    if enabled.returncode == 3:
        pytest.skip(enabled.stderr)
    assert enabled.returncode == 0, enabled.stderr
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    index = folder / "simple" / "demo-tool"
    index.mkdir(parents=True)
    write_wheel(index)
    (index / "index.html").write_text('<a href="demo_tool-1.0-py3-none-any.whl">demo_tool-1.0-py3-none-any.whl</a>')
    command = [str(root / "bin" / "python"), "-c", SERVER, str(folder)]
    server = subprocess.Popen(command, env={}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    listener = socket.create_server(("127.0.0.1", 0))
    found = World(root, folder, listener.getsockname()[1])
    threading.Thread(target=relay, args=(listener, port, found.seen), daemon=True).start()
    try:
        yield found
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.kill()
        server.wait()


def use_programs(world: World) -> dict[str, tuple[str, str]]:
    """Run each program once; return the verdict on its connections."""
    ca, python, found = str(world.folder / "ca.pem"), str(world.root / "bin" / "python"), {}
    index = f"https://localhost:{world.port}"
    pip = [str(world.root / "bin" / "pip"), "--disable-pip-version-check", "--cert", ca, "--no-cache-dir"]
    target = ["--index-url", f"{index}/simple", "--no-deps", "demo-tool"]
    done = world.program(*pip, "install", "--force-reinstall", *target)
    assert done.returncode == 0, done.stderr
    found["pip"] = world.last()
    done = world.program(str(world.root / "bin" / "demo-tool"), f"{index}/simple/", ca)
    assert done.stdout == "200\n", done.stderr
    found["entry point"] = world.last()
    packages = next(entry for entry in sys.path if entry.endswith("site-packages"))
    script = f"import sys; sys.path.append({packages!r}); from awscli.clidriver import main; sys.exit(main())"
    done = world.program(
        python, "-c", script, "secretsmanager", "list-secrets", "--region", "us-east-2", "--endpoint-url", index,
        "--ca-bundle", ca, "--query", "SecretList[0].Name",
    )  # fmt: skip
    assert done.stdout == '"first"\n', done.stderr
    found["aws"] = world.last()
    return found


def test_programs_of_an_enabled_environment(world: World) -> None:
    """pip, a script that pip installed, the AWS CLI; then the same after `disable`, against the same server."""
    pytest.importorskip("awscli")
    names = ["pip", "entry point", "aws"]
    assert use_programs(world) == dict.fromkeys(names, ("post-quantum", "negotiated-hybrid"))
    assert call("disable", "--venv", str(world.root)).returncode == 0
    assert use_programs(world) == dict.fromkeys(names, ("not-post-quantum", "not-offered"))
