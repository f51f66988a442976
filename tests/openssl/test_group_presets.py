"""Each preset by what it puts on the wire: a parsed ClientHello, a finished handshake, and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pqtls.errors import UsageError
from pqtls.openssl.graft import Graft
from pqtls.openssl.group_presets import PRESETS, resolve_groups
from pqtls.openssl.groups_conf import check_groups, write_groups_conf
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.probe import Probe, probe_mlkem
from pqtls.wire.groups import group_kind, group_name

WANTED = {
    "default": (
        ["X25519MLKEM768", "x25519", "secp256r1", "x448", "secp384r1", "secp521r1", "ffdhe2048", "ffdhe3072"],
        ["X25519MLKEM768", "x25519"],
        "X25519MLKEM768",
    ),
    "hybrid-only": (
        ["X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"],
        ["X25519MLKEM768"],
        "X25519MLKEM768",
    ),
    "level5": (["SecP384r1MLKEM1024", "MLKEM1024"], ["SecP384r1MLKEM1024"], "SecP384r1MLKEM1024"),
    "mlkem1024": (["MLKEM1024"], ["MLKEM1024"], "MLKEM1024"),
}
"""Preset to groups offered, key shares sent, and what is negotiated with a server that is held to it too."""


def hold(graft: Graft, interpreter: Interpreter, folder: Path, preset: str) -> dict[str, str]:
    folder.mkdir()
    environment = graft.apply({})
    held = resolve_groups(preset)
    conf = write_groups_conf(held.groups, folder, interpreter, environment, is_tls13_only=held.is_tls13_only)
    return {**environment, "OPENSSL_CONF": str(conf)}


def offered(probe: Probe) -> tuple[list[str], list[str]]:
    names = [group_name(code) for code in probe.offered_groups]
    return names, [group_name(share.group) for share in probe.key_shares]


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_offered_and_negotiated(preset: str, graft: Graft, interpreter: Interpreter, tmp_path: Path) -> None:
    environment = hold(graft, interpreter, tmp_path / "conf", preset)
    check_groups(sys.executable, environment, resolve_groups(preset).groups)
    probe = probe_mlkem(sys.executable, environment)
    groups, shares, negotiated = WANTED[preset]
    assert offered(probe) == (groups, shares)
    assert probe.has_mlkem, probe.explanation
    assert probe.group == negotiated


def test_every_preset_is_looked_at() -> None:
    assert set(WANTED) == set(PRESETS)


def test_default_is_openssls_own(graft: Graft, interpreter: Interpreter, tmp_path: Path) -> None:
    if not graft.source.version.startswith("OpenSSL 3.5."):
        pytest.skip(f"{graft.source.version} may have another list")
    own = probe_mlkem(sys.executable, {**graft.apply({}), "OPENSSL_CONF": "/dev/null"})
    held = probe_mlkem(sys.executable, hold(graft, interpreter, tmp_path / "conf", "default"))
    assert offered(held) == offered(own)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_old_openssl_is_refused(preset: str, interpreter: Interpreter, tmp_path: Path) -> None:
    """It would drop the line in silence and go on with its own list."""
    if interpreter.openssl_version_info[:2] >= (3, 5):
        pytest.skip("this OpenSSL is not old")
    held = resolve_groups(preset)
    conf = write_groups_conf(held.groups, tmp_path, interpreter, {}, is_tls13_only=held.is_tls13_only)
    with pytest.raises(UsageError, match="does not follow the group list"):
        check_groups(sys.executable, {"OPENSSL_CONF": str(conf)}, held.groups)


@pytest.mark.parametrize("preset", PRESETS)
def test_only_a_preset_with_classical_groups_leaves_tls_12(preset: str) -> None:
    held = PRESETS[preset]
    _, shares, _ = WANTED[preset]
    has_classical = any(word in held.groups for word in ("X25519:", "secp256r1"))
    assert held.is_tls13_only is not has_classical
    assert shares


# A client against a TLS 1.2 server, both in memory: a group list alone has no say over finite-field Diffie-Hellman.
TLS12 = """
import json, ssl, sys
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(sys.argv[1])
server.maximum_version = ssl.TLSVersion.TLSv1_2
server.set_ciphers("AES128-GCM-SHA256")
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
client.set_ciphers("DEFAULT")
to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
result = ""
for _ in range(10):
    for end in ends:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            result = result or str(error)
print(json.dumps([ends[0].version() if not result else None, result]))
"""


@pytest.mark.parametrize(("preset", "is_refused"), [("default", False), ("hybrid-only", True), ("mlkem1024", True)])
def test_tls_12_without_a_group(
    preset: str, is_refused: bool, graft: Graft, interpreter: Interpreter, tmp_path: Path
) -> None:
    """RSA key transport needs no group: only leaving out TLS 1.2 refuses it."""
    pem = tmp_path / "rsa.pem"
    pem.write_bytes(rsa_certificate())
    client_environment = hold(graft, interpreter, tmp_path / "conf", preset)
    # Only the client is held: the server of this script is in the same process, so it must allow TLS 1.2 by itself.
    script = TLS12.replace("server.maximum_version", "server.options &= ~ssl.OP_NO_TLSv1_2\nserver.maximum_version")
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(pem)],
        env=client_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    version, error = json.loads(done.stdout)
    assert (version is None) is is_refused, (version, error, done.stderr)
    if not is_refused:
        assert version == "TLSv1.2"


def rsa_certificate() -> bytes:
    import trustme

    issued = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("x.example", key_type=trustme.KeyType.RSA)
    return issued.private_key_and_cert_chain_pem.bytes()


PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]
LOOK = (
    "import json, ssl\n"
    "outgoing = ssl.MemoryBIO()\n"
    "context = ssl.create_default_context()\n"
    "try: context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname='x.example').do_handshake()\n"
    "except ssl.SSLWantReadError: pass\n"
    "print(json.dumps([outgoing.read().hex(), int(context.options), [c['name'] for c in context.get_ciphers()]]))\n"
)


def look(*options: str, **environment: str) -> tuple[list[str], int, list[str]]:
    """Return what a Python under `pqtls run` offers, and its settings."""
    from pqtls.wire.client_hello import ClientHello

    bare = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
    command = [*PQTLS, "run", "--openssl", "graft", *options, "--", sys.executable, "-I", "-c", LOOK]
    done = subprocess.run(command, env={**bare, **environment}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    hello, settings, ciphers = json.loads(done.stdout)
    groups = ClientHello.parse(bytes.fromhex(hello)[9:]).supported_groups or ()
    return [group_name(code) for code in groups if group_kind(code) != "grease"], settings, ciphers


@pytest.mark.parametrize("preset", ["level5", "MLKEM1024", "Hybrid-Only"])
def test_pqtls_run_takes_presets(preset: str) -> None:
    assert look("--groups", preset)[0] == WANTED[preset.lower()][0]


def test_the_users_configuration_stays_in_force(tmp_path: Path) -> None:
    """OPENSSL_CONF as the user has it: its other settings hold, with --groups and without."""
    (tmp_path / "mine.cnf").write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
        "Groups = X25519MLKEM768:secp521r1\nCiphersuites = TLS_CHACHA20_POLY1305_SHA256\nOptions = -SessionTicket\n"
    )
    mine = str(tmp_path / "mine.cnf")
    plain, own, both = look(), look(OPENSSL_CONF=mine), look("--groups", "default", OPENSSL_CONF=mine)
    assert own[0] == ["X25519MLKEM768", "secp521r1"], "without --groups nothing of ours is in force"
    assert both[0] == WANTED["default"][0]
    assert own[1:] == both[1:] != plain[1:]


def test_the_systems_configuration_stays_in_force(graft: Graft, tmp_path: Path, interpreter: Interpreter) -> None:
    """openssl.cnf in the OPENSSLDIR of the interpreter that runs is included by its path."""
    system = Path(interpreter.capath).parent / "openssl.cnf"
    if not system.is_file():
        pytest.skip(f"there is no {system}")
    environment = hold(graft, interpreter, tmp_path / "conf", "level5")
    text = Path(environment["OPENSSL_CONF"]).read_text()
    assert f".include {system}" in text
    assert text.index(".include") < text.index("Groups")
