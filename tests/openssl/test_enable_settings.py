"""`pqtls enable --groups` and `--require-pq`: what a program of the environment then does on the wire, unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pqtls.errors import CannotProveError, UsageError
from pqtls.openssl.enable import Request
from pqtls.openssl.graft import Graft
from tests.inject.conftest import Files, files, graft, interpreter, run_guarded, run_peer, shared_cache, source
from tests.openssl.venv_tools import ENVIRONMENT, disable_venv, enable_venv, hash_tree, make_venv, required, run

__all__ = ["files", "graft", "interpreter", "shared_cache", "source"]

OFFER = """
import json, os, ssl, struct, subprocess, sys
i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ssl.create_default_context().wrap_bio(i, o, server_hostname="x.example")
try: tls.do_handshake()
except ssl.SSLWantReadError: pass
hello = o.read()[5:]
place = 38 + 1 + hello[38]
place += 2 + struct.unpack_from("!H", hello, place)[0]
place += 1 + hello[place] + 2
found = {}
while place < len(hello):
    kind, size = struct.unpack_from("!HH", hello, place)
    found[kind] = hello[place + 4 : place + 4 + size]
    place += 4 + size
groups = struct.unpack(f"!{len(found[10]) // 2 - 1}H", found[10][2:])
dump = "import os, json; print(json.dumps(dict(os.environ)))"
child = json.loads(subprocess.run([sys.executable, "-I", "-S", "-c", dump], stdout=subprocess.PIPE).stdout)
print(json.dumps({"groups": groups, "versions": found[43].hex(), "own": dict(os.environ), "child": child}))
"""


def request(groups: str = "", *, require_pq: bool = False) -> Request:
    return required(groups, require_pq=require_pq)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_venv(tmp_path / "venv")


def offer(root: Path, environment: Mapping[str, str] = ENVIRONMENT) -> dict[str, object]:
    done = run(root, "-c", OFFER, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("groups", "require_pq", "codes", "versions"),
    [
        ("", True, [0x11EC, 0x11EB, 0x11ED], "020304"),
        ("level5", False, [0x11ED, 0x0202], "020304"),
        ("mlkem1024", True, [0x0202], "020304"),
        ("X25519MLKEM768:x25519", False, [0x11EC, 0x001D], "0403040303"),
    ],
)
def test_what_is_offered(root: Path, groups: str, require_pq: bool, codes: list[int], versions: str) -> None:
    before = hash_tree(root)
    enable_venv(root, request(groups, require_pq=require_pq))
    found = offer(root)
    assert found["groups"] == codes
    assert found["versions"] == versions
    assert {**dict(found["child"]), "LC_CTYPE": ""} == {**ENVIRONMENT, "LC_CTYPE": ""}, "no child can tell"  # type: ignore[call-overload]
    disable_venv(root)
    assert hash_tree(root) == before


@pytest.mark.parametrize("kind", ["classical", "tls12", "hybrid"])
def test_nothing_classical_passes(root: Path, graft: Graft, files: Files, tmp_path: Path, kind: str) -> None:
    """Thirty-four ways to use TLS, by a program that knows nothing of pqtls; its control is the same, not required."""
    enable_venv(root)
    with run_peer(kind, tmp_path, graft.apply({}), files) as peer:
        _, received = run_guarded(root / "bin" / "python", "none", peer, dict(ENVIRONMENT), files)
        assert received == [6] * 5, "not required: everything is delivered"
        assert peer.ask("count")["bytes"] >= 6 * 20
        enable_venv(root, request(require_pq=True))
        answer, received = run_guarded(root / "bin" / "python", "none", peer, dict(ENVIRONMENT), files)
        seen = peer.ask("count")
    if kind == "hybrid":
        assert received == [6] * 5
        assert seen["bytes"] >= 6 * 18
        return
    assert received == [0] * 5
    assert seen["bytes"] == seen["handshakes"] == seen["certificates"] == 0
    assert any("NotPostQuantum" in str(value) for value in answer.values())


def test_a_change_of_mind(root: Path) -> None:
    _, first = enable_venv(root, request("level5"))
    _, again = enable_venv(root, request("level5"))
    _, other = enable_venv(root, request())
    assert (first.outcome, again.outcome, other.outcome) == ("enabled", "unchanged", "enabled")
    assert offer(root)["groups"] != [0x11ED, 0x0202]


def test_what_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="would still allow x25519"):
        request("X25519MLKEM768:x25519", require_pq=True)
    with pytest.raises(UsageError, match="no group that pqtls knows"):
        request("nosuch")
    before = hash_tree(root)
    with pytest.raises(CannotProveError) as error:
        enable_venv(root, request("x25519"))
    assert "with ML-KEM in it, and first" in error.value.next_step
    assert hash_tree(root) == before
