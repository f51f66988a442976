"""`pqtls enable` on a Python whose own OpenSSL has ML-KEM: held to groups or to post-quantum alone, without a graft.

The stand-in for such a Python: the one of these tests with an OpenSSL 3.5 that its user put into LD_LIBRARY_PATH. It
is what the interpreter finds by itself, in no folder that pqtls knows as its own; without the variable the same
environment's OpenSSL is one that has changed. Run on Debian 13, these tests have a real one, and skip what needs none.
"""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest

from pqtls.errors import CannotProveError
from pqtls.openssl import enable as enable_module
from pqtls.openssl.enable import Request
from pqtls.openssl.graft import Graft
from pqtls.openssl.probe import probe_mlkem
from pqtls.openssl.sources import Source
from pqtls.openssl.status import VenvStatus, examine_venv
from pqtls.openssl.venv import find_venv
from pqtls.report.status import render_status
from tests.inject.conftest import Files, files, graft, interpreter, run_guarded, run_peer, shared_cache, source
from tests.openssl.test_enable_settings import offer, request
from tests.openssl.venv_tools import (
    ENVIRONMENT,
    VERSION,
    disable_venv,
    enable_venv,
    hash_tree,
    make_venv,
    run,
    says_again,
)
from tests.schemas import validate

__all__ = ["files", "graft", "interpreter", "shared_cache", "source"]

DEFAULT_OFFER = [0x11EC, 0x001D, 0x0017, 0x001E, 0x0018, 0x0019, 0x0100, 0x0101]
HYBRID = [0x11EC, 0x11EB, 0x11ED]


@pytest.fixture
def native(own_libraries: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "LD_LIBRARY_PATH": str(own_libraries)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_venv(tmp_path / "venv")


@pytest.fixture
def without_mlkem(root: Path) -> dict[str, str]:
    """The same environment, once its OpenSSL has none."""
    if probe_mlkem(root / "bin" / "python", ENVIRONMENT).has_mlkem:
        pytest.skip("the OpenSSL of this machine's Python has ML-KEM")
    return dict(ENVIRONMENT)


def examine(root: Path, environment: dict[str, str]) -> VenvStatus:
    status = examine_venv(find_venv(root, environment), environment)
    validate(status.to_json())
    return status


@pytest.mark.parametrize(
    ("groups", "require_pq", "codes", "versions"),
    [
        ("", True, HYBRID, "020304"),
        ("hybrid-only", False, HYBRID, "020304"),
        ("level5", True, [0x11ED, 0x0202], "020304"),
        ("X25519MLKEM768:x25519", False, [0x11EC, 0x001D], "0403040303"),
    ],
)
def test_held_and_released(
    root: Path, native: dict[str, str], groups: str, require_pq: bool, codes: list[int], versions: str
) -> None:
    before = hash_tree(root)
    assert offer(root, native)["groups"] == DEFAULT_OFFER, "the control: not held yet"
    _, done = enable_venv(root, request(groups, require_pq=require_pq), native)
    assert done.outcome == "enabled"
    assert not list(root.rglob("*.so*")), "there is no graft"
    found = offer(root, native)
    assert (found["groups"], found["versions"]) == (codes, versions)
    assert {**dict(found["child"]), "LC_CTYPE": ""} == {**native, "LC_CTYPE": ""}, "no child can tell"  # type: ignore[call-overload]
    status = examine(root, native)
    assert (status.state, status.exit_code, status.findings) == ("native", 0, ())
    assert status.to_json()["graft"] is None
    assert len(status.to_json()["held"]["offers"]) == len(codes)
    text = "\n".join(render_status(status))
    assert "native" in text.partition("\n")[0]
    assert ("post-quantum is required" in text) is require_pq
    assert enable_venv(root, request(groups, require_pq=require_pq), native)[1].outcome == "unchanged"
    disable_venv(root)
    assert hash_tree(root) == before
    assert offer(root, native)["groups"] == DEFAULT_OFFER


def test_without_options_there_is_nothing_to_do_and_nothing_left(root: Path, native: dict[str, str]) -> None:
    """The options are the whole of what is asked for, every time; that something was taken away is said."""
    before = hash_tree(root)
    assert enable_venv(root, request(), native)[1].outcome == "native"
    enable_venv(root, request(require_pq=True), native)
    _, done = enable_venv(root, request("level5"), native)
    assert "no longer held to" in done.detail
    _, done = enable_venv(root, request(), native)
    assert (done.outcome, done.manifest) == ("released", None)
    assert "no longer held to what it was before: SecP384r1MLKEM1024 / MLKEM1024" in done.detail
    assert hash_tree(root) == before
    assert examine(root, native).state == "native"


@pytest.mark.parametrize("kind", ["classical", "tls12", "hybrid"])
def test_nothing_classical_passes(
    root: Path, graft: Graft, files: Files, native: dict[str, str], tmp_path: Path, kind: str
) -> None:
    with run_peer(kind, tmp_path, graft.apply({}), files) as peer:
        _, received = run_guarded(root / "bin" / "python", "none", peer, native, files)
        assert received == [6] * 5, "the control: everything is delivered"
        enable_venv(root, request(require_pq=True), native)
        peer.ask("count")
        answer, received = run_guarded(root / "bin" / "python", "none", peer, native, files)
        seen = peer.ask("count")
    if kind == "hybrid":
        assert received == [6] * 5
        return
    assert received == [0] * 5
    assert seen["bytes"] == seen["handshakes"] == seen["certificates"] == 0
    assert any("NotPostQuantum" in str(value) for value in answer.values())


class TestItsOpensslChanged:
    def test_required(self, root: Path, native: dict[str, str], without_mlkem: dict[str, str]) -> None:
        enable_venv(root, request(require_pq=True), native)
        done = run(root, "-c", "import ssl", **without_mlkem)
        assert done.returncode == 1
        assert "pqtls: post-quantum TLS is required here, but" in done.stderr
        assert says_again(done.stderr, root, "--require-pq")
        status = examine(root, without_mlkem)
        assert (status.state, status.exit_code) == ("stepped-aside", 1)
        assert "unheld" not in "\n".join(render_status(status))
        enable_venv(root, request(require_pq=True), without_mlkem)  # as the line says: a graft now
        assert examine(root, without_mlkem).state == "active"
        enable_venv(root, request(require_pq=True), native)  # and back
        assert examine(root, native).state == "native"

    @pytest.mark.parametrize("groups", ["hybrid-only", "X25519MLKEM768:x25519"])
    def test_not_required(self, root: Path, native: dict[str, str], without_mlkem: dict[str, str], groups: str) -> None:
        enable_venv(root, request(groups), native)
        done = run(root, "-c", VERSION, **without_mlkem)
        assert done.returncode == 0
        assert done.stdout.strip() == ssl.OPENSSL_VERSION
        assert done.stderr.startswith("pqtls: openssl_settings could not be installed")
        assert done.stderr.count("\n") == 1
        status = examine(root, without_mlkem)
        assert (status.state, status.exit_code) == ("stepped-aside", 1)

    def test_an_update_that_keeps_mlkem_changes_nothing(
        self, root: Path, native: dict[str, str], own_libraries: Path, tmp_path: Path
    ) -> None:
        enable_venv(root, request(require_pq=True), native)
        for path in shutil.copytree(own_libraries, tmp_path / "updated").iterdir():
            path.write_bytes(path.read_bytes() + b"\0")
        updated = {**native, "LD_LIBRARY_PATH": str(tmp_path / "updated")}
        assert offer(root, updated)["groups"] == HYBRID
        assert examine(root, updated).exit_code == 0


class TestDamage:
    def test_the_loader_is_gone(self, root: Path, native: dict[str, str]) -> None:
        enable_venv(root, request(require_pq=True), native)
        shutil.rmtree(next(root.glob("lib/python*/site-packages/_pqtls_graft_*")))
        done = run(root, "-c", "import ssl", **native)
        assert done.returncode == 1
        assert says_again(done.stderr, root, "--require-pq")
        assert examine(root, native).exit_code == 1

    def test_a_plugin_was_changed(self, root: Path, native: dict[str, str]) -> None:
        enable_venv(root, request(require_pq=True), native)
        guard = next(root.glob("lib/python*/site-packages/_pqtls_graft_*/guard.py"))
        guard.write_text("def install(ssl, settings): pass\n")
        for path in guard.parent.glob("__pycache__/guard.*"):
            path.unlink()
        status = examine(root, native)
        assert status.exit_code == 1
        assert any("guard.py has other contents" in each for each in status.findings)
        assert any("The guard is not in place" in each for each in status.findings)
        enable_venv(root, request(require_pq=True), native)
        assert examine(root, native).exit_code == 0

    def test_a_pth_that_imports_ssl_first(self, root: Path, native: dict[str, str]) -> None:
        (next(root.glob("lib/python*/site-packages")) / "00-earlier.pth").write_text("import ssl\n")
        enable_venv(root, request(require_pq=True), native)
        assert offer(root, native)["groups"] == HYBRID
        assert examine(root, native).exit_code == 0


class TestAnOpensslThatCannotBeTold:
    """Where OpenSSL is linked in and exports no names, as in uv's Pythons."""

    @pytest.fixture(autouse=True)
    def obstacle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(enable_module, "find_settings_obstacle", lambda *_: "undefined symbol: NCONF_new")

    def test_the_guard_alone(
        self, root: Path, native: dict[str, str], graft: Graft, files: Files, tmp_path: Path
    ) -> None:
        _, done = enable_venv(root, request(require_pq=True), native)
        assert done.manifest is not None
        assert "openssl_settings" not in done.manifest.plugins
        assert offer(root, native)["groups"] == DEFAULT_OFFER
        status = examine(root, native)
        assert (status.state, status.exit_code) == ("native", 0)
        assert "by the guard alone" in "\n".join(render_status(status))
        with run_peer("classical", tmp_path, graft.apply({}), files) as peer:
            _, received = run_guarded(root / "bin" / "python", "none", peer, native, files)
            assert received == [0] * 5
            assert peer.ask("count")["bytes"] == 0

    @pytest.mark.parametrize("require_pq", [False, True])
    def test_a_list_of_the_users_own_is_refused(self, root: Path, native: dict[str, str], require_pq: bool) -> None:
        before = hash_tree(root)
        with pytest.raises(CannotProveError, match="cannot be held to a list of groups: undefined symbol"):
            enable_venv(root, request("hybrid-only", require_pq=require_pq), native)
        assert hash_tree(root) == before


def test_what_openssl_does_not_know_is_refused(root: Path, native: dict[str, str]) -> None:
    before = hash_tree(root)
    with pytest.raises(CannotProveError):
        enable_venv(root, request("X25519Kyber768Draft00:X25519MLKEM768"), native)
    with pytest.raises(CannotProveError):
        enable_venv(root, request("x25519"), native)
    assert hash_tree(root) == before


def test_after_a_graft(root: Path, native: dict[str, str], without_mlkem: dict[str, str], source: Source) -> None:
    """The distribution's update brought ML-KEM: the graft has stepped aside, and the next enable takes it out."""
    enable_venv(root, Request(), without_mlkem)
    assert enable_venv(root, request(require_pq=True), native)[1].outcome == "enabled"
    assert offer(root, native)["groups"] == HYBRID
    enable_venv(root, request(require_pq=True), native)
    enable_venv(root, request("level5"), native)
    assert not list(root.rglob("*.so.3")), "kept for one generation only"
