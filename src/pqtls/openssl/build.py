"""Build libssl.so.3 and libcrypto.so.3 from a release tarball: verified, compiled, proven by a handshake, then named.

For those who may not take an OpenSSL out of somebody's wheel. Everything happens in one private folder below the
user's cache whose name no search looks at; only what was whole and proven is renamed to where `sources` finds it.
OpenSSL's own defaults are kept. Nothing is installed, and nothing outside that folder is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from pqtls.errors import CannotProveError, PqtlsError, UsageError
from pqtls.openssl.build_folders import find_misfit, find_openssl_dir, is_plain, library_folder, suggest_build
from pqtls.openssl.build_process import StepResult, run_step
from pqtls.openssl.build_tools import BuildTools, find_build_tools
from pqtls.openssl.builds import BUILD_MANIFEST, BUILD_SCHEMA, LIBRARIES, Build, builds_folder, read_build
from pqtls.openssl.constants import folders_of
from pqtls.openssl.environment import strip_graft
from pqtls.openssl.graft import make_graft
from pqtls.openssl.obstacles import find_graft_obstacle
from pqtls.openssl.paths import is_folder
from pqtls.openssl.private_folder import make_private_folder
from pqtls.openssl.probe import probe_mlkem
from pqtls.openssl.source_tarball import UnpackedSource, copy_verified, unpack
from pqtls.openssl.sources import Source, examine_folder
from pqtls.openssl.whole_folder import move_into_place, sync_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pqtls.openssl.constants import Folders
    from pqtls.openssl.interpreter import Interpreter

Phase = Literal["read", "unpack", "configure", "compile", "prove"]

BUILDER_VERSION = 1
"""Part of a build's name: raise it when the same tarball must give another result."""

NEEDED_BYTES = 600 * 1024 * 1024
"""Measured with 3.5.7: 53 MB tarball, 131 MB unpacked, 370 MB when built; the rest is room to spare."""

_GROUP = "X25519MLKEM768"
_OPTIONS = ("shared", "no-tests", "no-docs", "no-apps")
_FAST_CURVES = "enable-ec_nistp_64_gcc_128"
"""Faster P-256, P-384 and P-521; needs gcc's 128-bit integers, so a 64-bit little-endian machine."""
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
_COMPILES = " -c -o "
_SETTLE_S = 10.0
"""A folder is locked within a millisecond of being made; one this old without a lock was abandoned."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What came of it.

    Attributes:
        build: The build, as it is now found by itself.
        source: The same as a source for the interpreter it was proven with.
        size_bytes: Of the two libraries.
        duration_s: How long it took, in seconds; 0 if it was there already.
        is_new: It was made now.
    """

    build: Build
    source: Source
    size_bytes: int
    duration_s: float
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is built: all that the result depends on."""

    interpreter: Interpreter
    openssl_dir: str
    tools: BuildTools
    jobs: int
    environment: dict[str, str]
    sha256: str
    unpacked: UnpackedSource

    @property
    def configure(self) -> list[str]:
        """Arguments of Configure: OPENSSLDIR, and ENGINESDIR and MODULESDIR where the system has them."""
        libdir = library_folder(self.openssl_dir, folders_of(self.interpreter))
        elf = self.interpreter.elf
        is_fast = elf is not None and elf.bits == 64 and elf.is_little_endian
        fast = [_FAST_CURVES] if is_fast else []
        return [*_OPTIONS, *fast, "--prefix=/usr", f"--libdir={libdir}", f"--openssldir={self.openssl_dir}"]

    @property
    def name(self) -> str:
        """The build's folder: the same inputs have the same name."""
        facts = [BUILDER_VERSION, self.sha256, self.configure, self.tools.compiler_version]
        return f"openssl-{self.unpacked.version}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"


def build_openssl(
    tarball: str,
    interpreter: Interpreter,
    *,
    sha256: str = "",
    openssl_dir: str = "",
    jobs: int = 0,
    base: Path | None = None,
    environment: Mapping[str, str] | None = None,
    report: Callable[[Phase, int, int], None] = lambda *_: None,
) -> BuildResult:
    """Build a release's libraries, unless the same build is there already.

    Args:
        tarball: Path or https address of a release tarball.
        interpreter: Who proves it: its OPENSSLDIR is the default, and it shakes hands with the result.
        sha256: What the tarball must hash to, in hex; "" to look it up among the known releases.
        openssl_dir: OPENSSLDIR; "" for the interpreter's, or one that is long enough for its paths.
        jobs: How many compilers at once; 0 for as many as processors.
        base: Where builds are kept; None for the user's cache.
        environment: What tools are searched in and the proof is made with; None for this process's environment.
        report: Told the phase, how much of it is done, and of how much (0 if unknown).

    Returns:
        The build, proven.

    Raises:
        UsageError: A tool, room on the disk or a right is missing, the tarball is not one, or it does not compile.
        CannotProveError: The interpreter cannot be grafted, or does not work with what was built.
    """
    given = strip_graft(os.environ if environment is None else environment)
    obstacle = find_graft_obstacle(interpreter)
    if obstacle is not None:
        raise CannotProveError(f"What is built could not be proven: {obstacle.reason}", obstacle.next_step)
    wanted = folders_of(interpreter)
    openssl_dir = _check_openssl_dir(openssl_dir or find_openssl_dir(wanted) or wanted.openssl_dir, wanted)
    tools = find_build_tools(_clean(given))
    base = make_private_folder(builds_folder() if base is None else base)
    began = time.monotonic()
    try:
        with _working_folder(base) as working:
            _check_room(working)
            report("read", 0, 0)
            found = copy_verified(
                tarball, sha256, working / "source.tar.gz", lambda done, total: report("read", done, total)
            )
            report("unpack", 0, 0)
            (working / "source").mkdir(mode=0o700)
            unpacked = unpack(working / "source.tar.gz", working / "source")
            plan = _Plan(interpreter, openssl_dir, tools, jobs or _count_processors(), given, found, unpacked)
            there = read_build(base / plan.name)
            is_new = bool(there.obstacle)
            if is_new:
                there = _make(plan, working, base, began, report)
    except OSError as error:
        raise _as_usage_error(error, base) from error
    source = examine_folder(there.folder, interpreter)
    size_bytes = sum(path.stat().st_size for path in (there.libssl, there.libcrypto))
    return BuildResult(there, source, size_bytes, time.monotonic() - began if is_new else 0.0, is_new)


def _check_openssl_dir(openssl_dir: str, wanted: Folders) -> str:
    """Return OPENSSLDIR if it can be built in, fits a later graft, and nobody else can put an openssl.cnf there."""
    fitting = find_openssl_dir(wanted)
    if not is_plain(openssl_dir):
        step = f"Name another folder: --openssldir {fitting}" if fitting else ""
        raise UsageError(f"{openssl_dir!r} is no plain absolute path.", step)
    misfit = find_misfit(openssl_dir, wanted)
    if misfit:
        raise UsageError(f"A build for {openssl_dir} could not stand in here: {misfit}.", suggest_build(wanted))
    nearest = Path(openssl_dir)
    while not is_folder(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    status = nearest.stat()
    if status.st_mode & stat.S_IWOTH:
        raise UsageError(
            f"{nearest} is writable by other users, who could change what OpenSSL reads from {openssl_dir}.",
            "Name another folder with --openssldir.",
        )
    return openssl_dir


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the tools see: no flags of the user's, so that the same tarball gives the same library."""
    kept = {name: environment[name] for name in _KEPT_VARIABLES if name in environment}
    if environment.get("CC"):
        kept["CC"] = environment["CC"]
    return {"PATH": os.defpath, **kept, "LC_ALL": "C"}


def _count_processors() -> int:
    with contextlib.suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_room(folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < NEEDED_BYTES:
        raise UsageError(
            f"A build needs {NEEDED_BYTES // 2**20} MB below {folder.parent}, which has {free_bytes // 2**20} MB free.",
            "Make room, or set XDG_CACHE_HOME to another folder.",
        )


def _as_usage_error(error: OSError, base: Path) -> PqtlsError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(f"There is no room left below {base}.", "Make room, or set XDG_CACHE_HOME elsewhere.")
    where = error.filename or base
    return UsageError(f"{where} cannot be used: {error.strerror or error}.", "Set XDG_CACHE_HOME to another folder.")


@contextlib.contextmanager
def _working_folder(base: Path) -> Iterator[Path]:
    """Make a private folder that is locked as long as we live, and gone after; sweep those of the killed."""
    _remove_abandoned(base)
    working = Path(tempfile.mkdtemp(prefix=".making-", dir=base))  # 0700
    lock = os.open(working / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield working
    finally:
        shutil.rmtree(working, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(base: Path) -> None:
    for leftover in (*base.glob(".making-*"), *base.glob(".gone-*")):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime < _SETTLE_S:
                continue
            lock = os.open(leftover / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(lock)


def _make(plan: _Plan, working: Path, base: Path, began: float, report: Callable[[Phase, int, int], None]) -> Build:
    compile_libraries(plan, working, base, report)
    report("prove", 0, 0)
    out = working / "out"
    out.mkdir(mode=0o700)
    for name in LIBRARIES:
        write_file(out / name, (plan.unpacked.folder / name).read_bytes())
    licence = plan.unpacked.folder / "LICENSE.txt"
    if licence.is_file():
        write_file(out / licence.name, licence.read_bytes())
    source = _prove(plan, out, working / "probe")
    manifest = _manifest(plan, source, out, time.monotonic() - began)
    write_file(out / BUILD_MANIFEST, json.dumps(manifest, indent=1).encode())
    sync_folder(out)
    move_into_place(out, base / plan.name, lambda: not read_build(base / plan.name).obstacle)
    sync_folder(base)
    return read_build(base / plan.name)


def compile_libraries(plan: _Plan, working: Path, base: Path, report: Callable[[Phase, int, int], None]) -> None:
    """Run Configure and make.

    Args:
        plan: What to build.
        working: The private folder; the log is written there.
        base: Where the log is kept if this fails.
        report: Told how far it is.

    Raises:
        UsageError: A step failed; the log is kept, and its last lines are in the message.
    """
    folder, tools = plan.unpacked.folder, plan.tools
    environment = {**_clean(plan.environment), "CC": tools.compiler, "SOURCE_DATE_EPOCH": str(plan.unpacked.epoch)}
    total = done = 0

    def count(line: str) -> None:
        nonlocal total
        total += _COMPILES in line

    def show(line: str) -> None:
        nonlocal done
        if _COMPILES in line:
            done += 1
            report("compile", min(done, total), total)

    log_path = working / "build.log"
    make = [tools.make, f"-j{plan.jobs}"]
    with open(log_path, "xb", buffering=0) as log:  # noqa: PTH123
        report("configure", 0, 0)
        step = run_step([tools.perl, "Configure", *plan.configure], folder, environment, log, lambda _: None)
        _check_step("Configure", step, plan, log, base)
        # Not `build_libs`: that compiles everything a second time, for the static libraries.
        step = run_step([*make, "build_generated"], folder, environment, log, lambda _: None)
        _check_step("make", step, plan, log, base)
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            run_step([tools.make, "-n", *LIBRARIES], folder, environment, nowhere, count)
        report("compile", 0, total)
        step = run_step([*make, *LIBRARIES], folder, environment, log, show)
        _check_step("make", step, plan, log, base)
        for name in LIBRARIES:
            if not (folder / name).is_file():
                _check_step("make", StepResult(1, (f"it made no {name}",)), plan, log, base)


def _check_step(name: str, step: StepResult, plan: _Plan, log: IO[bytes], base: Path) -> None:
    if step.code == 0 and not step.is_timed_out:
        return
    kept = base / f"failed-openssl-{plan.unpacked.version}.log"
    Path(str(log.name)).replace(kept)
    why = "took too long and was ended" if step.is_timed_out else f"ended with code {step.code}"
    if any("No space left on device" in line for line in step.last_lines):
        why = "found no room left on the disk"
    lines = "".join(f"\n    {line[:300]}" for line in step.last_lines)
    raise UsageError(
        f"OpenSSL {plan.unpacked.version} was not built: {name} {why}.", f"The log is {kept}; it ends:{lines}"
    )


def _prove(plan: _Plan, out: Path, probe_folder: Path) -> Source:
    """Let the interpreter shake hands with what was built, on a graft of it, before it counts."""
    source = examine_folder(out, plan.interpreter)
    what = f"OpenSSL {plan.unpacked.version}, as built here,"
    if source.rejected:
        raise CannotProveError(f"{what} cannot stand in: {source.rejected}", "Name another tarball with --source.")
    if source.version_info != plan.unpacked.version_info:
        raise CannotProveError(f"{what} says that it is {source.version}.", "Name another tarball with --source.")
    graft = make_graft(source, plan.interpreter, probe_folder, plan.environment)
    environment = {**graft.apply(plan.environment), "OPENSSL_CONF": "/dev/null"}
    probe = probe_mlkem(plan.interpreter.executable, environment)
    if not probe.has_mlkem or probe.group != _GROUP or probe.openssl_version != source.version:
        raise CannotProveError(
            f"{what} negotiated {probe.group or 'nothing'} and not {_GROUP}: {probe.explanation}",
            "Name another tarball with --source.",
        )
    return source


def _manifest(plan: _Plan, source: Source, out: Path, duration_s: float) -> dict[str, object]:
    return {
        "schema": BUILD_SCHEMA,
        "name": plan.name,
        "version": source.version,
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "duration_s": round(duration_s, 1),
        "tarball_sha256": plan.sha256,
        "configure": plan.configure,
        "tools": asdict(plan.tools),
        "glibc_floor": ".".join(map(str, source.glibc_floor)),
        "proven": {"python": str(plan.interpreter.executable), "group": _GROUP},
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in ((name, (out / name).read_bytes()) for name in LIBRARIES)
        },
    }
