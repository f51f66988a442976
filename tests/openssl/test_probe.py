from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.probe import probe_mlkem
from pqtls.wire.groups import group_code, group_name


def test_grafted_is_post_quantum_and_the_system_is_what_it_is(graft: Graft, interpreter: Interpreter) -> None:
    grafted = probe_mlkem(sys.executable, graft.apply({}))
    assert grafted.has_mlkem
    assert grafted.group == "X25519MLKEM768"
    assert grafted.openssl_version == graft.source.version
    assert grafted.finding is not None
    assert grafted.finding.reason == "negotiated-hybrid"
    assert [group_name(share.group) for share in grafted.key_shares] == ["X25519MLKEM768", "x25519"]
    if interpreter.openssl_version_info[:2] < (3, 5):
        system = probe_mlkem(sys.executable, {})
        assert not system.has_mlkem
        assert not system.failure
        assert system.openssl_version == interpreter.openssl_version
        assert system.finding is not None
        assert system.finding.reason == "not-offered"
        assert group_code("X25519MLKEM768") not in system.offered_groups


def test_grafted_but_held_to_x25519_is_not_post_quantum(graft: Graft, tmp_path: Path) -> None:
    conf = tmp_path / "openssl.cnf"
    conf.write_text("openssl_conf=i\n[i]\nssl_conf=s\n[s]\nsystem_default=d\n[d]\nGroups=x25519\n")
    probe = probe_mlkem(sys.executable, {**graft.apply({}), "OPENSSL_CONF": str(conf)})
    assert not probe.has_mlkem
    assert probe.finding is not None
    assert probe.finding.reason == "not-offered"
    assert [group_name(group) for group in probe.offered_groups] == ["x25519"]
    assert "no ML-KEM" in probe.explanation


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 3", "code 3"), ("kill -ABRT $$", "SIGABRT"), ("echo pqtls-answer:{broken", "no answer")],
)
def test_a_failing_probe_is_a_value(tmp_path: Path, script: str, words: str) -> None:
    program = tmp_path / "python3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    probe = probe_mlkem(program, {})
    assert not probe.has_mlkem
    assert words in probe.explanation
    assert probe.offered_groups == ()
    assert not probe_mlkem(tmp_path / "absent", {}).has_mlkem


def test_verification_is_on() -> None:
    """The same handshake for another name must fail: else the probe's success would prove less than it says."""
    from pqtls.openssl.child import ask
    from pqtls.openssl.probe_child import HOST, PUBLIC_TEST_PEM, SCRIPT

    answers = []
    for script in (SCRIPT, SCRIPT.replace(f'server_hostname="{HOST}"', 'server_hostname="other.invalid"')):
        # /dev/fd would do too; a private file is what the product uses.
        import tempfile

        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(PUBLIC_TEST_PEM)
            file.flush()
            answers.append(ask(sys.executable, script, [file.name], {}).value)
    good, bad = answers
    assert good is not None
    assert bad is not None
    assert good["error"] == ""
    assert "certificate verify failed" in bad["error"].lower()


def test_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert probe_mlkem(sys.executable, {"UNUSED": "1"}).openssl_version
    assert list(tmp_path.iterdir()) == []
