from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pqtls.errors import CannotProveError, UsageError
from pqtls.openssl.build_folders import find_openssl_dir
from pqtls.openssl.constants import Folders, fit_folders, folders_of, patch_constants
from pqtls.openssl.elf import read_elf
from pqtls.openssl.graft import Graft, is_intact, make_graft
from pqtls.openssl.interpreter import Interpreter, inspect_interpreter
from pqtls.openssl.library_text import read_library_text
from pqtls.openssl.probe import probe_mlkem
from pqtls.openssl.sources import Source
from pqtls.openssl.ways import choose_source

VERSIONS = Path.home() / ".pyenv" / "versions"
PYTHONS = [*sorted(str(path) for path in VERSIONS.glob("3.1[0-9].*/bin/python")), "/usr/bin/python3"]


def names(path: Path) -> list[str]:
    return [entry.value for entry in read_elf(path).needed]


def test_names_inside(graft: Graft) -> None:
    libssl, libcrypto = read_elf(graft.folder / "libssl.so.3"), read_elf(graft.folder / "libcrypto.so.3")
    assert libssl.soname is not None
    assert libcrypto.soname is not None
    assert (libssl.soname.value, libcrypto.soname.value) == ("libssl.so.3", "libcrypto.so.3")
    assert "libcrypto.so.3" in names(graft.folder / "libssl.so.3")
    own = [name.rsplit("-", 1)[0] for name in names(graft.source.libssl)]
    assert [name.rsplit(".so", 1)[0] for name in names(graft.folder / "libssl.so.3")] == [
        name.rsplit(".so", 1)[0] for name in own
    ]
    for name, original in (("libssl.so.3", graft.source.libssl), ("libcrypto.so.3", graft.source.libcrypto)):
        assert (graft.folder / name).stat().st_size == original.stat().st_size


def test_no_path_of_the_builder_is_left(graft: Graft, interpreter: Interpreter) -> None:
    assert graft.source.text is not None
    data = (graft.folder / "libcrypto.so.3").read_bytes()
    text = read_library_text(data)
    assert graft.source.text.openssl_dir.encode() not in data
    assert text.openssl_dir == folders_of(interpreter).openssl_dir
    assert text.modules_dir == graft.folders.modules_dir
    assert text.version == graft.source.version


@pytest.mark.parametrize("python", PYTHONS)
def test_every_python_here(python: str, source: Source, shared_cache: Path) -> None:
    if not Path(python).exists():
        pytest.skip(f"{python} is not here")
    found = inspect_interpreter(python, {})
    if found.linkage != "dynamic" or found.openssl_version_info[:2] >= (3, 5):
        pytest.skip(f"{python} has {found.openssl_version}, {found.linkage}")
    grafted = make_graft(source, found, shared_cache, {})
    probe, control = probe_mlkem(python, grafted.apply({})), probe_mlkem(python, {})
    assert (probe.has_mlkem, probe.group, probe.openssl_version) == (True, "X25519MLKEM768", source.version)
    assert not control.has_mlkem
    assert control.finding is not None
    assert (control.finding.verdict, control.finding.reason) == ("not-post-quantum", "not-offered")


def test_an_intact_graft_is_taken_as_it_is(graft: Graft, source: Source, interpreter: Interpreter) -> None:
    before = graft.folder.stat().st_ino, (graft.folder / "libssl.so.3").stat().st_mtime_ns
    again = make_graft(source, interpreter, graft.folder.parent, {})
    assert again == graft
    assert (graft.folder.stat().st_ino, (graft.folder / "libssl.so.3").stat().st_mtime_ns) == before
    assert graft.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["byte", "cut", "missing", "manifest", "no-manifest"])
def test_a_damaged_graft_is_made_anew(source: Source, interpreter: Interpreter, tmp_path: Path, damage: str) -> None:
    graft = make_graft(source, interpreter, tmp_path, {})
    library = graft.folder / "libcrypto.so.3"
    good = library.read_bytes()
    library.unlink()  # a new file: this test must not change one that a process has mapped
    if damage != "missing":
        library.write_bytes(bytes([good[0]]) + good[1:-1] + bytes([good[-1] ^ 1]) if damage == "byte" else good)
    if damage == "cut":
        library.write_bytes(good[:-1])
    if damage == "manifest":
        (graft.folder / "manifest.json").write_text("{}")
    if damage == "no-manifest":
        (graft.folder / "manifest.json").unlink()
    if library.exists():
        library.chmod(0o600)
    assert not is_intact(graft.folder)
    assert make_graft(source, interpreter, tmp_path, {}).folder == graft.folder
    assert is_intact(graft.folder)
    assert library.read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == [graft.folder.name]


def test_a_running_process_outlives_the_replacement(source: Source, interpreter: Interpreter, tmp_path: Path) -> None:
    graft = make_graft(source, interpreter, tmp_path, {})
    script = (
        "import ssl, sys; print(ssl.OPENSSL_VERSION, flush=True); sys.stdin.read();"
        "ssl.create_default_context(); print('alive')"
    )
    command, pipe = [sys.executable, "-I", "-c", script], subprocess.PIPE
    process = subprocess.Popen(command, env=graft.apply({}), stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == source.version
    (graft.folder / "manifest.json").unlink()
    make_graft(source, interpreter, tmp_path, {})
    out, _ = process.communicate("", timeout=20)
    assert (process.returncode, out.strip()) == (0, "alive")


@pytest.mark.parametrize("which", ["folder", "library", "cache"])
def test_what_others_can_write_to_is_refused(
    source: Source, interpreter: Interpreter, tmp_path: Path, which: str
) -> None:
    cache = tmp_path / "cache"
    graft = make_graft(source, interpreter, cache, {})
    path = {"folder": graft.folder, "library": graft.folder / "libssl.so.3", "cache": cache}[which]
    path.chmod(0o777)
    with pytest.raises(UsageError, match="safe") as caught:
        make_graft(source, interpreter, cache, {})
    assert caught.value.next_step
    path.chmod(0o700)
    assert make_graft(source, interpreter, cache, {}) == graft


def test_a_symbolic_link_in_its_place_is_refused(source: Source, interpreter: Interpreter, tmp_path: Path) -> None:
    graft = make_graft(source, interpreter, tmp_path / "a", {})
    (tmp_path / "b").mkdir(mode=0o700)
    (tmp_path / "b" / graft.folder.name).symlink_to(graft.folder)
    with pytest.raises(UsageError, match="symbolic link"):
        make_graft(source, interpreter, tmp_path / "b", {})


def test_a_writable_folder_above_is_refused(source: Source, interpreter: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UsageError, match="writable by other users"):
        make_graft(source, interpreter, tmp_path / "open" / "cache", {})
    (tmp_path / "open").chmod(0o1777)  # sticky, as /tmp: others cannot rename what is ours
    assert make_graft(source, interpreter, tmp_path / "open" / "cache", {})


MAKE = """
import sys, time
from pathlib import Path
from pqtls.openssl.graft import make_graft
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.sources import find_sources
interpreter = inspect_interpreter(sys.executable, {})
source = next(each for each in find_sources(interpreter) if each.is_usable)
time.sleep(max(0, float(sys.argv[2]) - time.time()))
print(make_graft(source, interpreter, Path(sys.argv[1]), {}).folder)
"""


def test_several_processes_at_once(tmp_path: Path) -> None:
    start = str(time.time() + 0.7)
    command = [sys.executable, "-c", MAKE, str(tmp_path), start]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    results = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert [str(path) for path in tmp_path.iterdir()] == list(results)
    assert is_intact(Path(results.pop()))


@pytest.mark.parametrize("field", ["cafile", "capath", "openssl_dir"])
def test_paths_that_do_not_fit_are_refused(
    source: Source, interpreter: Interpreter, tmp_path: Path, field: str
) -> None:
    long = "/opt/" + "x" * 100
    changes: dict[str, Any] = {field: long}
    if field == "openssl_dir":
        changes = {"libcrypto": None, "capath": f"{long}/certs"}
    cache = tmp_path / "cache"
    with pytest.raises(CannotProveError, match="longer than") as caught:
        make_graft(source, dataclasses.replace(interpreter, **changes), cache, {})
    folder = find_openssl_dir(folders_of(dataclasses.replace(interpreter, **changes)))
    assert caught.value.next_step.endswith(f"pqtls openssl build --source TARBALL --openssldir {folder}")
    assert not cache.exists()
    with pytest.raises(CannotProveError, match="longer than") as caught:
        choose_source(dataclasses.replace(interpreter, **changes), (), "")
    assert caught.value.next_step.endswith(f"pqtls openssl build --source TARBALL --openssldir {folder}")


def test_a_source_that_changed_is_refused(source: Source, interpreter: Interpreter, tmp_path: Path) -> None:
    other = dataclasses.replace(source, libssl_sha256="0" * 64)
    with pytest.raises(CannotProveError, match="changed"):
        make_graft(other, interpreter, tmp_path, {})
    with pytest.raises(CannotProveError, match="cannot be used: broken"):
        make_graft(dataclasses.replace(source, rejected="broken."), interpreter, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_load_leaves_nothing(source: Source, interpreter: Interpreter, tmp_path: Path) -> None:
    """An interpreter whose own libssl wins (as with DT_RPATH), and one that does not start."""
    (tmp_path / "plain").write_text(f'#!/bin/sh\nunset LD_LIBRARY_PATH\nexec {sys.executable} "$@"\n')
    (tmp_path / "crash").write_text("#!/bin/sh\nexit 1\n")
    for name, words in (("plain", "still runs OpenSSL"), ("crash", "ended with code 1")):
        (tmp_path / name).chmod(0o700)
        if name == "plain" and interpreter.openssl_version == source.version:
            continue
        changed = dataclasses.replace(interpreter, executable=tmp_path / name)
        with pytest.raises(CannotProveError, match=words):
            make_graft(source, changed, tmp_path / "cache", {})
        assert list((tmp_path / "cache").iterdir()) == []


def test_abandoned_folders_are_removed_only_when_old(source: Source, interpreter: Interpreter, tmp_path: Path) -> None:
    import os

    for name in (".making-old", ".making-new", ".gone-old"):
        (tmp_path / name).mkdir()
    for name in (".making-old", ".gone-old"):
        os.utime(tmp_path / name, (0, 0))
    graft = make_graft(source, interpreter, tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == {".making-new", graft.folder.name}


def test_manifest_says_where_it_comes_from(graft: Graft) -> None:
    manifest = json.loads((graft.folder / "manifest.json").read_text())
    assert manifest["source"]["version"] == graft.source.version
    assert manifest["source"]["libcrypto"]["sha256"] == graft.source.libcrypto_sha256
    assert (graft.folder / "manifest.json").stat().st_mode & 0o777 == 0o600


def test_every_constant_moves_and_nothing_else() -> None:
    before = (
        b"\0OpenSSL 3.5.9 29 Sep 2026\0" b'OPENSSLDIR: "/a/build/ssl"\0ENGINESDIR: "/a/build//lib/engines-3"\0'
        b'MODULESDIR: "/a/build//lib/ossl-modules"\0/a/build/ssl\0/a/build//lib/engines-3\0/a/build//lib/ossl-modules\0'
        b"/a/build/ssl/private\0/a/build/ssl/certs\0/a/build/ssl/cert.pem\0/a/build/ssl/ct_log_list.cnf\0"
        b"/a/build/ssl2\0end\0"
    )  # fmt: skip
    text = read_library_text(before)
    assert (text.openssl_dir, text.engines_dir) == ("/a/build/ssl", "/a/build//lib/engines-3")
    wanted = Folders("/etc/ssl", "/etc/ssl/ca.pem", "/x/certs", "/usr/lib/x86_64-linux-gnu/engines-3", "/m")
    folders = fit_folders(text, wanted)
    assert folders == dataclasses.replace(wanted, engines_dir="/etc/ssl/engines-3")
    after = patch_constants(before, text, folders)
    assert len(after) == len(before)
    assert after == (
        b"\0OpenSSL 3.5.9 29 Sep 2026\0" b'OPENSSLDIR: "/etc/ssl"\0\0\0\0\0ENGINESDIR: "/etc/ssl/engines-3"\0\0\0\0\0\0'
        b'MODULESDIR: "/m"\0' + bytes(24) + b"/etc/ssl\0ssl\0/etc/ssl//////engines-3\0/m\0build//lib/ossl-modules\0"
        b"/etc/ssl/////private\0/x/certs\0ssl/certs\0/etc/ssl/ca.pem\0\0\0\0\0\0\0/etc/ssl/////ct_log_list.cnf\0"
        b"/a/build/ssl2\0end\0"
    )  # fmt: skip


def test_every_string_that_shares_an_end_stays() -> None:
    """A pointer at the old path's last component still finds it: linkers merge equal ends."""
    names = ("", "/private", "/certs", "/cert.pem", "/ct_log_list.cnf")
    for old in ("/usr/lib/psycopg-openssl", "/host/tmp/libpq.build", "/project/ci/ssl", "/usr/local/mysql/ssl"):
        data = b"\0".join([b"", f'OPENSSLDIR: "{old}"'.encode(), *(f"{old}{name}".encode() for name in names), b""])
        text = read_library_text(data)
        wanted = Folders("/usr/lib/ssl", "/usr/lib/ssl/cert.pem", "/usr/lib/ssl/certs", "", "")
        after = patch_constants(data, text, fit_folders(text, wanted))
        for name in names[1:]:
            end = data.index(f"{old}{name}".encode()) + len(old + name)
            assert after[end - len(name) + 1 : end + 1] == name[1:].encode() + b"\0"
            start = data.index(f"{old}{name}".encode())
            path = after[start : after.index(b"\0", start)].decode()
            assert Path(path) == Path(f"/usr/lib/ssl{name}")
