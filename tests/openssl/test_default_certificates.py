"""The graft changes no trust: as many default CAs as before, the same paths, the same verdicts on certificates."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from pqtls.openssl.graft import Graft, make_graft
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.sources import Source

CAS = """
import json, ssl
context = ssl.create_default_context()
paths = ssl.get_default_verify_paths()
print(json.dumps([len(context.get_ca_certs()), context.cert_store_stats(), paths.openssl_cafile, paths.openssl_capath]))
"""

# A client with nothing but its default trust, against a server in the same process.
VERIFY = """
import ssl, sys
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(sys.argv[1])
a, b, c, d = [ssl.MemoryBIO() for _ in range(4)]
client = ssl.create_default_context().wrap_bio(a, b, server_hostname=sys.argv[2])
server = server_context.wrap_bio(c, d, server_side=True)
for _ in range(6):
    for end, out, into in ((client, b, c), (server, d, a)):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            sys.exit("refused: " + error.verify_message)
        into.write(out.read())
print("verified with " + ssl.OPENSSL_VERSION)
"""


def run(environment: dict[str, str], script: str, *arguments: str) -> str:
    command = [sys.executable, "-I", "-c", script, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    return (result.stdout or result.stderr).strip()


def test_as_many_default_certificates_as_before(graft: Graft) -> None:
    before, after = json.loads(run({}, CAS)), json.loads(run(graft.apply({}), CAS))
    assert after == before
    assert after[0] > 0, "this machine has no CA certificates: the comparison shows nothing"


def test_ssl_cert_file_still_wins(graft: Graft, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "one.pem"))
    for base in ({}, graft.apply({})):
        assert json.loads(run({**base, "SSL_CERT_FILE": str(tmp_path / "one.pem"), "SSL_CERT_DIR": "/x"}, CAS))[0] == 1


@pytest.mark.parametrize("where", ["cafile", "capath"])
def test_a_locally_trusted_host_verifies_and_others_do_not(
    source: Source, interpreter: Interpreter, short_folder: Path, tmp_path: Path, where: str
) -> None:
    ca, stranger = trustme.CA(), trustme.CA()
    pem = {}
    for name, issuer in (("trusted", ca), ("stranger", stranger)):
        pem[name] = str(tmp_path / f"{name}.pem")
        issuer.issue_cert("host.example").private_key_and_cert_chain_pem.write_to_path(pem[name])
    if where == "cafile":
        ca.cert_pem.write_to_path(str(short_folder / "cert.pem"))
    else:
        (short_folder / "certs").mkdir()
        ca.cert_pem.write_to_path(str(short_folder / "certs" / f"{subject_hash(ca, tmp_path)}.0"))
    machine = dataclasses.replace(
        interpreter, cafile=str(short_folder / "cert.pem"), capath=str(short_folder / "certs")
    )
    environment = make_graft(source, machine, tmp_path / "cache", {}).apply({})
    assert run(environment, VERIFY, pem["trusted"], "host.example") == f"verified with {source.version}"
    assert "unable to get local issuer" in run(environment, VERIFY, pem["stranger"], "host.example")
    assert "ostname mismatch" in run(environment, VERIFY, pem["trusted"], "other.example")
    assert "unable to get local issuer" in run({}, VERIFY, pem["trusted"], "host.example")


def subject_hash(ca: trustme.CA, folder: Path) -> str:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to name the file in a CA folder")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    command = [openssl, "x509", "-noout", "-subject_hash", "-in", str(folder / "ca.pem")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_systems_legacy_provider_loads(graft: Graft, tmp_path: Path) -> None:
    if graft.modules is None and not Path(graft.folders.modules_dir, "legacy.so").exists():
        pytest.skip("the system has no legacy provider")
    conf = tmp_path / "legacy.cnf"
    conf.write_text("openssl_conf=i\n[i]\nproviders=p\n[p]\nlegacy=l\ndefault=l\n[l]\nactivate=1\n", encoding="ascii")
    script = "import hashlib; print(hashlib.new('md4', b'').hexdigest())"
    digest = run({**graft.apply({}), "OPENSSL_CONF": str(conf)}, script)
    assert digest == "31d6cfe0d16ae931b73c59d7e0c089c0"
    assert "unsupported hash type" in run(graft.apply({}), script)
