"""The Python API: `import pqtls` is cheap, and what it says was seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pqtls
from pqtls.observe.recorder import RecorderFolder
from pqtls.openssl.graft import Graft
from pqtls.wire.groups import group_name
from tests.inject.conftest import (
    PYTHONS,
    Files,
    files,
    graft,
    interpreter,
    run_peer,
    shared_cache,
    source,
)

__all__ = ["files", "graft", "interpreter", "shared_cache", "source"]
SOURCE = Path(pqtls.__file__).parent.parent

START = """
import sys; sys.path.insert(0, sys.argv[1])
import pqtls
ca, pem, port = sys.argv[2], sys.argv[3], int(sys.argv[4])
def connect(context):
    import socket
    tcp = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(tcp, server_hostname="server.example")
"""


def run(
    script: str, environment: dict[str, str], files: Files, port: int = 0, python: Path | str = sys.executable
) -> str:
    done = subprocess.run(
        [str(python), "-I", "-c", START + script, str(SOURCE), files.ca, files.server, str(port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_imports_nothing_else(files: Files) -> None:
    script = (
        "print(sorted(name for name in sys.modules if name in ('ssl', 'socket', 'dataclasses', 'typing')), dir(pqtls))"
    )
    output = run(script, {}, files)
    assert output.startswith("[]")
    assert all(name in output for name in pqtls.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pqtls.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", PYTHONS)
def test_openssl_info(graft: Graft, files: Files, version: str) -> None:
    script = """
info = pqtls.openssl_info()
print(info.way, info.group, info.is_post_quantum, info.library.parent, info.offered_groups[0], info.version, sep="|")
"""
    grafted = run(script, graft.apply({}), files, python=PYTHONS[version]).split("|")
    assert grafted[:5] == ["graft", "X25519MLKEM768", "True", str(graft.folder), "X25519MLKEM768"]
    assert grafted[5] == graft.source.version
    plain = run(script, {}, files, python=PYTHONS[version]).split("|")
    if plain[5].startswith("OpenSSL 3.0"):
        assert plain[:3] == ["system", "x25519", "False"]


def test_openssl_info_where_nothing_can_be_negotiated(graft: Graft, files: Files, tmp_path: Path) -> None:
    conf = tmp_path / "none.cnf"
    conf.write_text(
        "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nCiphersuites = \nMinProtocol = TLSv1.3\n"
    )
    script = "info = pqtls.openssl_info(); print(info.way, info.is_post_quantum, info.explanation)"
    output = run(script, {**graft.apply({}), "OPENSSL_CONF": str(conf)}, files)
    assert output.startswith("graft False The handshake in memory did not finish")


def test_it_is_seen_by_no_recorder(graft: Graft, files: Files) -> None:
    with RecorderFolder() as recorder:
        script = "pqtls.openssl_info(); pqtls.create_default_context(require_pq=True)"
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import pqtls; {script}"],
            env=recorder.environment(graft.apply({})),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        recording = recorder.read()
    assert recording.observations == ()
    assert recording.blind_spots == ()


@pytest.mark.parametrize("version", PYTHONS)
def test_a_context_that_requires(graft: Graft, files: Files, tmp_path: Path, version: str) -> None:
    """Its own connections and no others; `group` tells of those that `pqtls` made a context for."""
    script = """
import ssl
for require_pq in (False, True):
    context = pqtls.create_default_context(cafile=ca, require_pq=require_pq)
    assert type(context) is ssl.SSLContext and context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
    try:
        with connect(context) as tls:
            tls.sendall(b"SECRET")
            print(pqtls.group(tls), tls.recv(10).decode())
    except pqtls.NotPostQuantum as error:
        print("refused", error.host, error.group)
    except ssl.SSLError as error:
        print("refused by the server", error.reason)
with connect(ssl.create_default_context(cafile=ca)) as tls:
    tls.sendall(b"SECRET")
    print("other", tls.recv(10).decode(), hasattr(tls, "_pqtls_group"))
"""
    expected = {
        "hybrid": (["X25519MLKEM768 hello", "X25519MLKEM768 hello", "other hello False"], 18),
        "classical": (["x25519 hello", "refused server.example x25519", "other hello False"], 12),
    }
    if int(version.split(".")[1]) >= 15:  # a context has groups of its own: classical ones are not even offered
        expected["classical"][0][1] = "refused by the server SSLV3_ALERT_HANDSHAKE_FAILURE"
    for kind, (lines, size_bytes) in expected.items():
        with run_peer(kind, tmp_path, graft.apply({}), files) as peer:
            output = run(script, graft.apply({}), files, peer.port, PYTHONS[version])
            seen = peer.ask("count")
        assert output.splitlines() == lines
        assert seen["bytes"] == size_bytes


def test_requiring_what_cannot_be_had(files: Files) -> None:
    script = """
from pqtls.errors import CannotProveError
info = pqtls.openssl_info()
try: pqtls.create_default_context(require_pq=True)
except CannotProveError as error: print(info.is_post_quantum, error)
else: print(info.is_post_quantum, "")
"""
    able, _, why = run(script, {}, files).partition(" ")
    assert (able == "True") == (why == "")
    if why:
        assert "offers no group with ML-KEM in it, but x25519 secp256r1" in why
        assert "pqtls run" in why


def test_requiring_under_a_configuration_for_other_groups(graft: Graft, files: Files, tmp_path: Path) -> None:
    conf = tmp_path / "x25519.cnf"
    conf.write_text("openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nGroups = x25519\n")
    script = """
try: pqtls.create_default_context(require_pq=True)
except Exception as error: print(type(error).__name__, error)
"""
    output = run(script, {**graft.apply({}), "OPENSSL_CONF": str(conf)}, files)
    if sys.version_info >= (3, 15):
        assert output == "", "a context has groups of its own"
        return
    assert output.startswith("CannotProveError")
    assert "offers no group with ML-KEM in it, but x25519." in output


def test_group_of_everything_that_has_one(graft: Graft, files: Files, tmp_path: Path) -> None:
    script = """
import asyncio, socket, ssl
from pqtls.errors import CannotProveError
context = pqtls.create_default_context(cafile=ca)
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="server.example")
    print(pqtls.group(writer), pqtls.group(writer.transport), pqtls.group(writer.get_extra_info("ssl_object")))
    writer.close()
asyncio.run(main())
def tell(connection):
    try: print(pqtls.group(connection))
    except (CannotProveError, TypeError) as error: print(type(error).__name__, error)
with connect(ssl.create_default_context(cafile=ca)) as tls:
    tell(tls)
unfinished = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="server.example")
tell(unfinished)
tell(socket.socket())
old = pqtls.create_default_context(cafile=ca)
old.maximum_version = ssl.TLSVersion.TLSv1_2
with connect(old) as tls:
    tell(tls)
"""
    with run_peer("hybrid", tmp_path, graft.apply({}), files) as peer:
        lines = run(script, graft.apply({}), files, peer.port).splitlines()
    assert lines[0] == "X25519MLKEM768 X25519MLKEM768 X25519MLKEM768"
    if sys.version_info >= (3, 15):  # asked itself, but not before its handshake
        assert lines[1] == "X25519MLKEM768"
        assert lines[2].startswith("CannotProveError This connection (no version yet) has negotiated no group.")
    else:
        assert lines[1].startswith("CannotProveError Nobody saw this connection's handshake")
        assert lines[2].startswith("CannotProveError Nobody saw")
    assert lines[3].startswith("TypeError")
    assert lines[4].startswith("CannotProveError This connection's handshake (TLSv1.2) chose no group of TLS 1.3.")


def test_group_from_the_recorder_and_from_python_itself(graft: Graft, files: Files, tmp_path: Path) -> None:
    script = """
import ssl
with connect(ssl.create_default_context(cafile=ca)) as tls:
    print(pqtls.group(tls))
class Newer:
    "What Python 3.15 has."
    def selected_alpn_protocol(self): return None
    session_reused = False
    def version(self): return self.named
    def __init__(self, group, named="TLSv1.3"): self.group, self.named = lambda: group, named
print(pqtls.group(Newer("x25519mlkem768")), pqtls.group(Newer("somethingNew")))
resumed = Newer("X25519MLKEM768")
resumed.session_reused, resumed.context = True, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
print(pqtls.group(resumed))
resumed.context.options |= 0x400  # SSL_OP_ALLOW_NO_DHE_KEX: it may have been resumed without a key exchange
unfinished = Newer(None, None)
unfinished.group = lambda: 1 / 0  # the real one takes the process with it
for each in (Newer(None), Newer("x25519", "TLSv1.2"), resumed, unfinished):
    try: print(pqtls.group(each))
    except Exception as error: print(type(error).__name__)
"""
    with run_peer("hybrid", tmp_path, graft.apply({}), files) as peer, RecorderFolder() as recorder:
        done = subprocess.run(
            [sys.executable, "-c", START + script, str(SOURCE), files.ca, files.server, str(peer.port)],
            env=recorder.environment(graft.apply({})),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    told = ["X25519MLKEM768", "X25519MLKEM768 somethingNew", "X25519MLKEM768", *["CannotProveError"] * 4]
    assert done.stdout.splitlines() == told, done.stderr


@pytest.mark.skipif(sys.version_info < (3, 15), reason="SSLSocket.group() came with Python 3.15")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("hybrid", "X25519MLKEM768"), ("classical", "x25519"), ("retry", "secp521r1"), ("tls12", "CannotProveError")],
)
def test_python_itself_agrees(files: Files, tmp_path: Path, kind: str, expected: str) -> None:
    """Three who saw the same handshake: Python 3.15, the recorder, and the guard of our own context."""
    script = """
import ssl
from pqtls.errors import CannotProveError
class Hidden:
    "Its own group() out of sight."
    def __init__(self, end): self.__dict__.update(end=end, group=None)
    def __getattr__(self, name): return getattr(self.end, name)
recorder = sys.modules["_pqtls_recorder"].recorder
recorder.server_hello_of = lambda end, ask=recorder.server_hello_of: ask(getattr(end, "end", end))
def tell(connection):
    try: return pqtls.group(connection)
    except CannotProveError as error: return type(error).__name__
with connect(ssl.create_default_context(cafile=ca)) as tls:
    print(tls.group(), tell(tls), tell(Hidden(tls)))
with connect(pqtls.create_default_context(cafile=ca)) as tls:
    assert hasattr(tls, "_pqtls_group")
    print(tls.group(), tell(tls), tell(Hidden(tls)))
"""
    with run_peer(kind, tmp_path, {}, files) as peer, RecorderFolder() as recorder:
        done = subprocess.run(
            [sys.executable, "-c", START + script, str(SOURCE), files.ca, files.server, str(peer.port)],
            env=recorder.environment({}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        hellos = [observation.handshake.server_hello for observation in recorder.read().observations]
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        native, *ours = line.split()
        assert ours == [expected, expected]
        if kind != "tls12":
            assert native.lower() == expected.lower()
    if kind != "tls12":
        assert {group_name(hello.group) for hello in hellos if hello and hello.group} == {expected}


def test_gevent(graft: Graft, files: Files, tmp_path: Path) -> None:
    """Its sockets are not SSLSocket, and refuse and tell all the same."""
    pytest.importorskip("gevent")
    path = [each for each in sys.path if "site-packages" in each]
    script = f"""
sys.path[1:1] = {path!r}
from gevent import monkey; monkey.patch_all()
for require_pq in (False, True):
    context = pqtls.create_default_context(cafile=ca, require_pq=require_pq)
    try:
        with connect(context) as tls:
            assert type(tls).__module__ == "gevent.ssl"
            tls.sendall(b"SECRET")
            print(pqtls.group(tls), tls.recv(10).decode())
    except pqtls.NotPostQuantum as error:
        print("refused", error.host, error.group)
"""
    for kind, lines in {
        "hybrid": ["X25519MLKEM768 hello"] * 2,
        "classical": ["x25519 hello", "refused server.example x25519"],
    }.items():
        with run_peer(kind, tmp_path, graft.apply({}), files) as peer:
            assert run(script, graft.apply({}), files, peer.port).splitlines() == lines
            assert peer.ask("count")["bytes"] == 6 * len([line for line in lines if "hello" in line])
