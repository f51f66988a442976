from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pqtls.openssl import loader
from pqtls.openssl.elf import ElfError
from pqtls.openssl.graft import Graft
from pqtls.openssl.loader import list_mapped, read_loader_cache
from tests.openssl.elf_files import make_elf

PROGRAMS = ("curl", "wget", "git", "psql", "openssl", "ssh", "nginx", "ls", "ruby", "haproxy", "node")


def found(program: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    return {each.name: str(each.path) for each in list_mapped(program, environment or {})[1:]}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("is_grafted", [False, True])
def test_it_finds_what_the_loader_finds(name: str, is_grafted: bool, graft: Graft) -> None:
    """Against glibc's own loader, for whatever is installed here."""
    program, ldd = shutil.which(name, path="/usr/bin:/usr/sbin:/bin"), shutil.which("ldd")
    if program is None or ldd is None or Path(program).read_bytes()[:4] != b"\x7fELF":
        pytest.skip(f"{name} is not installed, or no ELF file, or there is no ldd")
    environment = graft.apply({"PATH": "/usr/bin:/bin"}) if is_grafted else {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([ldd, program], env=environment, capture_output=True, text=True, check=False)
    words = [line.split() for line in done.stdout.splitlines()]
    theirs = {line[0]: line[2] for line in words if len(line) > 3 and line[1] == "=>"}
    ours = {key: path for key, path in found(Path(program), environment).items() if not key.startswith("ld-linux")}
    assert theirs
    assert ours == theirs


def put(folder: Path, name: str, **facts: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(make_elf(**facts))  # type: ignore[arg-type]
    return folder / name


class TestOrder:
    """DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH: who wins."""

    def libraries(self, tmp_path: Path) -> None:
        for each in ("rpath", "named", "runpath"):
            put(tmp_path / each, "libx.so.1", soname="libx.so.1")

    @pytest.mark.parametrize(
        ("facts", "is_named", "winner"),
        [
            ({"rpath": "$ORIGIN/rpath"}, True, "rpath"),
            ({"runpath": "${ORIGIN}/runpath"}, True, "named"),
            ({"runpath": "$ORIGIN/runpath"}, False, "runpath"),
            ({"rpath": "$ORIGIN/rpath", "runpath": "$ORIGIN/runpath"}, True, "named"),
            ({"rpath": "$ORIGIN/absent:$ORIGIN/rpath"}, False, "rpath"),
            ({}, True, "named"),
            ({}, False, None),
        ],
    )
    def test_who_wins(self, tmp_path: Path, facts: dict[str, str], is_named: bool, winner: str | None) -> None:
        self.libraries(tmp_path)
        program = put(tmp_path, "program", needed=["libx.so.1"], **facts)
        environment = {"LD_LIBRARY_PATH": f"/absent:{tmp_path}/named"} if is_named else {}
        expected = str(tmp_path / winner / "libx.so.1") if winner else "None"
        assert found(program, environment) == {"libx.so.1": expected}

    def test_a_librarys_need_is_met_by_the_programs_rpath(self, tmp_path: Path) -> None:
        self.libraries(tmp_path)
        put(tmp_path / "rpath", "liba.so", needed=["libx.so.1"])
        put(tmp_path / "rpath", "libb.so", needed=["libx.so.1"], runpath="$ORIGIN/../runpath")
        for name, winner in (("liba.so", "rpath"), ("libb.so", "runpath")):
            program = put(tmp_path, "program", needed=[name], rpath="$ORIGIN/rpath")
            where = Path(found(program)["libx.so.1"]).resolve()
            assert where == tmp_path / winner / "libx.so.1"

    def test_another_machines_file_is_passed_over(self, tmp_path: Path) -> None:
        put(tmp_path / "32", "libx.so.1", bits=32, machine=3)
        put(tmp_path / "arm", "libx.so.1", machine=183)
        put(tmp_path / "right", "libx.so.1")
        (tmp_path / "text").mkdir()
        (tmp_path / "text" / "libx.so.1").write_text("no library")
        program = put(tmp_path, "program", needed=["libx.so.1"])
        search = ":".join(f"{tmp_path}/{each}" for each in ("32", "arm", "text", "right"))
        assert found(program, {"LD_LIBRARY_PATH": search}) == {"libx.so.1": f"{tmp_path}/right/libx.so.1"}

    def test_what_is_there_by_its_soname_is_not_searched_again(self, tmp_path: Path) -> None:
        put(tmp_path, "first.so", soname="libx.so.1")
        put(tmp_path, "libx.so.1")
        program = put(tmp_path, "program", needed=["first.so", "libx.so.1"])
        assert found(program, {"LD_LIBRARY_PATH": str(tmp_path)}) == {"first.so": f"{tmp_path}/first.so"}

    def test_a_path_is_no_name(self, tmp_path: Path) -> None:
        put(tmp_path / "d", "libx.so.1")
        program = put(tmp_path, "program", needed=["$ORIGIN/d/libx.so.1"])
        assert list(found(program).values()) == [f"{tmp_path}/d/libx.so.1"]


class TestHostile:
    def test_circles_end(self, tmp_path: Path) -> None:
        put(tmp_path, "liba.so", needed=["libb.so", "liba.so"])
        put(tmp_path, "libb.so", needed=["liba.so"])
        program = put(tmp_path, "program", needed=["liba.so"], rpath="$ORIGIN")
        assert sorted(found(program)) == ["liba.so", "libb.so"]

    def test_there_is_a_limit_to_files(self, tmp_path: Path) -> None:
        program = put(tmp_path, "program", needed=[f"lib{number}.so" for number in range(600)])
        with pytest.raises(ElfError, match="512 libraries"):
            list_mapped(program, {})

    def test_there_is_a_limit_to_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loader, "_MAX_BYTES", 10)
        with pytest.raises(ElfError, match="more than 10 bytes"):
            list_mapped(put(tmp_path, "program"), {})

    def test_a_fifo_is_no_library(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "libx.so.1")
        program = put(tmp_path, "program", needed=["libx.so.1"])
        assert found(program, {"LD_LIBRARY_PATH": str(tmp_path)}) == {"libx.so.1": "None"}
        with pytest.raises(ElfError, match="no file"):
            list_mapped(tmp_path / "libx.so.1", {})

    @pytest.mark.parametrize("cut", [0, 10, 40, 47, 60, 90])
    def test_a_damaged_cache_is_no_cache(self, tmp_path: Path, cut: int) -> None:
        strings = b"libx.so.1\0/lib/libx.so.1\0"
        entry = struct.pack("=iIIIQ", 0x303, 72, 82, 0, 0)
        whole = b"glibc-ld.so.cache1.1" + struct.pack("=II", 1, len(strings)) + bytes(20) + entry + strings
        path = tmp_path / "cache"
        path.write_bytes(whole)
        assert read_loader_cache(path) == {"libx.so.1": [Path("/lib/libx.so.1")]}
        path.write_bytes(whole[:cut])
        assert read_loader_cache(path).get("libx.so.1", []) == []
        path.write_bytes(whole[:20] + struct.pack("=I", 0xFFFFFFFF) + whole[24:48] + b"\xff" * 24)
        assert read_loader_cache(path) == {}

    def test_no_cache(self, tmp_path: Path) -> None:
        assert read_loader_cache(tmp_path / "absent") == {}
