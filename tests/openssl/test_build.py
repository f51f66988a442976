"""`pqtls openssl build` with stub tarballs: every way it can go; the real build is `make test-openssl-build`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from pqtls.errors import CannotProveError, UsageError
from pqtls.openssl import build as build_module
from pqtls.openssl import build_tools
from pqtls.openssl.build import BuildResult, build_openssl
from pqtls.openssl.build_folders import find_openssl_dir, library_folder, suggest_build
from pqtls.openssl.build_process import run_step
from pqtls.openssl.build_tools import find_build_tools
from pqtls.openssl.builds import find_builds
from pqtls.openssl.constants import DoesNotFitError, Folders, fit_folders, folders_of
from pqtls.openssl.elf_image import PT_LOAD, ElfImage
from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.library_text import LibraryText
from pqtls.openssl.sources import find_sources
from pqtls.openssl.ways import choose_way
from tests.openssl.tarballs import makefile, release_files, write_tarball

PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]


class Stub:
    """A stub release whose libraries are a graft's: they are real, and proven by a real handshake."""

    def __init__(self, folder: Path, graft: Graft) -> None:
        self.base = folder / "cache" / "pqtls" / "openssl"
        self.path = folder / "openssl.tar.gz"
        self.told = folder / "told"
        self.graft = graft
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
        self.sha256 = ""

    def write(self, *, before: str = "true", libraries: Path | None = None, version: Any = None, code: int = 0) -> Stub:
        folder = libraries or self.graft.folder
        text = makefile(folder / "libssl.so.3", folder / "libcrypto.so.3", before)
        major, minor, patch = version or self.graft.source.version_info
        self.sha256 = write_tarball(self.path, release_files((major, minor, patch), text, self.told, code=code))
        return self

    def build(self, interpreter: Interpreter, **changes: Any) -> BuildResult:
        given = {"sha256": self.sha256, "base": self.base, "environment": self.environment, **changes}
        return build_openssl(str(self.path), interpreter, **given)

    def start(self) -> subprocess.Popen[str]:
        """The command, as a process."""
        cache = str(self.base.parent.parent)
        return subprocess.Popen(
            [*PQTLS, "openssl", "build", "--source", str(self.path), "--sha256", self.sha256],
            env={**self.environment, "XDG_CACHE_HOME": cache},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def left(self) -> list[str]:
        return sorted(path.name for path in self.base.iterdir()) if self.base.exists() else []


@pytest.fixture
def stub(tmp_path: Path, graft: Graft) -> Stub:
    return Stub(tmp_path, graft).write()


def test_a_build_is_proven_and_found_by_itself(
    stub: Stub, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(stub.base.parent.parent))
    assert [each for each in find_sources(interpreter) if each.kind == "build"] == []
    phases: list[tuple[str, int, int]] = []
    result = stub.build(interpreter, jobs=3, report=lambda *each: phases.append(each))
    assert result.is_new
    assert list(dict.fromkeys(phase for phase, _, _ in phases)) == list(get_args(build_module.Phase))
    assert phases[-2] == ("compile", 2, 2)
    assert result.size_bytes == sum(
        (stub.graft.folder / f"lib{name}.so.3").stat().st_size for name in ("ssl", "crypto")
    )
    first = next(each for each in find_sources(interpreter) if each.kind == "build")
    assert first.is_usable, first.rejected
    assert first.is_as_recorded
    assert not first.is_named
    day = time.strftime("%Y-%m-%d", time.gmtime())
    version = ".".join(map(str, first.version_info))
    assert first.description == f"{first.version} from openssl-{version}.tar.gz, built by pqtls on {day}"
    # Of the same version as the wheel, and so before it: it is what a graft is then made from.
    way = choose_way("graft", interpreter, cache_folder=stub.base / "grafts", environment=stub.environment)
    assert way.graft is not None
    assert way.graft.source == first
    assert way.probe.has_mlkem


def test_what_configure_is_told(stub: Stub, interpreter: Interpreter) -> None:
    stub.environment |= {"CFLAGS": "-O0", "PERL5LIB": "/nowhere", "MAKEFLAGS": "-k", "LD_PRELOAD": ""}
    result = stub.build(interpreter)
    told = stub.told.read_text().splitlines()
    folders = folders_of(interpreter)
    assert {"shared", "no-tests", "no-docs", "no-apps", f"--openssldir={folders.openssl_dir}"} <= set(told)
    assert {"LC_ALL=C", "SOURCE_DATE_EPOCH=1781000000"} <= set(told)
    assert not [line for line in told if line.startswith(("CFLAGS", "PERL5LIB", "MAKEFLAGS"))]
    manifest = json.loads((result.build.folder / "build.json").read_text())
    assert manifest["tarball_sha256"] == stub.sha256
    assert manifest["glibc_floor"] == ".".join(map(str, stub.graft.source.glibc_floor))
    assert manifest["configure"] == told[1 : 1 + len(manifest["configure"])]
    assert manifest["proven"]["group"] == "X25519MLKEM768"
    assert sorted(path.name for path in result.build.folder.iterdir()) == [
        "LICENSE.txt", "build.json", "libcrypto.so.3", "libssl.so.3",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in result.build.folder.iterdir()} == {0o600}
    assert result.build.folder.stat().st_mode & 0o777 == 0o700
    assert stub.left() == [result.build.folder.name]


def test_the_same_again_is_there_already(stub: Stub, interpreter: Interpreter) -> None:
    first = stub.build(interpreter)
    again = stub.build(interpreter)
    assert (again.is_new, again.build) == (False, first.build)
    assert stub.told.read_text().count("Configure\n") == 1


@pytest.mark.parametrize("damage", ["byte", "missing", "manifest"])
def test_a_damaged_build_is_refused_then_made_anew(stub: Stub, interpreter: Interpreter, damage: str) -> None:
    first = stub.build(interpreter)
    library = first.build.libcrypto
    data = library.read_bytes()
    if damage == "byte":
        library.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "missing":
        library.unlink()
    else:
        (first.build.folder / "build.json").write_text("[]")
    assert [bool(build.obstacle) for build in find_builds(stub.base)] == [True]
    again = stub.build(interpreter)
    assert again.is_new
    assert [build.obstacle for build in find_builds(stub.base)] == [""]
    assert stub.left() == [first.build.folder.name]


@pytest.mark.parametrize("which", ["base", "folder", "library", "link"])
def test_what_others_can_write_to_is_no_source(
    stub: Stub, interpreter: Interpreter, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(stub.base.parent.parent))
    build = stub.build(interpreter).build
    if which == "link":
        build.folder.rename(stub.base / "elsewhere")
        build.folder.symlink_to(stub.base / "elsewhere")
    else:
        {"base": stub.base, "folder": build.folder, "library": build.libssl}[which].chmod(0o777)
    found = next(each for each in find_sources(interpreter) if each.kind == "build")
    assert not found.is_usable
    assert ("symbolic link" if which == "link" else "open to other users") in found.rejected


def test_a_library_without_mlkem_never_counts(stub: Stub, interpreter: Interpreter) -> None:
    """The tarball says 3.5.9, and builds what the system has: 3.0."""
    if interpreter.libssl is None or interpreter.openssl_version_info[:2] >= (3, 5):
        pytest.skip("the system has OpenSSL 3.5")
    stub.write(libraries=interpreter.libssl.parent)
    with pytest.raises(CannotProveError, match="has no ML-KEM"):
        stub.build(interpreter)
    assert stub.left() == []


def test_a_library_of_another_version_never_counts(stub: Stub, interpreter: Interpreter) -> None:
    stub.write(version=(3, 5, 99))
    with pytest.raises(CannotProveError, match="says that it is"):
        stub.build(interpreter)
    assert stub.left() == []


def test_a_handshake_decides(stub: Stub, interpreter: Interpreter, tmp_path: Path) -> None:
    """Files that read as OpenSSL 3.5 in every way, but whose code is gone."""
    broken = tmp_path / "broken"
    shutil.copytree(stub.graft.folder, broken)
    data = bytearray((broken / "libcrypto.so.3").read_bytes())
    (start, size_bytes) = max(
        ((offset, size) for kind, offset, _, size in ElfImage(bytes(data)).segments if kind == PT_LOAD),
        key=lambda segment: segment[1],
    )
    data[start + size_bytes // 4 : start + size_bytes // 2] = bytes(size_bytes // 4)
    (broken / "libcrypto.so.3").write_bytes(data)
    stub.write(libraries=broken)
    with pytest.raises(CannotProveError, match=r"cannot stand in here: .*(SIG|ended with code|did not)"):
        stub.build(interpreter)
    assert stub.left() == []


def test_a_wrong_checksum_runs_nothing(stub: Stub, interpreter: Interpreter) -> None:
    with pytest.raises(UsageError, match="is not what it should be"):
        stub.build(interpreter, sha256="0" * 64)
    with pytest.raises(UsageError, match="whose checksum pqtls knows"):
        stub.build(interpreter, sha256="")
    assert not stub.told.exists()
    assert stub.left() == []


def test_a_version_that_cannot_stand_in_runs_nothing(stub: Stub, interpreter: Interpreter) -> None:
    stub.write(version=(3, 0, 17))
    with pytest.raises(UsageError, match=r"OpenSSL 3\.0\.17 has no ML-KEM"):
        stub.build(interpreter)
    assert not stub.told.exists()


@pytest.mark.parametrize(("before", "words"), [("echo cc: error: one.c && exit 3", "make ended with code 2")])
def test_a_failing_compiler(stub: Stub, interpreter: Interpreter, before: str, words: str) -> None:
    stub.write(before=before)
    with pytest.raises(UsageError, match=words) as caught:
        stub.build(interpreter)
    assert "cc: error: one.c" in caught.value.next_step
    log = stub.base / "failed-openssl-{}.log".format(".".join(map(str, stub.graft.source.version_info)))
    assert str(log) in caught.value.next_step
    assert "cc: error: one.c" in log.read_text()
    assert stub.left() == [log.name]
    assert find_builds(stub.base) == []


def test_a_failing_configure(stub: Stub, interpreter: Interpreter) -> None:
    stub.write(code=7)
    with pytest.raises(UsageError, match="Configure ended with code 7"):
        stub.build(interpreter)
    assert find_builds(stub.base) == []


def test_a_full_disk(stub: Stub, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.write(before="echo fatal: No space left on device; exit 1")
    with pytest.raises(UsageError, match="found no room left on the disk"):
        stub.build(interpreter)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(build_module, "unpack", full)
        with pytest.raises(UsageError, match="no room left below"):
            stub.build(interpreter)
    monkeypatch.setattr(build_module, "NEEDED_BYTES", 2**60)
    with pytest.raises(UsageError, match="A build needs"):
        stub.build(interpreter)
    assert find_builds(stub.base) == []


def test_places_for_openssl_cnf(stub: Stub, interpreter: Interpreter, tmp_path: Path) -> None:
    for bad in ("relative", "/etc/$(id)", '/etc/"', "/etc/a b", "/etc/../tmp", "/etc;id"):
        with pytest.raises(UsageError, match="no plain absolute path"):
            stub.build(interpreter, openssl_dir=bad)
    long = "/usr/lib/a-name-that-is-longer-than-that-of-any-interpreter-here"
    if interpreter.capath != f"{folders_of(interpreter).openssl_dir}/certs":
        pytest.skip("CA certificates are not below OPENSSLDIR here")
    with pytest.raises(UsageError, match="could not stand in here"):
        stub.build(interpreter, openssl_dir="/e")
    with pytest.raises(UsageError, match="writable by other users"):
        stub.build(interpreter, openssl_dir="/tmp/whoever/makes/this/first/owns/us")  # noqa: S108 - refused
    # Accepted, and what is built for it is another build; the stub's libraries are for the default.
    first = stub.build(interpreter)
    other = stub.build(interpreter, openssl_dir=long)
    assert f"--openssldir={long}" in stub.told.read_text().splitlines()
    assert other.build.folder != first.build.folder


LONG = "/opt/" + "x" * 90
ONE_LIB = "/usr/lib/x86_64-linux-gnu"
WANTED = Folders(
    "/usr/lib/ssl", "/usr/lib/ssl/cert.pem", "/usr/lib/ssl/certs", f"{ONE_LIB}/engines-3", f"{ONE_LIB}/ossl-modules"
)
WHEEL = LibraryText("", (), False, "/usr/lib/wheel-ssl", "/usr/lib64/ssl/engines-3", "/usr/lib64/ssl/ossl-modules")


@pytest.mark.parametrize(
    ("changes", "fits_a_wheel"),
    [
        ({}, True),
        ({"openssl_dir": LONG, "cafile": f"{LONG}/cert.pem", "capath": f"{LONG}/certs"}, False),
        ({"openssl_dir": LONG}, False),
        ({"cafile": f"{LONG}/ca-bundle.crt"}, False),
        ({"capath": f"{LONG}/certificates"}, False),
        ({"openssl_dir": "/usr/lib/sixteen", "engines_dir": f"{LONG}/engines-3"}, False),
        ({"openssl_dir": "/usr/lib/sixteen", "modules_dir": f"{LONG}/modules"}, False),
        ({"openssl_dir": "/opt/Müller/a/bc", "cafile": "/opt/Müller/a/bc/cert.pem"}, False),
        ({"modules_dir": "/a b/ossl-modules"}, True),
    ],
)
def test_the_build_that_is_named_fits(changes: dict[str, str], fits_a_wheel: bool) -> None:
    """Whatever path of an interpreter is too long for a wheel: with that OPENSSLDIR it is not."""
    wanted = dataclasses.replace(WANTED, **changes)
    folder = find_openssl_dir(wanted)
    assert suggest_build(wanted).endswith(f"pqtls openssl build --source TARBALL --openssldir {folder}")
    library = library_folder(folder, wanted)
    fitted = fit_folders(LibraryText("", (), False, folder, f"{library}/engines-3", f"{library}/ossl-modules"), wanted)
    assert (fitted.openssl_dir, fitted.cafile, fitted.capath) == (wanted.openssl_dir, wanted.cafile, wanted.capath)
    assert build_module._check_openssl_dir(folder, wanted) == folder, "the command takes it"
    with contextlib.nullcontext() if fits_a_wheel else pytest.raises(DoesNotFitError):  # the control
        fit_folders(WHEEL, wanted)


def test_no_build_has_paths_of_any_length() -> None:
    wanted = dataclasses.replace(WANTED, cafile="/" + "x" * 300)
    assert find_openssl_dir(wanted) == ""
    assert "openssl build" not in suggest_build(wanted)


def test_an_interpreter_that_cannot_be_grafted(stub: Stub, interpreter: Interpreter) -> None:
    static = dataclasses.replace(interpreter, linkage="static")
    with pytest.raises(CannotProveError, match="linked in statically"):
        stub.build(static)
    assert stub.left() == []


def test_the_working_folder_must_be_safe(stub: Stub, interpreter: Interpreter) -> None:
    stub.base.mkdir(parents=True)
    stub.base.chmod(0o777)
    with pytest.raises(UsageError, match="open to other users"):
        stub.build(interpreter)


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=str)
def test_ended_while_it_compiles(stub: Stub, interpreter: Interpreter, tmp_path: Path, number: signal.Signals) -> None:
    """Nothing that was half made counts, and no compiler goes on without us."""
    mark = tmp_path / "compiler.pid"
    stub.write(before=f"echo $$$$ > {mark}.new && mv {mark}.new {mark} && exec sleep 60")
    process = stub.start()
    try:
        wait_for(mark.exists)
        compiler = int(mark.read_text())
        assert is_alive(compiler)
        process.send_signal(number)
        process.communicate(timeout=20)
    finally:
        process.kill()
    wait_for(lambda: not is_alive(compiler), 10)
    assert find_builds(stub.base) == []
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert stub.left() == []
        return
    (leftover,) = stub.left()
    assert leftover.startswith(".making-")
    stub.write()
    stub.build(interpreter)
    assert leftover in stub.left()  # it may be somebody's who has not locked it yet
    old = time.time() - 60
    os.utime(stub.base / leftover, (old, old))
    stub.build(interpreter)
    assert [path for path in stub.left() if path.startswith(".")] == []


def test_killed_at_many_points(stub: Stub, interpreter: Interpreter) -> None:
    """However far it got, what counts is whole."""
    for delay_s in (0.05, 0.3, 0.5, 0.7, 0.9, 1.1, 1.4):
        process = stub.start()
        try:
            process.communicate(timeout=delay_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert [build.obstacle for build in find_builds(stub.base)] in ([], [""])
    stub.build(interpreter)
    assert [build.obstacle for build in find_builds(stub.base)] == [""]


def test_a_folder_in_use_is_not_swept(stub: Stub, interpreter: Interpreter, tmp_path: Path) -> None:
    go = tmp_path / "go"
    mark = tmp_path / "compiling"
    stub.write(before=f"touch {mark}; until test -e {go}; do sleep 0.05; done")
    process = stub.start()
    wait_for(mark.exists)
    (making,) = stub.left()
    old = time.time() - 3600
    os.utime(stub.base / making, (old, old))
    second = Stub(tmp_path / "second", stub.graft)
    second.path.parent.mkdir()
    second.base = stub.base
    second.write(before="true # another tarball")
    second.build(interpreter)
    assert making in stub.left()
    go.touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "X25519MLKEM768" in out
    assert len(find_builds(stub.base)) == 2


def test_two_at_once(stub: Stub, interpreter: Interpreter) -> None:
    processes = [stub.start() for _ in range(2)]
    ends = [process.communicate(timeout=90) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert [build.obstacle for build in find_builds(stub.base)] == [""]
    assert stub.left() == [find_builds(stub.base)[0].folder.name]


class TestTools:
    def test_each_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="there is no C compiler") as caught:
            find_build_tools({"PATH": str(tmp_path)})
        assert "no make, no perl" in caught.value.message
        assert "apt-get install" in caught.value.next_step

    def test_what_is_there(self) -> None:
        tools = find_build_tools({"PATH": os.environ["PATH"]})
        assert Path(tools.compiler).is_file()
        assert tools.compiler_version
        with pytest.raises(UsageError, match="no-such-compiler"):
            find_build_tools({"PATH": os.environ["PATH"], "CC": "no-such-compiler"})

    def test_a_compiler_that_compiles_nothing(self, tmp_path: Path) -> None:
        script = tmp_path / "half-a-gcc"
        script.write_text("#!/bin/sh\necho 'fatal error: stdint.h: No such file' >&2\nexit 1\n")
        script.chmod(0o755)
        with pytest.raises(UsageError, match=r"compiles nothing: fatal error: stdint\.h"):
            find_build_tools({"PATH": os.environ["PATH"], "CC": str(script)})

    def test_a_perl_without_its_modules(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(build_tools, "PERL_MODULES", ("Cwd", "No::Such::Module"))
        with pytest.raises(UsageError, match="has no module No::Such::Module"):
            find_build_tools({"PATH": os.environ["PATH"]})

    def test_an_empty_path_before_anything_is_made(self, stub: Stub, interpreter: Interpreter, tmp_path: Path) -> None:
        stub.environment["PATH"] = str(tmp_path / "empty")
        with pytest.raises(UsageError, match="OpenSSL cannot be built here"):
            stub.build(interpreter)
        assert stub.left() == []


class TestSteps:
    def test_output_code_and_log(self, tmp_path: Path) -> None:
        lines: list[str] = []
        script = "import sys; print('one'); print('two', file=sys.stderr, flush=True); sys.exit(5)"
        with (tmp_path / "log").open("wb", buffering=0) as log:
            step = run_step([sys.executable, "-c", script], tmp_path, {"PYTHONUNBUFFERED": "1"}, log, lines.append)
        assert (step.code, step.last_lines, step.is_timed_out) == (5, ("one", "two"), False)
        assert lines == ["one", "two"]
        assert (tmp_path / "log").read_text() == "one\ntwo\n"

    def test_a_signal(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("wb") as log:
            step = run_step(["/bin/sh", "-c", "kill -11 $$"], tmp_path, {}, log, lambda _: None)
        assert step.code == 128 + 11

    def test_one_that_hangs(self, tmp_path: Path) -> None:
        began = time.monotonic()
        with (tmp_path / "log").open("wb") as log:
            step = run_step(["/bin/sleep", "60"], tmp_path, {}, log, lambda _: None, timeout_s=0.3)
        assert step.is_timed_out
        assert time.monotonic() - began < 20

    def test_a_log_that_cannot_be_written(self, tmp_path: Path) -> None:
        """The children end with it."""
        pid = tmp_path / "pid"
        before = threading.active_count()
        with Path("/dev/full").open("wb", buffering=0) as log, pytest.raises(OSError, match="No space left"):
            run_step(["/bin/sh", "-c", f"echo $$ > {pid}; echo x; sleep 60"], tmp_path, {}, log, lambda _: None)
        wait_for(lambda: not is_alive(int(pid.read_text())), 10)
        assert threading.active_count() <= before + 1
