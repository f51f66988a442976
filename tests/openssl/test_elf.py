from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqtls.openssl.dynstr import rename_strings
from pqtls.openssl.elf import ElfError, parse_elf, read_elf
from tests.openssl.elf_files import make_elf

MUSL = make_elf(interpreter="/lib/ld-musl-x86_64.so.1", needed=["libssl.so.3"], soname="a.so.1", rpath="$ORIGIN")


def mapped_libraries() -> list[Path]:
    import ssl  # noqa: F401 - maps libssl

    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    paths = {"/" + line.partition("/")[2] for line in lines if ".so" in line and "(deleted)" not in line}
    return sorted(Path(path) for path in paths)


def test_every_library_of_this_process_reads_as_readelf_does() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf here")
    libraries = mapped_libraries()[:25]
    assert libraries
    for path in libraries:
        command = [readelf, "-dW", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        elf = read_elf(path)
        assert [entry.value for entry in elf.needed] == re.findall(r"\(NEEDED\).*\[(.*)\]", text), path
        assert ([elf.soname.value] if elf.soname else []) == re.findall(r"\(SONAME\).*\[(.*)\]", text), path
        assert ([elf.runpath.value] if elf.runpath else []) == re.findall(r"\(RUNPATH\).*\[(.*)\]", text), path


def test_program_and_its_libc() -> None:
    elf = read_elf(Path(sys.executable))
    assert elf.libc == ("musl" if "musl" in (elf.interpreter or "") else "glibc")
    assert elf.bits == (64 if sys.maxsize > 2**32 else 32)
    assert elf.is_little_endian == (sys.byteorder == "little")


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_classes_and_byte_orders(bits: int, order: str) -> None:
    data = make_elf(
        bits=bits, order=order, machine=22, interpreter="/lib/ld64.so.1", needed=["libssl.so.3", "libc.so.6"],
        soname="libx.so.1", rpath="/opt/lib:$ORIGIN", runpath="/run",
    )  # fmt: skip
    elf = parse_elf(data)
    assert (elf.bits, elf.is_little_endian, elf.machine_name) == (bits, order == "<", f"s390x, {bits}-bit")
    assert [entry.value for entry in elf.needed] == ["libssl.so.3", "libc.so.6"]
    assert elf.soname is not None
    assert data[elf.soname.offset :].startswith(b"libx.so.1\0")
    assert elf.rpath is not None
    assert elf.runpath is not None
    assert (elf.rpath.value, elf.runpath.value, elf.libc) == ("/opt/lib:$ORIGIN", "/run", "glibc")


def test_musl_is_told_by_its_loader() -> None:
    assert parse_elf(MUSL).libc == "musl"
    assert parse_elf(make_elf(needed=["libc.musl-x86_64.so.1"])).libc == "musl"


def test_cut_off_at_every_byte_is_an_elf_error() -> None:
    for length in range(len(MUSL)):
        with pytest.raises(ElfError):
            parse_elf(MUSL[:length])


def test_no_elf_file_is_an_elf_error(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    for path in (tmp_path / "script", tmp_path / "absent", tmp_path):
        with pytest.raises(ElfError):
            read_elf(path)


@settings(max_examples=400, deadline=1000)
@given(st.lists(st.tuples(st.integers(4, len(MUSL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_damage_gives_a_result_or_the_one_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(MUSL)
    for offset, value in changes:
        data[offset] = value
    try:
        parse_elf(bytes(data))
        rename_strings(bytes(data), {"libssl.so.3": "x.so"})
    except ElfError:
        pass


def test_rename_keeps_the_size_and_refuses_what_does_not_fit() -> None:
    renamed = rename_strings(MUSL, {"libssl.so.3": "short.so", "not there": "x"})
    assert len(renamed) == len(MUSL)
    assert [entry.value for entry in parse_elf(renamed).needed] == ["short.so"]
    assert parse_elf(renamed).soname == parse_elf(MUSL).soname
    with pytest.raises(ElfError, match="longer"):
        rename_strings(MUSL, {"libssl.so.3": "libssl-longer.so.3"})


def test_rename_refuses_a_shared_tail() -> None:
    # Linkers share tails: the soname "so.3" may point into the needed "libssl.so.3".
    data = bytearray(make_elf(needed=["libssl.so.3"], soname="so.3"))
    needed_index, soname_index = 1, 1 + len(b"libssl.so.3\0")
    entry = bytes([14, *bytes(7), soname_index, *bytes(7)])
    at = data.index(entry)
    data[at + 8] = needed_index + len("libssl.")
    assert parse_elf(bytes(data)).soname is not None
    with pytest.raises(ElfError, match="shares the end"):
        rename_strings(bytes(data), {"libssl.so.3": "x.so.3"})
    with pytest.raises(ElfError, match="is the end of"):
        rename_strings(bytes(data), {"so.3": "x.3"})
