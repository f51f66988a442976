from __future__ import annotations

import dataclasses
import shutil
from datetime import date
from pathlib import Path

import pytest

from pqtls.openssl.elf import read_elf
from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.listing import Entry, Listing, list_openssl
from pqtls.openssl.sources import Source, explain_rank, find_sources
from pqtls.openssl.ways import choose_way
from pqtls.report.openssl_list import render_listing
from tests.schemas import validate


def lines_of(listing: Listing, today: str = "2026-11-23") -> list[str]:
    return ["".join(text for text, _ in line) for line in render_listing(listing, date.fromisoformat(today))]


@pytest.fixture
def old(interpreter: Interpreter) -> Interpreter:
    if interpreter.openssl_version_info[:2] >= (3, 5):
        pytest.skip("the interpreter's own OpenSSL has ML-KEM")
    return interpreter


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def entry_of(listing: Listing, kind: str) -> Entry:
    return next(entry for entry in listing.entries if entry.kind == kind)


def test_it_lists_what_every_other_verb_takes(old: Interpreter) -> None:
    listing = list_openssl(old, environment={})
    way = choose_way("auto", old, environment={})
    assert listing.way == way
    assert way.graft is not None
    (taken,) = (entry for entry in listing.entries if entry.is_taken)
    assert taken.libssl == str(way.graft.source.libssl)
    assert taken.reason == way.reason
    assert validate(listing.to_json()) == "openssl-list-1"
    own = listing.entries[0]
    assert (own.kind, own.is_taken, own.is_usable, own.version) == ("own", False, False, old.openssl_version)
    assert "offers no ML-KEM" in own.reason
    assert old.libcrypto is not None
    assert own.glibc_floor == ".".join(map(str, max(read_elf(old.libcrypto).glibc_floor, (2, 3)))) or own.glibc_floor


def test_a_wheels_facts(old: Interpreter, source: Source) -> None:
    entry = entry_of(list_openssl(old, environment={}), "wheel")
    assert entry.version == source.version
    assert entry.is_as_recorded
    assert entry.glibc_floor == ".".join(map(str, source.glibc_floor))
    assert source.text is not None
    assert entry.openssl_dir == source.text.openssl_dir
    if source.version_info[:2] == (3, 5):
        assert (entry.is_lts, entry.supported_until) == (True, "2030-04-08")


def test_a_named_folder_is_taken_and_the_wheel_told_why_not(old: Interpreter, graft: Graft) -> None:
    listing = list_openssl(old, [graft.folder], environment={})
    folder, wheel = entry_of(listing, "folder"), entry_of(listing, "wheel")
    assert (folder.is_taken, folder.is_as_recorded) == (True, None)
    assert (wheel.is_taken, wheel.is_usable) == (False, True)
    assert "was named, and then nothing else is taken" in wheel.reason
    validate(listing.to_json())


def test_what_cannot_be_taken_says_why(old: Interpreter, tmp_path: Path) -> None:
    assert old.libssl is not None
    listing = list_openssl(old, [old.libssl.parent], environment={})
    folder = entry_of(listing, "folder")
    assert not folder.is_usable
    assert "has no ML-KEM" in folder.reason
    # A folder was named, and so nothing but it: then nothing is taken, and that is said.
    assert listing.way is None
    assert not [entry for entry in listing.entries if entry.is_taken]
    assert "no OpenSSL found here can stand in" in listing.reason
    lines = lines_of(listing)
    assert any(line.startswith("none ") for line in lines)
    assert any(line.startswith("next ") for line in lines)
    validate(listing.to_json())
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "libssl.so.3").write_bytes(b"no library")
    (broken / "libcrypto.so.3").write_bytes(b"no library")
    entry = entry_of(list_openssl(old, [broken], environment={}), "folder")
    assert (entry.version, entry.is_lts, entry.glibc_floor) == ("", None, "")
    assert "cannot be read as ELF" in entry.reason


def test_a_wheel_that_was_changed(old: Interpreter, source: Source, tmp_path: Path) -> None:
    if source.kind != "wheel":
        pytest.skip("the source is no wheel")
    packages = tmp_path / "site-packages"
    shutil.copytree(source.libcrypto.parent, packages / source.libcrypto.parent.name)
    info = next(source.libcrypto.parents[1].glob(source.origin.replace(" ", "-") + ".dist-info"))
    shutil.copytree(info, packages / info.name)
    copy = next(packages.glob("*.libs/libssl*"))
    copy.write_bytes(copy.read_bytes() + b"\0")
    listing = list_openssl(dataclasses.replace(old, site_packages=(packages,)), environment={})
    entry = next(entry for entry in listing.entries if entry.libssl == str(copy))
    assert (entry.is_as_recorded, entry.is_usable) == (False, False)
    assert "does not match the RECORD" in entry.reason


def test_a_place_that_is_too_short_is_told_before(old: Interpreter, source: Source) -> None:
    """OPENSSLDIR of the interpreter does not fit: rejected in the list, so that another source is taken."""
    changed = dataclasses.replace(old, capath="/a" * 60 + "/certs", cafile="/a" * 60 + "/cert.pem")
    found = next(each for each in find_sources(changed) if each.libssl == source.libssl)
    assert "cannot keep the interpreter's CA certificates" in found.rejected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_named": True}, "was named"),
        ({"version_info": (3, 5, 99)}, "is newer"),
        ({"kind": "build"}, "for this very purpose"),
        ({}, "was found first"),
    ],
)
def test_the_order_is_explained_by_the_order_itself(source: Source, changes: dict[str, object], words: str) -> None:
    wheel = dataclasses.replace(source, kind="wheel", is_named=False, version_info=(3, 5, 9))
    assert words in explain_rank(wheel, dataclasses.replace(wheel, **changes))  # type: ignore[arg-type]


def test_long_term_support_before_newer(source: Source) -> None:
    lts = dataclasses.replace(source, is_named=False, version_info=(3, 5, 9))
    newer = dataclasses.replace(lts, version_info=(3, 6, 5))
    assert "long-term support" in explain_rank(newer, lts)
    assert newer.supported_until == ""


def test_the_table() -> None:
    """Support as it is known: a date, past or not, or unknown; never a guess."""

    def entry(**changes: object) -> Entry:
        given = Entry(
            kind="wheel", origin="x 1", version="OpenSSL 3.5.9 29 Sep 2026", is_lts=True, supported_until="2030-04-08",
            glibc_floor="2.17", machine="x86_64, 64-bit", openssl_dir="/etc/ssl", libssl="/x", is_as_recorded=True,
            is_usable=True, is_taken=False, reason="So.",
        )  # fmt: skip
        return dataclasses.replace(given, **changes)  # type: ignore[arg-type]

    listing = Listing(
        interpreter=None,  # type: ignore[arg-type]
        entries=(
            entry(kind="own", version="OpenSSL 3.0.19 27 Jan 2026", supported_until="2026-09-07", is_as_recorded=None),
            entry(is_taken=True, openssl_dir="/evil\x1b[2J"),
            entry(version="OpenSSL 3.6.5 29 Sep 2026", is_lts=False, supported_until=""),
            entry(version="", is_lts=None, supported_until="", glibc_floor="", machine="", openssl_dir=""),
        ),
        way=object(),  # type: ignore[arg-type]
        reason="",
        next_step="",
    )
    lines = lines_of(listing)
    assert "LTS, ended 2026-09-07" in lines[1]
    assert lines[2].startswith("* wheel")
    assert "LTS, until 2030-04-08" in lines[2]
    assert "\x1b" not in lines[2]
    assert "not LTS, end unknown" in lines[3]
    assert "unknown" in lines[4]
    assert "LTS, until 2026-09-07" in lines_of(listing, "2026-09-07")[1]
    assert [line.split(" ")[0] for line in lines[6:]] == ["not", "taken", "not", "not"]
