"""The guard in real processes, against a peer that counts what reaches it: nothing may, whatever the program does.

Each case has its control: the same program without the guard delivers its bytes to the same peer.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pqtls.evidence import is_post_quantum_group
from pqtls.inject import guard, openssl_settings
from pqtls.observe.recorder import RecorderFolder
from pqtls.openssl.graft import Graft
from pqtls.wire.groups import GROUPS, group_name
from tests.inject.conftest import INJECT, PYTHONS, Files, run_guarded, run_peer

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
VERSIONS = list(PYTHONS)
# An SSL error of OpenSSL's own, for reasons that the handshake does not prove to be the missing group.
UNTOLD = "SSLV3_ALERT_HANDSHAKE_FAILURE"
NOT_WAYS = ("told", "errors", "same_environment", "openssl_in_child", "openssl")


def ways_of(answer: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in answer.items() if name not in NOT_WAYS}


@pytest.mark.parametrize("kind", ["hybrid", "classical", "tls12"])
def test_without_the_guard_every_way_delivers(graft: Graft, files: Files, tmp_path: Path, kind: str) -> None:
    with run_peer(kind, tmp_path, graft.apply({}), files) as peer:
        answer, received = run_guarded(PYTHONS[OWN], "none", peer, graft.apply({}), files)
        seen = peer.ask("count")
    ways = ways_of(answer)
    unusual = {name for name, value in ways.items() if value not in ("got hello", "got SECRET")}
    assert unusual == ({"classical_by_choice"} if kind == "classical" else set()), "P-256 is not what that peer takes"
    assert received == [6] * 5
    assert seen["bytes"] >= 6 * 20
    assert seen["certificates"] == 1


@pytest.mark.parametrize("kind", ["classical", "tls12"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_guard_alone(graft: Graft, files: Files, tmp_path: Path, version: str, kind: str) -> None:
    with run_peer(kind, tmp_path, graft.apply({}), files) as peer:
        answer, received = run_guarded(PYTHONS[version], "guard", peer, graft.apply({}), files)
        seen = peer.ask("count")
    assert "OpenSSL 3.5" in answer["openssl"]
    assert (seen["bytes"], received) == (0, [0] * 5)
    assert seen["handshakes"] == seen["certificates"] == 0, "the peer did not even see a finished handshake"
    left = {name: value for name, value in ways_of(answer).items() if value != "refused"}
    assert left.pop("serve_asyncio", "got NOTHING") == "got NOTHING", "asyncio's server drops such a client silently"
    if kind == "classical":
        assert UNTOLD in left.pop("classical_by_choice")
    assert left == {}
    assert answer["errors"] == []
    tell = [told for told in answer["told"] if told[0] == "server.example" and not told[3]]
    assert {tuple(told[1:3]) for told in tell} <= {("x25519", "TLS 1.3"), ("", "TLS 1.2")}
    assert any(f"server.example (127.0.0.1:{peer.port}) chose" in told[4] for told in tell)
    assert any(told[0] == "127.0.0.1" for told in answer["told"]), "a client that asked for an address alone"
    assert any(told[3] for told in answer["told"]), "refused as a server"


@pytest.mark.parametrize("mode", ["guard", "conf"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_post_quantum_peer_is_as_before(graft: Graft, files: Files, tmp_path: Path, version: str, mode: str) -> None:
    with run_peer("hybrid", tmp_path, graft.apply({}), files) as peer:
        answer, received = run_guarded(PYTHONS[version], mode, peer, graft.apply({}), files)
        seen = peer.ask("count")
    left = {name: value for name, value in ways_of(answer).items() if value not in ("got hello", "got SECRET")}
    # What a program chooses for itself puts OpenSSL's settings aside; there the guard stands.
    assert left.pop("classical_by_choice") == "refused"
    assert left.pop("tls12_by_choice") == "refused" or UNTOLD in answer["tls12_by_choice"]
    assert left == {}
    assert received == [6] * 5
    assert seen["certificates"] == 1
    assert answer["same_environment"]
    assert not answer["openssl_in_child"]
    assert any(told[1] == "secp256r1" for told in answer["told"])


@pytest.mark.parametrize("version", VERSIONS)
def test_openssl_and_the_guard_against_classical(graft: Graft, files: Files, tmp_path: Path, version: str) -> None:
    """The alert that a server without ML-KEM sends is told as such, and as not quite certain; a server knows better."""
    with run_peer("classical", tmp_path, graft.apply({}), files) as peer:
        answer, received = run_guarded(PYTHONS[version], "conf", peer, graft.apply({}), files)
        seen = peer.ask("count")
    assert (seen["bytes"], seen["handshakes"], seen["certificates"], received) == (0, 0, 0, [0] * 5)
    left = {name: value for name, value in ways_of(answer).items() if value != "refused"}
    # What a program offers by its own choice may have been refused for that.
    assert UNTOLD in left.pop("classical_by_choice")
    assert UNTOLD in left.pop("tls12_by_choice")
    assert left.pop("serve_asyncio", "got NOTHING") == "got NOTHING"
    assert left == {}
    hybrids = "X25519MLKEM768 SecP256r1MLKEM768"
    said = (
        f"(127.0.0.1:{peer.port}) answered an offer of {hybrids} alone by alert handshake_failure: it has none of them"
    )
    told = [each for each in answer["told"] if said in each[4]]
    assert {each[0] for each in told} >= {"server.example"}
    assert {tuple(each[1:4]) for each in told} == {("", "", False)}, "nothing was chosen"
    assert all("or another reason" in each[4] for each in told)
    assert "offers no post-quantum group (x25519)" in answer["told"][-1][4]


def test_openssl_and_the_guard_against_tls12(graft: Graft, files: Files, tmp_path: Path) -> None:
    """A server that refuses TLS 1.3 itself has said why: that is NotPostQuantum."""
    with run_peer("tls12", tmp_path, graft.apply({}), files) as peer:
        answer, received = run_guarded(PYTHONS[OWN], "conf", peer, graft.apply({}), files)
        seen = peer.ask("count")
    assert (seen["bytes"], seen["handshakes"], received) == (0, 0, [0] * 5)
    assert answer["send"] == answer["open_connection"] == answer["serve_lazy"] == "refused"
    assert any("refused TLS 1.3 (alert protocol_version)" in told[4] for told in answer["told"])
    assert any("does not offer TLS 1.3" in told[4] for told in answer["told"])


def test_a_retry_to_a_classical_group_is_refused(graft: Graft, files: Files, tmp_path: Path) -> None:
    with run_peer("retry", tmp_path, graft.apply({}), files) as peer:
        control, _ = run_guarded(PYTHONS[OWN], "none", peer, graft.apply({}), files, "send", "bio")
        assert peer.ask("count")["bytes"] == 12
        answer, _ = run_guarded(PYTHONS[OWN], "guard", peer, graft.apply({}), files, "send", "bio")
        seen = peer.ask("count")
    assert control["send"] == control["bio"] == "got hello"
    assert answer["send"] == answer["bio"] == "refused"
    assert answer["told"][0][1] == "secp521r1"
    assert (seen["bytes"], seen["handshakes"]) == (0, 0)


def test_the_copies_of_the_group_table_agree_with_the_one() -> None:
    hybrids = {code for code in GROUPS if is_post_quantum_group(code)}
    assert set(guard.POST_QUANTUM) == set(openssl_settings.POST_QUANTUM) == hybrids
    assert all(group_name(code) == name for code, name in {**guard.POST_QUANTUM, **guard.OTHERS}.items())


IN_MEMORY = """
import os, ssl, sys
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[2])
ca, pem = sys.argv[3:5]
def pair(client_context, server_context=None, session=None):
    if server_context is None:
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(pem)
    a, b, c, d = [ssl.MemoryBIO() for _ in range(4)]
    client = client_context.wrap_bio(a, b, server_hostname="server.example", session=session)
    server = server_context.wrap_bio(c, d, server_side=True)
    flights = []
    for _ in range(4):
        for end, out, other in ((client, b, c), (server, d, a)):
            try: end.do_handshake()
            except ssl.SSLWantReadError: pass
            data = out.read()
            flights.append(data)
            other.write(data)
    server.write(b"x"); a.write(d.read()); client.read(1)
    return client, server, flights
"""


def run_script(graft: Graft, files: Files, script: str, python: str = OWN, **environment: str) -> str:
    done = subprocess.run(
        [
            str(PYTHONS[python]), "-I", "-c", IN_MEMORY + script,
            str(INJECT), str(INJECT.parent.parent), files.ca, files.server,
        ],
        env={**graft.apply({}), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_no_early_data_is_ever_sent(graft: Graft, files: Files) -> None:
    """Python's ssl has no way to ask for it; a resumed ClientHello does not offer it, a ticket does not allow it."""
    output = run_script(
        graft,
        files,
        """
assert not [name for kind in (ssl.SSLContext, ssl.SSLSocket, ssl.SSLObject) for name in dir(kind) if "early" in name]
import guard; guard.install(ssl)
from pqtls.wire.tracker import HandshakeTracker
from pqtls.wire.facts import Side
context = ssl.create_default_context(cafile=ca)
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(pem)
client, server, _ = pair(context, server_context)
again, _, flights = pair(context, server_context, client.session)
assert again.session_reused
tracker = HandshakeTracker()
for number, data in enumerate(flights):
    tracker.receive_data(Side.SERVER if number % 2 else Side.CLIENT, data)
print(tracker.handshake.psk, tracker.handshake.early_data, hex(tracker.handshake.server_hello.group))
""",
    )
    assert output.split() == ["psk_dhe_ke", "none", "0x11ec"]


def test_a_session_resumed_without_key_exchange_is_refused(graft: Graft, files: Files) -> None:
    script = """
if guarded:
    import guard; guard.install(ssl)
context = ssl.create_default_context(cafile=ca)
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(pem)
NO_DHE, PREFER_NO_DHE = 0x400, 1 << 35  # SSL_OP_ALLOW_NO_DHE_KEX, SSL_OP_PREFER_NO_DHE_KEX
for each in (context, server_context):
    each.options |= NO_DHE | PREFER_NO_DHE
client, _, _ = pair(context, server_context)
try:
    again, _, flights = pair(context, server_context, client.session)
    print("resumed", again.session_reused, len(flights[1]) < 500)
except ssl.SSLError as error:
    print(type(error).__name__, error)
"""
    try:
        control = run_script(graft, files, "guarded = False\n" + script, VERSIONS[-1])
    except AssertionError as error:
        if "OverflowError" in str(error):
            pytest.skip("this Python's options have 32 bits")
        raise
    assert control.split() == ["resumed", "True", "True"], "the control: no key share in the ServerHello"
    output = run_script(graft, files, "guarded = True\n" + script, VERSIONS[-1])
    assert output.startswith("NotPostQuantum")
    assert "resumed a session without any key exchange" in output


def test_the_class_is_one(graft: Graft, files: Files) -> None:
    """Raised by a copied file, caught by its public name, sent to another process."""
    output = run_script(
        graft,
        files,
        """
import guard; guard.install(ssl)
import pickle, pqtls
context = ssl.create_default_context(cafile=ca)
context.set_ecdh_curve("prime256v1")
try:
    pair(context)
except pqtls.NotPostQuantum as error:
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is pqtls.NotPostQuantum and isinstance(other, ssl.SSLError)
    print(other.group, other.server_side, repr(pqtls.NotPostQuantum), pqtls.NotPostQuantum is ssl._pqtls_guard.error)
""",
    )
    assert output.split(None, 2) == ["secp256r1", "True", "<class 'pqtls.NotPostQuantum'> True\n"]


def test_a_program_without_pqtls_can_send_it_between_its_processes(graft: Graft, files: Files) -> None:
    """From a worker of a pool, say: it arrives as what such a program expects of TLS, with all that was known."""
    output = run_script(
        graft,
        files,
        """
import guard; guard.install(ssl)
import pickle
sys.path[:] = [entry for entry in sys.path if entry != sys.argv[2]]
context = ssl.create_default_context(cafile=ca)
context.set_ecdh_curve("prime256v1")
try:
    pair(context)
except ssl.SSLError as error:
    other = pickle.loads(pickle.dumps(error))
    print(type(error).__name__, type(other) is ssl.SSLError, str(other) == str(error), other.group, other.reason)
""",
    )
    assert output == "NotPostQuantum True True secp256r1 NOT_POST_QUANTUM\n"


@pytest.mark.parametrize("order", ["guard, recorder", "recorder, guard"])
def test_the_recorder_beside_it(graft: Graft, files: Files, order: str) -> None:
    """In either order both see each message once, refused or not, and a program's own callback is kept."""
    with RecorderFolder() as recorder:
        output = run_recorded(graft, files, order, recorder.folder)
        recording = recorder.read()
    assert output == "NotPostQuantum\n"
    assert recording.blind_spots == ()
    assert [each.handshake.complete for each in recording.observations] == [True] * 4 + [False] * 2


def run_recorded(graft: Graft, files: Files, order: str, folder: Path) -> str:
    return run_script(
        graft,
        files,
        f"""
order = {order!r}
def install_recorder():
    import recorder; recorder.start({str(folder)!r})
def install_guard():
    import guard; guard.install(ssl)
for each in order.split(", "):
    globals()["install_" + each]()
context = ssl.create_default_context(cafile=ca)
assert context._msg_callback is None
pair(context)
mine = []
context._msg_callback = lambda *arguments: mine.append(arguments)
assert context._msg_callback is not None
pair(context)
assert len([each for each in mine if each[4].name == "CLIENT_HELLO"]) == 1, mine
context._msg_callback = None
context.set_ecdh_curve("prime256v1")
try: pair(context)
except ssl.SSLError as error: print(type(error).__name__)
""",
    )


class Connection:
    """Stands for `_ssl`'s connection in a Python of the future, which can do more with one than any of today."""

    owner, server_side, server_hostname = None, False, "server.example"

    def __init__(self) -> None:
        self.called: list[str] = []

    def do_handshake(self) -> None:
        self.called.append("do_handshake")

    def splice(self, *_: object) -> int:
        self.called.append("splice")
        return 1

    def pending(self) -> int:
        return 0


def test_a_way_to_write_that_a_later_python_adds_waits_for_the_proof_too() -> None:
    """3.15's sendfile was such a one."""
    for is_required, called in ((True, ["do_handshake"]), (False, ["do_handshake", "splice"])):
        raw = Connection()
        process: Any = guard.Guard(ssl)  # hooks nothing
        state = guard._State(is_required)
        guarded: Any = guard._Guarded(process, raw, state, None, None)
        assert guarded.pending() == 0
        assert (raw.called, hasattr(guarded, "teleport")) == ([], False)
        if is_required:
            for _ in range(2):
                with pytest.raises(process.error, match="was not seen to choose"):
                    guarded.splice(b"secret")
        else:
            assert guarded.splice(b"secret") == 1
        assert raw.called == called


def test_nothing_is_left_behind(graft: Graft, files: Files) -> None:
    """After a proven handshake the connection is `_ssl`'s own; connections are not kept alive."""
    output = run_script(
        graft,
        files,
        """
import gc, _ssl, weakref
import guard; guard.install(ssl)
gc.disable()
client, server, _ = pair(ssl.create_default_context(cafile=ca))
print(type(client._sslobj) is _ssl._SSLSocket, type(server._sslobj) is _ssl._SSLSocket, ssl._pqtls_guard._states)
seen = weakref.ref(client)
del client
refused = ssl.create_default_context(cafile=ca)
refused.set_ecdh_curve("prime256v1")
try: pair(refused)
except ssl.SSLError as error: pass
unused = refused.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="server.example")
del unused
print(seen(), ssl._pqtls_guard._states)
""",
    )
    assert output.splitlines() == ["True True {}", "None {}"]
