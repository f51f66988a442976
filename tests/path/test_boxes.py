"""Products of other making, installed ones, in front of a real server: what `pqtls path` says of each.

One that is not installed is skipped by name. `make test-boxes` installs them all, skips none, and tries each with the
whole set, too; docs/middleboxes.md has the table.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.path import real_servers as real
from tests.path.test_peers import wait_for
from tests.path.test_real import look

NEED_ALL = os.environ.get("PQTLS_NEED_BOXES") == "1"
NOBODY = 65_534
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box stands.

    Attributes:
        folder: For its files; others may read it.
        port: Where it listens.
        server: Port of the server that is meant.
        default: Port of another server, of another name.
        pem: Certificate and key of the name that is asked for.
    """

    folder: Path
    port: int
    server: int
    default: int
    pem: Path

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file


@dataclass(frozen=True, slots=True)
class Box:
    """A product, set up in one way.

    Attributes:
        program: What must be installed.
        start: Writes what it needs, and returns the command.
        expected: Faults that must be named, no other.
        is_full: Only the whole set shows it.
        state: The server's state; "" for any.
        note: Words of a note that must be there.
    """

    program: str
    start: Callable[[Place], list[str]]
    expected: frozenset[str] = frozenset()
    is_full: bool = False
    state: str = ""
    note: str = ""


def _haproxy(rules: str, bind: str = "") -> Callable[[Place], list[str]]:
    def start(place: Place) -> list[str]:
        file = place.write(
            "haproxy.cfg",
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"
            f"frontend f\n  bind 127.0.0.1:{place.port} {bind}\n{rules}"
            f"  use_backend b if {{ req.ssl_sni -i {real.NAME} }}\n  default_backend d\n"
            f"backend b\n  server s 127.0.0.1:{place.server}\nbackend d\n  server s 127.0.0.1:{place.default}\n",
        )
        return ["haproxy", "-db", "-f", str(file)]

    return start


def _nginx_preread(place: Place) -> list[str]:
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    file = place.write(
        "nginx.conf",
        (f"load_module {module};\n" if module.exists() else "")
        + f"daemon off; master_process off; pid {place.folder}/pid; error_log {place.folder}/log;\nevents {{}}\n"
        f"stream {{ map $ssl_preread_server_name $to {{ {real.NAME} 127.0.0.1:{place.server};"
        f" default 127.0.0.1:{place.default}; }}\n"
        f"server {{ listen 127.0.0.1:{place.port}; ssl_preread on; proxy_pass $to; }} }}\n",
    )
    return ["nginx", "-c", str(file)]


def _sniproxy(place: Place) -> list[str]:
    user = "user root\n" if os.geteuid() == 0 else ""
    file = place.write(
        "sniproxy.conf",
        f"{user}pidfile {place.folder}/pid\nerror_log {{ filename {place.folder}/log }}\n"
        f"listen 127.0.0.1:{place.port} {{\n proto tls\n table t\n}}\n"
        f"table t {{\n {real.NAME} 127.0.0.1:{place.server}\n}}\n",
    )
    return ["sniproxy", "-f", "-c", str(file)]


def _sslh(program: str) -> Callable[[Place], list[str]]:
    def start(place: Place) -> list[str]:
        user = 'user: "root";' if os.geteuid() == 0 else ""
        file = place.write(
            "sslh.cfg",
            f"foreground: true; inetd: false; numeric: true; transparent: false; timeout: 2; {user}\n"
            f'listen: ( {{ host: "127.0.0.1"; port: "{place.port}"; }} );\nprotocols: (\n'
            f' {{ name: "tls"; host: "127.0.0.1"; port: "{place.server}"; sni_hostnames: [ "{real.NAME}" ]; }},\n'
            f' {{ name: "tls"; host: "127.0.0.1"; port: "{place.default}"; }},\n'
            f' {{ name: "anyprot"; host: "127.0.0.1"; port: "{place.default}"; }} );\n',
        )
        return [program, f"-F{file}"]

    return start


def _sslsplit(place: Place) -> list[str]:
    authority = trustme.CA(organization_name="Some Gateway CA")
    authority.cert_pem.write_to_path(str(place.folder / "ca.crt"))
    authority.private_key_pem.write_to_path(str(place.folder / "ca.key"))
    files = ["-k", str(place.folder / "ca.key"), "-c", str(place.folder / "ca.crt")]
    return ["sslsplit", "-D", *files, "ssl", "127.0.0.1", str(place.port), "127.0.0.1", str(place.server)]


def _traffic_server(place: Place) -> list[str]:
    """A blind tunnel by name, after Apache Traffic Server's own documentation of sni.yaml."""
    config = place.folder / "config"
    shutil.copytree("/etc/trafficserver", config, dirs_exist_ok=True)
    with (config / "records.config").open("a", encoding="utf-8") as file:
        file.write(
            f"\nCONFIG proxy.config.http.server_ports STRING {place.port}:ip-in=127.0.0.1:ssl\n"
            f"CONFIG proxy.config.http.connect_ports STRING {place.server}\n"
            f"CONFIG proxy.config.ssl.server.cert.path STRING {place.folder}\n"
            f"CONFIG proxy.config.ssl.server.private_key.path STRING {place.folder}\n"
            "CONFIG proxy.config.admin.user_id STRING #-1\n"
        )
    shutil.copy(place.pem, place.folder / "server.pem")
    place.write("config/sni.yaml", f"sni:\n- fqdn: {real.NAME}\n  tunnel_route: 127.0.0.1:{place.server}\n")
    place.write("config/ssl_multicert.config", "dest_ip=* ssl_cert_name=server.pem ssl_key_name=server.pem\n")
    for name in ("run", "log", "cache"):
        (place.folder / name).mkdir()
    usual = {"prefix": "/usr", "exec_prefix": "/usr", "bindir": "/usr/bin", "sbindir": "/usr/sbin"}
    usual |= {"libdir": "/usr/lib", "libexecdir": "/usr/lib/trafficserver/modules", "includedir": "/usr/include"}
    usual |= {"mandir": "/usr/share/man", "infodir": "/usr/share/info", "sysconfdir": str(config)}
    usual |= {name: str(place.folder / "run") for name in ("localstatedir", "runtimedir")}
    usual |= {"logdir": str(place.folder / "log")}
    usual |= {name: str(place.folder / "cache") for name in ("datadir", "cachedir")}
    root = place.write("runroot.yaml", "".join(f"{name}: {value}\n" for name, value in usual.items()))
    return ["traffic_server", f"--run-root={root}"]


def _stunnel(place: Place) -> list[str]:
    lines = f"foreground = yes\npid =\n[x]\naccept = 127.0.0.1:{place.port}\n"
    file = place.write("stunnel.conf", f"{lines}connect = 127.0.0.1:{place.server}\ncert = {place.pem}\n")
    return ["stunnel4", str(file)]


def _caddy(place: Place) -> list[str]:
    file = place.write(
        "Caddyfile",
        f"{{\n admin off\n auto_https off\n}}\n:{place.port} {{\n tls {place.pem} {place.pem}\n respond ok\n}}\n",
    )
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


def _socat(place: Place) -> list[str]:
    return ["socat", f"tcp-listen:{place.port},bind=127.0.0.1,fork,backlog=64", f"tcp:127.0.0.1:{place.server}"]


WAIT = "  tcp-request inspect-delay 5s\n  tcp-request content accept if { req.ssl_hello_type 1 }\n"
BOXES: dict[str, Box] = {
    "haproxy, inspect-delay": Box("haproxy", _haproxy(WAIT), state="preferred"),
    "haproxy, inspect-delay, two records": Box("haproxy", _haproxy(WAIT), frozenset(("F07",)), is_full=True),
    "haproxy, no inspect-delay": Box("haproxy", _haproxy("", "defer-accept"), frozenset(("F02",))),
    "nginx, ssl_preread": Box("nginx", _nginx_preread, state="preferred"),
    "nginx, ssl_preread, all": Box("nginx", _nginx_preread, is_full=True, state="preferred"),
    "sniproxy": Box("sniproxy", _sniproxy, state="preferred"),
    "sniproxy, two records": Box("sniproxy", _sniproxy, frozenset(("F07",)), is_full=True, note="5500 bytes"),
    "sslh": Box("sslh", _sslh("sslh"), state="preferred"),
    "sslh, two records": Box("sslh", _sslh("sslh"), frozenset(("F07",)), is_full=True),
    "sslh-select, two records": Box("sslh-select", _sslh("sslh-select"), frozenset(("F07",)), is_full=True),
    "sslsplit": Box("sslsplit", _sslsplit, frozenset(("F35",))),
    "sslsplit, two records": Box("sslsplit", _sslsplit, frozenset(("F07",)), is_full=True, note="made to order"),
    "Apache Traffic Server, blind tunnel": Box("traffic_server", _traffic_server, frozenset(("F01",)), is_full=True),
    "stunnel": Box("stunnel4", _stunnel),
    "Caddy": Box("caddy", _caddy),
    "Caddy, all": Box("caddy", _caddy, is_full=True),
    "socat": Box("socat", _socat, state="preferred"),
    "socat, all": Box("socat", _socat, is_full=True, state="preferred"),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a program which gives up root can read and write."""
    with tempfile.TemporaryDirectory(prefix="pqtls-box-") as name:
        path = Path(name)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        yield path


@contextlib.contextmanager
def run_box(box: Box, place: Place) -> Iterator[None]:
    """Run it until the end, with every process of its own; one that will not serve as root runs as nobody."""
    command = box.start(place)
    user = None
    if box.program == "traffic_server" and os.geteuid() == 0:
        user = NOBODY
        for path in place.folder.rglob("*"):
            os.chown(path, NOBODY, NOBODY)
    with (
        (place.folder / "said").open("wb") as said,
        subprocess.Popen(
            command,
            env=ENVIRONMENT,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=place.folder,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_for(place.port)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert _wait_for_the_end(process.pid), f"processes of {box.program} are left"


def _wait_for_the_end(session: int) -> bool:
    """Tell whether every process of a session ends within five seconds; those that nobody waits for count as ended."""
    end_s = time.monotonic() + 5
    while any(each == session for each in _sessions()):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


def _sessions() -> Iterator[int]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:4]
            if state != "Z":
                yield int(session)


@pytest.mark.parametrize("name", BOXES)
def test_a_box(
    name: str, folder: Path, hybrid_port: int, hybrid_environment: dict[str, str], pem: Path, tmp_path: Path
) -> None:
    box = BOXES[name]
    if shutil.which(box.program, path=ENVIRONMENT["PATH"]) is None:
        if NEED_ALL:
            pytest.fail(f"{box.program} is not installed")
        pytest.skip(f"{box.program} is not installed")
    if box.is_full and not NEED_ALL:
        pytest.skip("the whole set takes long: `make test-boxes`")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    other = real.write_certificate(tmp_path, "default.invalid")
    with real.run_server(other, hybrid_environment) as default:
        place = Place(folder, port, hybrid_port, default, pem)
        with run_box(box, place):
            found = look(port, is_full=box.is_full)
    assert found.fault_ids == box.expected, found.answer
    assert found.verdict == ("fault" if box.expected else "healthy"), found.answer
    assert not box.state or found.server_state == box.state
    assert any(box.note in note for note in ("", *found.notes)), found.notes
