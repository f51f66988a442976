from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from pqtls.errors import CannotProveError, UsageError
from pqtls.openssl import obstacles, ways
from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.obstacles import Obstacle, find_graft_obstacle, find_policy_obstacle
from pqtls.openssl.private_folder import cache_folder
from pqtls.openssl.ways import choose_way, explain_ways


@pytest.fixture
def old(interpreter: Interpreter) -> Interpreter:
    if interpreter.openssl_version_info[:2] >= (3, 5):
        pytest.skip("the interpreter's own OpenSSL has ML-KEM")
    return interpreter


def test_auto_grafts_where_native_cannot(old: Interpreter, graft: Graft) -> None:
    way = choose_way("auto", old, cache_folder=graft.folder.parent, environment={})
    assert (way.kind, way.openssl_version) == ("graft", graft.source.version)
    assert way.probe.has_mlkem
    assert way.graft == graft
    assert old.openssl_version in way.reason
    assert graft.source.origin in way.reason
    assert way.source_description == graft.source.description


def test_auto_is_native_where_that_works(old: Interpreter, graft: Graft, tmp_path: Path) -> None:
    """An interpreter with a new OpenSSL of its own: this one behind a wrapper that always grafts."""
    variables = " ".join(f"{name}='{value}'" for name, value in graft.apply({}).items())
    program = tmp_path / "python3"
    program.write_text(f'#!/bin/sh\n{variables} exec {sys.executable} "$@"\n')
    program.chmod(0o700)
    native = dataclasses.replace(old, executable=program)
    for requested in ("auto", "native"):
        way = choose_way(requested, native, cache_folder=tmp_path / "unused", environment={"X": "1"})
        assert way.kind == "native"
        assert way.openssl_version == graft.source.version
        assert way.apply({"X": "1"}) == {"X": "1"}
    assert not (tmp_path / "unused").exists()


def test_system_is_the_own_openssl_even_inside_a_graft(old: Interpreter, graft: Graft) -> None:
    inside = graft.apply({"LD_LIBRARY_PATH": "/own"})
    way = choose_way("system", old, cache_folder=graft.folder.parent, environment=inside)
    assert (way.kind, way.openssl_version) == ("system", old.openssl_version)
    assert not way.probe.has_mlkem
    assert way.apply(inside) == {"LD_LIBRARY_PATH": "/own"}


def test_nested_use_is_as_outside(old: Interpreter, graft: Graft) -> None:
    way = choose_way("auto", old, cache_folder=graft.folder.parent, environment=graft.apply({}))
    assert way.kind == "graft"
    assert way.apply(graft.apply({})) == graft.apply({})


def test_native_that_cannot_says_what_to_do(old: Interpreter) -> None:
    with pytest.raises(CannotProveError, match="offers no ML-KEM") as caught:
        choose_way("native", old, environment={})
    assert "--openssl graft" in caught.value.next_step


def test_there_is_no_other_way(interpreter: Interpreter) -> None:
    with pytest.raises(UsageError, match="no way 'none'"):
        choose_way("none", interpreter, environment={})


def test_no_source(old: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.endswith("-packages")])
    alone = dataclasses.replace(old, site_packages=())
    with pytest.raises(CannotProveError, match="no newer OpenSSL") as caught:
        choose_way("auto", alone, cache_folder=tmp_path, environment={})
    assert "pip install 'pqtls[openssl]'" in caught.value.next_step
    assert caught.value.exit_code == 3


def test_a_named_source_that_does_not_do_is_not_replaced_by_another(old: Interpreter, tmp_path: Path) -> None:
    with pytest.raises(CannotProveError, match=r"has no libssl\.so\.3"):
        choose_way("auto", old, [tmp_path], tmp_path, {})


@pytest.mark.parametrize(
    ("changes", "reason", "step"),
    [
        ({"linkage": "static"}, "statically", "uv python upgrade"),
        ({"linkage": "openssl-1.1"}, "ABI", "container"),
        ({"linkage": "libressl", "openssl_version": "LibreSSL 3.8.2"}, "LibreSSL", "container"),
        ({"linkage": "other", "openssl_version": "AWS-LC 1.40.0"}, "AWS-LC", "container"),
        ({"linkage": "no-ssl", "ssl_error": "ImportError: x"}, "no `ssl` module", "Python"),
        ({"has_blocking_rpath": True}, "LD_LIBRARY_PATH has no effect", "conda"),
        ({"platform": "darwin"}, "Linux only", "container"),
        ({"platform": "win32"}, "Linux only", "container"),
    ],
)
def test_what_cannot_be_grafted(
    old: Interpreter, tmp_path: Path, changes: dict[str, object], reason: str, step: str
) -> None:
    other = dataclasses.replace(old, **changes)  # type: ignore[arg-type]
    for requested in ("auto", "graft"):
        with pytest.raises(CannotProveError, match=reason) as caught:
            choose_way(requested, other, cache_folder=tmp_path / "cache", environment={})
        assert step in caught.value.next_step
    assert not (tmp_path / "cache").exists()


def test_musl_needs_libraries_for_musl(old: Interpreter, tmp_path: Path) -> None:
    from pqtls.openssl.elf import parse_elf
    from tests.openssl.elf_files import make_elf

    musl = dataclasses.replace(old, elf=parse_elf(make_elf(interpreter="/lib/ld-musl-x86_64.so.1")), glibc=())
    with pytest.raises(CannotProveError, match="built for glibc, the interpreter for musl") as caught:
        choose_way("auto", musl, cache_folder=tmp_path, environment={})
    assert "pqtls[openssl]" in caught.value.next_step


def test_policies(old: Interpreter, tmp_path: Path) -> None:
    assert find_policy_obstacle(tmp_path) is None
    (tmp_path / "etc" / "crypto-policies").mkdir(parents=True)
    policy = find_policy_obstacle(tmp_path)
    assert policy is not None
    assert "crypto-policies" in policy.reason
    assert find_graft_obstacle(old, tmp_path) is None  # asked for by name, it is the user's decision
    (tmp_path / "proc" / "sys" / "crypto").mkdir(parents=True)
    fips = tmp_path / "proc" / "sys" / "crypto" / "fips_enabled"
    fips.write_text("1\n")
    for obstacle in (find_policy_obstacle(tmp_path), find_graft_obstacle(old, tmp_path)):
        assert obstacle is not None
        assert "FIPS" in obstacle.reason
    fips.write_text("0\n")
    assert find_graft_obstacle(old, tmp_path) is None


def test_a_policy_refuses_what_nobody_asked_for_by_name(
    old: Interpreter, graft: Graft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "find_policy_obstacle", lambda: Obstacle("policy says no.", "Use another Python."))
    with pytest.raises(CannotProveError, match=r"offers no ML-KEM, but policy says no\."):
        choose_way("auto", old, cache_folder=graft.folder.parent, environment={})
    assert choose_way("graft", old, cache_folder=graft.folder.parent, environment={}).kind == "graft"
    report = explain_ways(old, cache_folder=graft.folder.parent, environment={})[1]
    assert (report.is_possible, report.reason) == (False, "Policy says no.")


def test_a_conf_that_forbids_it_is_named(old: Interpreter, graft: Graft, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text("openssl_conf=i\n[i]\nssl_conf=s\n[s]\nsystem_default=d\n[d]\nGroups=x25519\n")
    with pytest.raises(CannotProveError, match="no better") as caught:
        choose_way("auto", old, cache_folder=graft.folder.parent, environment={"OPENSSL_CONF": str(conf)})
    assert "OPENSSL_CONF" in caught.value.next_step


def test_all_three_explained(old: Interpreter, graft: Graft) -> None:
    reports = explain_ways(old, cache_folder=graft.folder.parent, environment={})
    assert [(each.kind, each.is_possible) for each in reports] == [
        ("native", False), ("graft", True), ("system", True),
    ]  # fmt: skip
    assert all(each.reason.endswith(".") for each in reports)
    assert reports[1].way is not None
    assert reports[1].way.probe.has_mlkem
    assert reports[0].next_step


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "pqtls" / "graft"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/pqtls/graft")
    assert obstacles.find_policy_obstacle(tmp_path) is None
