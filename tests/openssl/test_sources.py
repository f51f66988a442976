from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from pqtls.openssl.elf import parse_elf, read_elf
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.sources import SOURCE_VARIABLE, Source, find_sources
from tests.openssl.elf_files import make_elf


@pytest.fixture
def installed(source: Source, tmp_path: Path) -> Path:
    """A copy of the wheel's libraries in a site-packages of its own; returns that folder."""
    if source.is_named:
        pytest.skip("the source is a folder, not a wheel")
    site_packages = source.libcrypto.parents[1]
    folder = tmp_path / "site-packages"
    shutil.copytree(source.libcrypto.parent, folder / source.libcrypto.parent.name)
    info = next(site_packages.glob(source.origin.replace(" ", "-") + ".dist-info"))
    shutil.copytree(info, folder / info.name)
    return folder


def of_folder(interpreter: Interpreter, folder: Path) -> Source:
    changed = dataclasses.replace(interpreter, site_packages=(folder,))
    return next(each for each in find_sources(changed) if each.libssl.is_relative_to(folder))


def test_an_installed_wheel(source: Source) -> None:
    assert source.version_info >= (3, 5, 0)
    assert source.version.startswith("OpenSSL 3.")
    assert source.origin in source.description
    assert source.glibc_floor >= (2, 17)
    assert len(source.libssl_sha256) == len(source.libcrypto_sha256) == 64
    if source.version_info[:2] == (3, 5):
        assert source.is_lts
        assert source.supported_until == "2030-04-08"


def test_unchanged_copy_is_usable_and_a_changed_byte_is_not(installed: Path, interpreter: Interpreter) -> None:
    copy = of_folder(interpreter, installed)
    assert copy.is_usable, copy.rejected
    for path in (copy.libssl, copy.libcrypto):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        changed = of_folder(interpreter, installed)
        assert "does not match the RECORD" in changed.rejected
        assert not changed.is_usable
        path.write_bytes(data)


def test_a_wheel_without_record_is_rejected(installed: Path, interpreter: Interpreter) -> None:
    next(installed.glob("*.dist-info/RECORD")).unlink()
    assert "RECORD" in of_folder(interpreter, installed).rejected


def test_a_named_folder_comes_first(
    source: Source, interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lib"
    folder.mkdir()
    shutil.copy(source.libssl, folder / "libssl.so.3")
    shutil.copy(source.libcrypto, folder / "libcrypto.so.3")
    assert find_sources(interpreter, [tmp_path])[0].libssl == folder / "libssl.so.3"
    monkeypatch.setenv(SOURCE_VARIABLE, str(folder))
    first = find_sources(interpreter)[0]
    assert first.is_named
    assert first.is_usable


def test_the_systems_own_openssl_is_too_old(interpreter: Interpreter) -> None:
    if interpreter.libssl is None or interpreter.openssl_version_info[:2] >= (3, 5):
        pytest.skip("the system has OpenSSL 3.5")
    found = {each.origin: each for each in find_sources(interpreter, [interpreter.libssl.parent, Path("/nowhere")])}
    assert "has no ML-KEM" in found[str(interpreter.libssl.parent)].rejected
    assert "has no libssl.so.3" in found["/nowhere"].rejected


def test_other_machines_and_libcs_are_rejected(source: Source, interpreter: Interpreter) -> None:
    def reason(**changes: object) -> str:
        changed = dataclasses.replace(interpreter, **changes)  # type: ignore[arg-type]
        return next(each.rejected for each in find_sources(changed) if each.libssl == source.libssl)

    assert reason() == ""
    arm = parse_elf(make_elf(machine=183, interpreter="/lib/ld-linux-aarch64.so.1"))
    own = read_elf(source.libssl)
    musl = parse_elf(make_elf(bits=own.bits, machine=own.machine, interpreter="/lib/ld-musl-x86_64.so.1"))
    assert "aarch64" in reason(elf=arm)
    assert "musl" in reason(elf=musl)
    assert "no ELF" in reason(elf=None)
    assert "needs glibc 2." in reason(glibc=(2, 5))


def test_files_that_are_no_libraries(interpreter: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "libssl.so.3").write_bytes(b"x")
    (tmp_path / "libcrypto.so.3").write_bytes(make_elf())
    assert any("cannot be read as ELF" in each.rejected for each in find_sources(interpreter, [tmp_path]))
    (tmp_path / "libssl.so.3").write_bytes(make_elf())
    assert any("does not say which OpenSSL" in each.rejected for each in find_sources(interpreter, [tmp_path]))


def test_folders_that_may_not_be_read(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's site-packages are no reason to fail (root may look everywhere: simulated)."""

    def forbidden(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    changed = dataclasses.replace(interpreter, site_packages=(tmp_path / "closed" / "site-packages",))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    monkeypatch.setattr(Path, "is_dir", forbidden)
    monkeypatch.setattr(Path, "exists", forbidden)
    assert isinstance(find_sources(changed, [closed]), list)
    closed.chmod(0o700)
