"""Socket errors: under a newer OpenSSL and the shim, each Python raises what it raises under its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pqtls.openssl.graft import Graft
from tests.inject.conftest import INJECT, PYTHONS, Files

EVENTS = Path(__file__).parent / "socket_events.py"
# Which ConnectionError it was is lost in `_ssl`; on a TCP connection it is taken to be a reset.
INFERRED = {"BrokenPipeError": "ConnectionError", "ConnectionResetError": "ConnectionError"}


def run(python: Path, environment: dict[str, str], files: Files, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), "-I", str(EVENTS), files.server, files.ca, *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def kinds(answer: dict[str, Any]) -> dict[str, list[str]]:
    """With the two ConnectionErrors taken as one, for TCP."""
    return {
        key: [INFERRED.get(str(each), str(each)) if key.startswith("tcp") else str(each) for each in value]
        for key, value in answer.items()
        if isinstance(value, list) and key != "mended"
    }


@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_raises_what_it_raises_under_its_own(graft: Graft, files: Files, version: str) -> None:
    plain = run(PYTHONS[version], {}, files)
    bare = run(PYTHONS[version], graft.apply({}), files)
    mended = run(PYTHONS[version], graft.apply({}), files, str(INJECT))
    assert plain["openssl"] != bare["openssl"] == mended["openssl"]
    if "SSLError" not in str(bare) or kinds(bare) == kinds(plain):
        assert mended["mended"] == [], "nothing is to be mended, so nothing was touched"
        return
    assert mended["mended"] == ["ssl"]
    assert kinds(mended) == kinds(plain)
    differing = [key for key in plain if mended[key] != plain[key] and key != "openssl"]
    assert {key for key in differing if "write" not in key} == set()


@pytest.mark.parametrize("version", PYTHONS)
def test_an_old_openssl_is_left_alone(files: Files, version: str) -> None:
    answer = run(PYTHONS[version], {}, files, str(INJECT))
    if answer["openssl"].startswith("OpenSSL 3.0"):
        assert answer["mended"] == []
    assert kinds(answer) == kinds(run(PYTHONS[version], {}, files))


def test_gevents_own_sockets(graft: Graft, files: Files) -> None:
    pytest.importorskip("gevent")
    path = ":".join(each for each in sys.path if "site-packages" in each)
    own = {"GEVENT": "1", "GEVENT_PATH": path}
    python = Path(sys.executable)
    plain = run(python, own, files)
    bare = run(python, {**graft.apply({}), **own}, files)
    mended = run(python, {**graft.apply({}), **own}, files, str(INJECT))
    assert "SSLError" in str(bare), "the control"
    assert any("gevent" in name for name in mended["mended"])
    assert kinds(mended) == kinds(plain)


def test_what_is_no_socket_error_stays(graft: Graft, files: Files) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(INJECT)!r})
import socket, ssl, socket_errors
socket_errors.install(ssl)
near, far = socket.socketpair()
far.send(b"HTTP/1.0 400 Bad Request")
try: ssl.create_default_context().wrap_socket(near, server_hostname="a.example")
except ssl.SSLError as error: print(type(error).__name__, error.library, error.reason)
print(ssl.SSLSocket.read.__name__, ssl.SSLSocket.read.__doc__.split(".")[0])
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        env=graft.apply({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "SSLError SSL WRONG_VERSION_NUMBER",
        "read Read up to LEN bytes and return them",
    ]


def test_a_service_without_unix_sockets(graft: Graft, files: Files) -> None:
    """As under systemd's RestrictAddressFamilies=AF_INET: it cannot be tried out there, so errors are looked at."""
    script = f"""
import sys; sys.path.insert(0, {str(INJECT)!r})
import errno, os, socket, ssl, socket_errors
def socketpair(*_): raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
socket.socketpair = socketpair
socket_errors.install(ssl)
listener = socket.create_server(("127.0.0.1", 0))
near = socket.create_connection(listener.getsockname())
ssl.create_default_context().wrap_socket(near, server_hostname="a.example", do_handshake_on_connect=False)
print([kind.__name__ for kind in ssl._pqtls_socket_errors])
"""
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, env=graft.apply({}), capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "['SSLSocket']\n"


def test_the_probe_is_quick_and_silent(graft: Graft) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(INJECT)!r})
import ssl, time, os, socket_errors
ssl.create_default_context()
before = len(os.listdir("/proc/self/fd"))
start = time.process_time()
print(socket_errors.is_affected(ssl), len(os.listdir("/proc/self/fd")) - before, time.process_time() - start < 0.05)
"""
    started = time.monotonic()
    for environment, expected in ((graft.apply({}), None), ({}, None)):
        done = subprocess.run(
            [sys.executable, "-I", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        affected, descriptors, is_quick = done.stdout.split()
        assert (descriptors, is_quick) == ("0", "True"), expected
        assert affected in ("True", "False")
    assert time.monotonic() - started < 30
