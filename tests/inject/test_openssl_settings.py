"""OpenSSL's settings given by calls: what a real ClientHello then offers, and what stays as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pqtls.errors import UsageError
from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.require_pq import check_require_pq, require_post_quantum_groups, write_require_pq_conf
from tests.inject.conftest import INJECT, PYTHONS

SCRIPT = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
settings, first = json.loads(sys.argv[2]), sys.argv[3]
before = dict(os.environ)
if first == "hashlib":
    import hashlib; hashlib.new("sha512_256", b"x")
import ssl
if first == "context": ssl.create_default_context()
import openssl_settings
loaded = set(sys.modules)
def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return [int(made.options), [each["name"] for each in made.get_ciphers()]]
plain = context()
try:
    for _ in range(2): openssl_settings.install(ssl, settings)
    error = ""
except RuntimeError as raised:
    error = str(raised)
child = subprocess.run([sys.executable, "-I", "-c", "import os, json; print(json.dumps(dict(os.environ)))"],
    stdout=subprocess.PIPE).stdout
groups, versions = openssl_settings.read_offer(ssl)
print(json.dumps({"groups": groups, "versions": versions, "error": error, "same": dict(os.environ) == before,
    "child": json.loads(child), "before": before, "context": context(), "plain": plain,
    "new": sorted(set(sys.modules) - loaded - {"subprocess"})}))
"""
PQ = {"groups": "X25519MLKEM768:SecP256r1MLKEM768", "codes": [0x11EC, 0x11EB], "require": True}


def run(python: Path, settings: dict[str, Any], environment: dict[str, str], first: str = "nothing") -> dict[str, Any]:
    done = subprocess.run(
        [str(python), "-I", "-c", SCRIPT, str(INJECT), json.dumps(settings), first],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("first", ["nothing", "hashlib", "context"])
@pytest.mark.parametrize("version", PYTHONS)
def test_it_holds_whatever_came_first_and_no_child_can_tell(graft: Graft, version: str, first: str) -> None:
    answer = run(PYTHONS[version], PQ, graft.apply({}), first)
    assert answer["error"] == ""
    assert (answer["groups"], answer["versions"]) == ([0x11EC, 0x11EB], [0x0304])
    assert answer["same"]
    # LC_CTYPE: what Python itself sets in a bare environment, for its children too.
    assert {**answer["child"], "LC_CTYPE": ""} == {**graft.apply({}), "LC_CTYPE": ""}
    assert "ctypes" not in answer["new"]


def test_groups_alone_leave_the_versions(graft: Graft) -> None:
    plain = run(Path(sys.executable), {}, graft.apply({}))
    answer = run(Path(sys.executable), {"groups": "MLKEM1024:x25519"}, graft.apply({}))
    assert answer["error"] == ""
    assert answer["groups"] == [0x0202, 0x001D]
    assert answer["versions"] == plain["versions"] == [0x0304, 0x0303]
    assert plain["groups"][:2] == [0x11EC, 0x001D]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"groups": "X25519Kyber768Draft00:X25519MLKEM768", "require": True}, "error in system default config"),
        ({"groups": "X25519Kyber768Draft00:x25519", "codes": [0x6399, 0x001D]}, "error in system default config"),
        ({"groups": "X25519MLKEM768:x25519", "require": True}, "would still offer"),
        ({"groups": "", "require": True}, "would still offer"),
        ({"groups": "x25519\nOptions = UnsafeLegacyRenegotiation"}, "is not a list of groups"),
    ],
)
def test_what_openssl_does_not_follow_is_said(graft: Graft, settings: dict[str, Any], why: str) -> None:
    """And taken back: the program can go on as before, also where OpenSSL then refuses to make any context."""
    plain = run(Path(sys.executable), {}, graft.apply({}))
    answer = run(Path(sys.executable), settings, graft.apply({}))
    assert why in answer["error"]
    assert [answer[key] for key in ("groups", "versions", "context")] == [
        plain[key] for key in ("groups", "versions", "context")
    ]


@pytest.mark.parametrize(("require", "why"), [(True, "would still offer"), (False, "does not follow")])
def test_what_openssl_drops_in_silence_is_said(graft: Graft, tmp_path: Path, require: bool, why: str) -> None:
    """Without `config_diagnostics`, a line with an unknown name counts for nothing."""
    (tmp_path / "empty.cnf").write_text("")
    environment = {**graft.apply({}), "OPENSSL_CONF": str(tmp_path / "empty.cnf")}
    settings = {"groups": "X25519Kyber768Draft00:X25519MLKEM768", "codes": [0x6399, 0x11EC], "require": require}
    assert why in run(Path(sys.executable), settings, environment)["error"]


def test_an_openssl_without_these_groups_is_told_of(interpreter: Interpreter) -> None:
    if interpreter.openssl_version_info[:2] >= (3, 5):
        pytest.skip("this OpenSSL is not old")
    answer = run(interpreter.executable, PQ, {})
    assert "would still offer groups 0x001d" in answer["error"]


@pytest.mark.parametrize("shape", ["complete", "named otherwise", "empty", "absent", "odd name"])
def test_the_configuration_in_force_stays(graft: Graft, tmp_path: Path, shape: str) -> None:
    folder = tmp_path / ("a $b 'c' #d" if shape == "odd name" else "conf")
    folder.mkdir()
    conf = folder / "mine.cnf"
    lines = "Groups = secp521r1\nOptions = -SessionTicket\nCiphersuites = TLS_AES_128_GCM_SHA256\n"
    name = "pqtls_openssl" if shape == "named otherwise" else "mine"
    if shape != "absent":
        text = f"openssl_conf={name}\n[{name}]\nssl_conf=its\n[its]\nsystem_default=d\n[d]\n{lines}[later]\nx=y\n"
        conf.write_text("" if shape == "empty" else text)
    environment = {**graft.apply({}), "OPENSSL_CONF": str(conf)}
    answer = run(Path(sys.executable), PQ, environment)
    assert answer["error"] == ""
    assert answer["groups"] == [0x11EC, 0x11EB]
    assert answer["child"]["OPENSSL_CONF"] == str(conf), "the user's own reaches children as before"
    assert answer["context"][1][:1] == answer["plain"][1][:1]
    no_versions = 0x04000000 | 0x10000000 | 0x08000000
    assert answer["context"][0] & ~no_versions == answer["plain"][0] & ~no_versions
    plain = run(Path(sys.executable), {}, graft.apply({}))
    assert (answer["plain"] != plain["plain"]) == (shape not in ("empty", "absent")), "the base says something"


@pytest.mark.parametrize("version", PYTHONS)
def test_the_same_by_a_file(graft: Graft, tmp_path: Path, version: str) -> None:
    interpreter = inspect_interpreter(PYTHONS[version], {})
    environment = graft.apply({})
    environment["OPENSSL_CONF"] = str(write_require_pq_conf(tmp_path, interpreter, environment))
    assert check_require_pq(PYTHONS[version], environment) == (0x11EC, 0x11EB, 0x11ED)


@pytest.mark.parametrize(
    "groups", ["x25519", "X25519MLKEM768:?x448", "DEFAULT", "DEFAULT:-x25519", "X25519Kyber768Draft00"]
)
def test_a_list_with_anything_classical_is_refused(groups: str, interpreter: Interpreter, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would still allow"):
        require_post_quantum_groups(groups)
    with pytest.raises(UsageError):
        write_require_pq_conf(tmp_path, interpreter, {}, groups)
    assert list(tmp_path.iterdir()) == []


def test_min_protocol_is_not_enough(graft: Graft, tmp_path: Path, interpreter: Interpreter) -> None:
    """The control: what the check is for. Debian's own Python honours MinProtocol, upstream's does not."""
    conf = tmp_path / "openssl.cnf"
    line = "Groups = X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024\nMinProtocol = TLSv1.3\n"
    conf.write_text(f"openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\n{line}")
    upstream = [path for path in PYTHONS.values() if ".pyenv" in str(path)]
    if not upstream:
        pytest.skip("no upstream Python here")
    with pytest.raises(UsageError, match=r"other versions than TLS 1\.3"):
        check_require_pq(upstream[0], {**graft.apply({}), "OPENSSL_CONF": str(conf)})
    if interpreter.openssl_version_info[:2] < (3, 5):
        with pytest.raises(UsageError, match="does not follow"):
            check_require_pq(interpreter.executable, {"OPENSSL_CONF": str(conf)})
