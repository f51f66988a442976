"""Scripts that try to pass for post-quantum: each connection of each is judged, and none slips through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.observe.observation import observe
from pqtls.report.model import CaseResult
from pqtls.suite.case import read_case
from pqtls.suite.client import ClientRun, join_witnesses

if TYPE_CHECKING:
    from tests.suite.conftest import Lab

CONNECT = """
import os, socket, ssl
HOST = "secretsmanager.us-west-1.amazonaws.com"
def connect(context):
    address, port = os.environ["PQTLS_DIAL"].rsplit(":", 1)
    with socket.create_connection((address, int(port)), timeout=10) as tcp:
        with context.wrap_socket(tcp, server_hostname=HOST) as tls:
            tls.sendall(f"GET /ping HTTP/1.1\\r\\nHost: {HOST}\\r\\nConnection: close\\r\\n\\r\\n".encode())
            return tls.recv(100)
"""


def result_of(run: ClientRun) -> CaseResult:
    return CaseResult(
        "x",
        "x",
        run.finished.exit_code,
        1.0,
        "",
        run.connections,
        blind_spots=run.blind_spots,
        notes=run.notes,
        disagreements=run.disagreements,
    )


# Finds the recorder in its process: what follows makes it a liar, or silent, as a fault of its own would.
TAMPER = """
import gc, ssl
kind, = {type(each) for each in gc.get_objects() if type(each).__name__ == "Recorder"}
"""


def test_an_honest_one(lab: Lab) -> None:
    result = result_of(lab.run(CONNECT + "connect(ssl.create_default_context())"))
    assert result.verdict == "post-quantum"
    (connection,) = result.connections
    assert connection.sources == ("recorder", "relay")
    assert connection.handshake.client_hellos[0].records == 1


def test_one_classical_connection_among_good_ones(lab: Lab) -> None:
    script = CONNECT + (
        "good, bad = ssl.create_default_context(), ssl.create_default_context()\n"
        "bad.set_ecdh_curve('prime256v1')\n"
        "for context in (good, bad, good): connect(context)\n"
    )
    result = result_of(lab.run(script))
    assert len(result.connections) == 3
    assert [each.finding.verdict for each in result.connections] == ["post-quantum", "not-post-quantum", "post-quantum"]
    assert (result.verdict, result.reason) == ("not-post-quantum", "not-offered")


def test_tls12(lab: Lab) -> None:
    script = CONNECT + (
        "context = ssl.create_default_context()\ncontext.maximum_version = ssl.TLSVersion.TLSv1_2\nconnect(context)\n"
    )
    result = result_of(lab.run(script))
    assert (result.verdict, result.reason) == ("not-post-quantum", "tls12")
    assert result.connections[0].handshake.legacy_key_exchange is not None


def test_no_connection_at_all(lab: Lab) -> None:
    result = result_of(lab.run("print('200 OK')"))
    assert (result.verdict, result.reason) == ("inconclusive", "no-connection-seen")


def test_a_good_connection_and_then_a_failure(lab: Lab) -> None:
    result = result_of(lab.run(CONNECT + "connect(ssl.create_default_context())\nraise SystemExit(3)"))
    assert (result.verdict, result.reason) == ("inconclusive", "client-failed")


def test_a_client_that_hides_from_the_recorder(lab: Lab) -> None:
    """The relay still sees its connection; that the recorder did not is said, and nothing is proven."""
    (lab.folder / "hidden.py").write_text(CONNECT + "connect(ssl.create_default_context())")
    run = lab.run(f"exec python3 -I {lab.folder / 'hidden.py'}", suffix=".sh")
    (connection,) = run.connections
    assert run.finished.exit_code == 0
    assert connection.sources == ("relay",)
    assert connection.finding.verdict == "post-quantum"
    result = result_of(run)
    assert (result.verdict, result.reason) == ("inconclusive", "not-visible-here")


def test_a_shell_script_may_start_what_nobody_watches(lab: Lab) -> None:
    """Python in it is recorded; what else the shell started, and where that went, nobody here knows."""
    (lab.folder / "good.py").write_text(CONNECT + "connect(ssl.create_default_context())")
    result = result_of(lab.run(f"true\npython3 {lab.folder / 'good.py'}", suffix=".sh"))
    assert [each.finding.verdict for each in result.connections] == ["post-quantum"]
    assert (result.verdict, result.reason) == ("inconclusive", "not-visible-here")


def test_a_child_that_leaves_no_trace_on_the_wire(lab: Lab) -> None:
    """A good connection, and beside it a program that nobody watches: nothing is proven."""
    script = CONNECT + (
        "import subprocess, sys\nconnect(ssl.create_default_context())\n"
        "subprocess.run([sys.executable, '-I', '-c', 'pass'], check=True)\n"
    )
    result = result_of(lab.run(script))
    assert [each.finding.verdict for each in result.connections] == ["post-quantum"]
    assert (result.verdict, result.reason) == ("inconclusive", "not-visible-here")


def test_what_the_recorder_alone_saw_proves_nothing_here(lab: Lab) -> None:
    """All of the lab's traffic passes the wire; a connection that did not went elsewhere, or is made up."""
    run = lab.run(CONNECT + "connect(ssl.create_default_context())")
    (joined,) = run.connections
    forged = replace(joined, sources=("recorder",), id="0" * 16)
    connections, _ = join_witnesses((forged,), ())
    assert connections == (forged,)
    script = CONNECT + (
        "import shutil, pathlib\nconnect(ssl.create_default_context())\n"
        "path = next(pathlib.Path(os.environ['PQTLS_RECORD']).glob('*.jsonl'))\n"
        "text = path.read_text()\n"
        "hello = next(line for line in text.splitlines() if '\"role\"' in line)\n"
        'random = hello.split(\'"b":"\')[1][12:76]\n'
        "path.with_name('0.jsonl').write_text(text.replace(random, 'ab' * 32))\n"
    )
    result = result_of(lab.run(script))
    assert len(result.connections) == 2
    assert result.verdict == "inconclusive"
    assert any("that the wire did not" in spot for spot in result.blind_spots)


def test_two_connections_with_one_random_stay_two(lab: Lab) -> None:
    run = lab.run(CONNECT + "connect(ssl.create_default_context())")
    (joined,) = run.connections
    good = replace(joined, sources=("relay",))
    assert joined.handshake.server_hello is not None
    classical = replace(
        joined.handshake, server_hello=replace(joined.handshake.server_hello, group=0x001D, key_share_bytes=32)
    )
    bad = observe(classical, joined.id, "relay")
    recorded = replace(joined, sources=("recorder",))
    connections, _ = join_witnesses((recorded,), (good, bad))
    assert sorted(each.finding.verdict for each in connections) == ["not-post-quantum", "post-quantum"]


def test_another_tls_stack_is_a_blind_spot(lab: Lab) -> None:
    script = (
        CONNECT
        + "import sys, types\nsys.modules['pycurl'] = types.ModuleType('pycurl')\nconnect(ssl.create_default_context())"
    )
    result = result_of(lab.run(script))
    assert (result.verdict, result.reason) == ("inconclusive", "not-visible-here")
    assert "loaded pycurl" in result.blind_spots[0]


def test_a_host_outside_the_lab_is_refused_and_told(lab: Lab) -> None:
    run = lab.run("import requests\nrequests.get('https://example.com/', timeout=5)")
    assert [spot for spot in run.blind_spots if "example.com" in spot and "does not have" in spot]
    assert run.finished.exit_code == 1
    assert run.connections == ()


def test_a_client_that_does_not_end_is_stopped_with_its_children(lab: Lab) -> None:
    path = lab.folder / "slow.sh"
    path.write_text("sleep 997.25 & sleep 997.75\n")
    run = lab.with_timeout(1.0).run(read_case(path), lab.servers.address("good"), {})
    assert run.finished.exit_code is None
    command_lines = [each.read_bytes() for each in Path("/proc").glob("[0-9]*/cmdline") if each.exists()]
    assert not [line for line in command_lines if line.startswith(b"sleep\x00997.")]


def test_a_daemon_does_not_outlive_its_case(lab: Lab) -> None:
    """Not even one with a session, a folder and an environment of its own."""
    path = lab.folder / "daemon.sh"
    path.write_text("(cd /; setsid env -i sleep 996.25 & setsid sleep 996.75 &)\nsleep 0.2\n")
    run = lab.run_case(read_case(path))
    assert run.finished.exit_code == 0
    command_lines = [each.read_bytes() for each in Path("/proc").glob("[0-9]*/cmdline") if each.exists()]
    assert not [line for line in command_lines if line.startswith(b"sleep\x00996.")]


def test_a_clients_temporary_files_lie_in_its_home(lab: Lab) -> None:
    script = "import os, pathlib, tempfile\nassert pathlib.Path(tempfile.mkdtemp()).is_relative_to(os.environ['HOME'])"
    assert lab.run(script).finished.exit_code == 0


def test_output_is_bounded(lab: Lab) -> None:
    run = lab.run("for _ in range(200): print('x' * 100_000)\nprint('last words')")
    assert run.finished.output.endswith("last words")
    assert len(run.finished.output) <= 16_384


def test_a_recorder_that_lies_is_found_out(lab: Lab) -> None:
    """It writes another group into the ServerHello than the wire carried: exit code 4, in the groups' names."""
    script = TAMPER + (
        "write = kind.write\n"
        "def lie(self, line):\n"
        "    write(self, {**line, 'b': line['b'].replace('11ec', '001d', 1)} if line.get('d') == 'r' and 'b' in line"
        " else line)\n"
        "kind.write = lie\n"
    )
    result = result_of(lab.run(script + CONNECT + "connect(ssl.create_default_context())"))
    assert (result.verdict, result.exit_code_of_case) == ("disagreement", 4), result
    (sentence,) = [text for text in result.disagreements if "ServerHello" in text]
    assert "recorder saw (bytes 1210, group x25519, key_share_bytes 1120)" in sentence
    assert "relay saw (bytes 1210, group X25519MLKEM768, key_share_bytes 1120)" in sentence


def test_a_connection_that_only_the_relay_saw_leaves_others_in_doubt(lab: Lab) -> None:
    """The recorder watched every process, and missed one: whatever made it may have made more, past the router."""
    script = CONNECT + TAMPER + "connect(ssl.create_default_context())\n"
    honest = result_of(lab.run(script))
    assert (honest.verdict, honest.blind_spots) == ("post-quantum", ())
    silenced = result_of(lab.run(script + "kind.see = lambda *_: None\nconnect(ssl.create_default_context())\n"))
    assert [each.sources for each in silenced.connections] == [("recorder", "relay"), ("relay",)]
    assert {each.finding.verdict for each in silenced.connections} == {"post-quantum"}
    assert (silenced.verdict, silenced.reason) == ("inconclusive", "not-visible-here")
    assert "of which the recorder saw nothing" in silenced.blind_spots[0]


def test_witnesses_that_disagree_are_told(lab: Lab) -> None:
    run = lab.run(CONNECT + "connect(ssl.create_default_context())")
    (joined,) = run.connections
    recorded = replace(joined, sources=("recorder",))
    relayed = replace(joined, sources=("relay",))
    assert join_witnesses((recorded,), (relayed,))[1] == ()
    assert joined.handshake.server_hello is not None
    lied = replace(joined.handshake, server_hello=replace(joined.handshake.server_hello, group=0x001D))
    connections, disagreements = join_witnesses((recorded,), (replace(relayed, handshake=lied),))
    assert len(connections) == 1
    assert "ServerHello" in disagreements[0]
    result = CaseResult("x", "x", 0, 1.0, "", connections, disagreements=disagreements)
    assert result.verdict == "disagreement"
    assert result.exit_code_of_case == 4
