"""Switch a whole virtual environment to an OpenSSL with ML-KEM, and back.

All or nothing: a graft is written beside, loaded and proven by a handshake of the environment's own Python, switched
on by one rename (`venv_files`), and proven once more as any program will meet it. If that fails, what was before is
there again.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pqtls import __version__
from pqtls.errors import EXIT_PROVEN, CannotProveError, UsageError
from pqtls.openssl.environment import strip_graft
from pqtls.openssl.file_facts import FileFacts, read_facts
from pqtls.openssl.graft import LIBCRYPTO, are_same, patch_libraries, plan_folders
from pqtls.openssl.held import find_settings_obstacle, find_unheld
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.obstacles import find_venv_obstacle
from pqtls.openssl.private_folder import is_private_group
from pqtls.openssl.probe import forget_probes, probe_mlkem
from pqtls.openssl.status import examine_venv
from pqtls.openssl.venv import locked
from pqtls.openssl.venv_files import (
    check_places,
    is_touched,
    package_folder,
    read_switch,
    remove_all,
    remove_folder,
    remove_leftovers,
    switch_on,
    write_package,
)
from pqtls.openssl.venv_manifest import (
    MANIFEST,
    PACKAGE_PREFIX,
    PTH,
    START,
    VenvManifest,
    find_active_id,
    read_build_date,
    read_manifest,
)
from pqtls.openssl.venv_settings import SETTINGS
from pqtls.openssl.ways import choose_source
from pqtls.openssl.whole_folder import sync_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pqtls.openssl.constants import Folders
    from pqtls.openssl.interpreter import Interpreter
    from pqtls.openssl.sources import Source
    from pqtls.openssl.venv import Venv

Outcome = Literal["enabled", "unchanged", "native", "released"]


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        sources: Folders with OpenSSL 3.5 that the user named; if any is, none but these are taken.
        has_to_follow_policies: System-wide crypto-policies forbid a graft.
        require_pq: Refuse TLS where the graft cannot be loaded.
        plugins: Modules of `pqtls.inject` to install once `ssl` is imported, each with `install(ssl, settings)`.
        settings: What they are called with; literals only.
        has_own_list: The user named the groups, so that they must be followed.
        command: What asks for the same again, as a command line.
    """

    sources: Sequence[Path] = ()
    has_to_follow_policies: bool = True
    require_pq: bool = False
    plugins: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None
    has_own_list: bool = False
    command: str = "pqtls enable"


@dataclass(frozen=True, slots=True)
class Enabled:
    """What became of it.

    Attributes:
        outcome: "enabled", "unchanged" (it was enabled just so, and still works), "native" (nothing to do) or
            "released" (nothing to do, and an earlier enablement was taken out).
        manifest: Of what is active; None if there was nothing to do.
        detail: What was proven, as a sentence.
    """

    outcome: Outcome
    manifest: VenvManifest | None
    detail: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that is decided before anything is written. Without a source, the interpreter's own OpenSSL stays."""

    venv: Venv
    request: Request
    interpreter: Interpreter
    source: Source | None
    folders: Folders | None
    modules: str
    environment: dict[str, str]
    graft_id: str


def enable(venv: Venv, request: Request, environment: Mapping[str, str] | None = None) -> Enabled:
    """Switch an environment to an OpenSSL with ML-KEM, from the next start of its Python.

    Args:
        venv: The environment.
        request: What is asked for.
        environment: What its Python is started with; None for this process's environment.

    Returns:
        What became of it; what is active was proven by a handshake.

    Raises:
        CannotProveError: It is not possible here; what was before is unchanged.
        UsageError: The environment's folder is not safe or cannot be written.
    """
    given = strip_graft(os.environ if environment is None else environment)
    try:
        with locked(venv.root):
            return _enable(venv, request, given)
    except OSError as error:
        raise UsageError(
            f"{venv.root} cannot be enabled: {_describe_error(error)}.",
            "Run it as the owner of the environment, with room on the disk.",
        ) from error


def disable(root: Path) -> bool:
    """Take everything that `enable` made out of an environment, also what a killed one left.

    Args:
        root: The environment's folder; its Python need not start.

    Returns:
        There was something.

    Raises:
        UsageError: Something cannot be removed.
    """
    try:
        with locked(root):
            return remove_all(root)
    except OSError as error:
        raise UsageError(
            f"{root} cannot be disabled: {_describe_error(error)}.", "Run it as the one who enabled it."
        ) from error
    finally:
        forget_probes()


def _describe_error(error: OSError) -> str:
    """Say what failed, and where: of a rename its target; a write to a full disk names no file."""
    where = error.filename2 or error.filename
    return f"{error.strerror or error}" + (f" ({where})" if where else "")


def _enable(venv: Venv, request: Request, environment: dict[str, str]) -> Enabled:
    interpreter = replace(
        inspect_interpreter(venv.python, environment, is_bare=True), site_packages=(venv.site_packages,)
    )
    native = probe_mlkem(venv.python, environment, is_bare=True)
    active = find_active_id(venv.site_packages)
    before = _read_active(venv, active)
    if native.has_mlkem and not (request.settings or request.require_pq):
        was_touched = is_touched(venv.root)
        if was_touched:
            remove_all(venv.root)  # its own OpenSSL has overtaken an earlier graft, or is no longer to be held
        proven = f"Its own {native.openssl_version} just negotiated {native.group} with itself."
        outcome: Outcome = "released" if was_touched else "native"
        return Enabled(outcome, None, proven + _describe_release(before, request))
    if native.has_mlkem:
        request = _fit_to_native(venv, request, environment)
    else:
        obstacle = find_venv_obstacle(interpreter, has_to_follow_policies=request.has_to_follow_policies)
        if obstacle is not None:
            raise CannotProveError(f"{venv.root} cannot be enabled: {obstacle.reason}", obstacle.next_step)
    check_places(venv)
    source = None if native.has_mlkem else choose_source(interpreter, request.sources, "")
    kept = None if before is None else _find_unchanged(venv, request, source, before, environment)
    if kept is not None:
        return kept
    folders, modules = (None, None) if source is None else plan_folders(source, interpreter)
    graft_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}_{secrets.token_hex(4)}"
    plan = _Plan(
        venv, request, interpreter, source, folders, "" if modules is None else str(modules), environment, graft_id
    )
    manifest = _make(plan, active)
    proven = f"{_describe(plan)}, and just negotiated {_prove(plan)}."
    return Enabled("enabled", manifest, proven + _describe_release(before, request))


def _read_active(venv: Venv, active: str) -> VenvManifest | None:
    try:
        return read_manifest(venv.graft_root / active) if active else None
    except ValueError:
        return None


def _describe(plan: _Plan) -> str:
    if plan.source is None:
        return f"Its own {plan.interpreter.openssl_version} stays, is held to what was asked for"
    return f"{plan.source.description} stands in"


def _describe_release(before: VenvManifest | None, request: Request) -> str:
    """Say what the environment is no longer held to: the options are the whole of what is asked for, each time."""
    groups = (request.settings or {}).get("groups") or None
    if before is None or not before.held_to:
        return ""
    if (before.require_pq and not request.require_pq) or (before.settings.get("groups") and not groups):
        return f" It is no longer held to what it was before: {before.held_to}."
    return ""


def _fit_to_native(venv: Venv, request: Request, environment: Mapping[str, str]) -> Request:
    """Leave to the guard what this interpreter's own OpenSSL cannot be told; nothing that the user asked for by name.

    OpenSSL that is linked in statically exports none of its names (uv's Pythons): it goes on offering what it always
    does, and what is classical of it is refused once the other end has chosen it.
    """
    why = find_settings_obstacle(venv, environment) if SETTINGS in request.plugins else ""
    if not why:
        return request
    if request.has_own_list or not request.require_pq:
        raise CannotProveError(
            f"{venv.root} cannot be held to a list of groups: {why}.",
            "`pqtls enable --require-pq` alone refuses what is not post-quantum there, whatever is offered; "
            "`pqtls run --groups` holds one program to the list, by OPENSSL_CONF.",
        )
    plugins = tuple(name for name in request.plugins if name != SETTINGS)
    return replace(request, plugins=plugins, settings={"groups": "", "require": True})


def _find_unchanged(
    venv: Venv, request: Request, source: Source | None, manifest: VenvManifest, environment: Mapping[str, str]
) -> Enabled | None:
    """Return what is there already, if it is what would be made now and still works."""
    asked = (__version__, request.require_pq, request.plugins, dict(request.settings or {}))
    origins = [(each.sha256, venv.root / each.path) for each in manifest.files if each.kind == "source"]
    if asked != (manifest.pqtls, manifest.require_pq, manifest.plugins, manifest.settings):
        return None
    if manifest.is_native != (source is None):
        return None
    if source is not None and origins != [
        (source.libcrypto_sha256, source.libcrypto),
        (source.libssl_sha256, source.libssl),
    ]:
        return None
    if any(each.is_hashed_at_start(venv.root, only_copies=True) for each in manifest.files if each.kind != "loader"):
        return None  # a copy: made anew, its starts are quick again
    status = examine_venv(venv, environment)
    if status.exit_code != EXIT_PROVEN:
        return None
    what = f"{source.description} stands in" if source else f"Its own {status.probe.openssl_version} is held"
    return Enabled("unchanged", manifest, f"{what}; a handshake just chose {status.group}.")


def _make(plan: _Plan, active: str) -> VenvManifest:
    before = {name: read_switch(plan.venv.site_packages / name) for name in (START, PTH)}
    try:
        return _make_or_restore(plan, active, before)
    except BaseException:
        if not active:
            remove_all(plan.venv.root)
        raise
    finally:
        forget_probes()


def _make_or_restore(plan: _Plan, active: str, before: Mapping[str, bytes | None]) -> VenvManifest:
    venv = plan.venv
    venv.graft_root.mkdir(mode=0o755, exist_ok=True)
    venv.graft_root.chmod(0o755)
    remove_leftovers(venv, {active})
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=venv.graft_root))
    try:
        manifest = _write_all(plan, making)
        _prove(plan)
        switch_on(venv, plan.graft_id, making, plan.request.command, has_to_refuse=plan.request.require_pq)
        _prove_switched(plan)
    except BaseException:
        _restore(plan, before, making)
        raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return manifest


def _restore(plan: _Plan, before: Mapping[str, bytes | None], making: Path) -> None:
    """Switch back to what was active before, and remove what was made."""
    for name, data in before.items():
        target = plan.venv.site_packages / name
        if data is None:
            target.unlink(missing_ok=True)
        elif read_switch(target) != data:
            again = making / f"before-{name}"
            write_file(again, data, 0o644)
            again.rename(target)
    for folder in (package_folder(plan.venv, plan.graft_id), plan.venv.graft_root / plan.graft_id):
        if folder.exists():
            remove_folder(folder, plan.venv.graft_root)


def _write_all(plan: _Plan, making: Path) -> VenvManifest:
    """Put the libraries and the loader into place; nothing loads them yet."""
    venv, graft = plan.venv, making / "graft"
    libraries: Mapping[str, bytes] = {}
    if plan.source is not None and plan.folders is not None:
        libraries = patch_libraries(plan.source, plan.folders)
    graft.mkdir(mode=0o755)
    for name, data in libraries.items():
        write_file(graft / name, data, 0o644)
    final = venv.graft_root / plan.graft_id
    graft_facts = [
        replace(read_facts("graft", graft / name, venv.root), path=str((final / name).relative_to(venv.root)))
        for name in sorted(libraries)
    ]
    checked = [*graft_facts, *_outer_facts(plan)]
    package = making / "package"
    write_package(package, venv, _loader_facts(plan, checked), plan.request.plugins, plan.environment)
    package_final = package_folder(venv, plan.graft_id)
    loader_facts = [
        replace(
            read_facts("loader", path, venv.root),
            path=str((package_final / path.relative_to(package)).relative_to(venv.root)),
        )
        for path in sorted(package.rglob("*"))
        if path.is_file()
    ]
    manifest = _manifest(plan, (*checked, *loader_facts), libraries.get(LIBCRYPTO, b""))
    write_file(graft / MANIFEST, json.dumps(manifest.to_json(), indent=1).encode(), 0o644)
    graft.chmod(0o755)
    sync_folder(graft)
    graft.rename(final)
    sync_folder(venv.graft_root)
    package.rename(package_final)
    sync_folder(venv.site_packages)
    return manifest


def _outer_facts(plan: _Plan) -> list[FileFacts]:
    """Remember what the graft was made from, and what it stands in for."""
    source, own = plan.source, plan.interpreter
    if source is None:
        return []  # its own may change: each process finds out whether it still follows
    facts = [read_facts("source", path, plan.venv.root) for path in (source.libcrypto, source.libssl)]
    for path in (own.ssl_module, own.libssl, own.libcrypto):
        if path is not None:
            facts.append(read_facts("own", path.resolve(), plan.venv.root))
    return facts


def _loader_facts(plan: _Plan, checked: Sequence[FileFacts]) -> dict[str, object]:
    venv = plan.venv
    folders = [venv.graft_root, *venv.graft_root.parents]
    private = [status for folder in folders if is_private_group(status := folder.stat()) and status.st_mode & 0o020]
    return {
        "id": plan.graft_id,
        "levels": len(package_folder(venv, plan.graft_id).relative_to(venv.root).parts),
        "base_prefix": os.fsencode(venv.base_prefix),
        "files": tuple(
            (each.kind, os.fsencode(each.path), each.size_bytes, each.mtime_ns, each.sha256) for each in checked
        ),
        "owners": (os.geteuid(),),
        "groups": tuple(sorted({(status.st_uid, status.st_gid) for status in private})),
        "modules": os.fsencode(plan.modules),
        "require": plan.request.require_pq,
        "plugins": plan.request.plugins,
        "settings": dict(plan.request.settings or {}),
        "is_native": plan.source is None,
        "command": plan.request.command,
    }


def _manifest(plan: _Plan, files: tuple[FileFacts, ...], libcrypto: bytes) -> VenvManifest:
    source = plan.source
    return VenvManifest(
        id=plan.graft_id,
        kind="native" if source is None else "graft",
        command=plan.request.command,
        pqtls=__version__,
        enabled_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        python={"version": plan.interpreter.version, "base_prefix": plan.venv.base_prefix},
        own_version=plan.interpreter.openssl_version,
        origin=source.origin if source else "",
        version=source.version if source else plan.interpreter.openssl_version,
        built=read_build_date(libcrypto),
        supported_until=source.supported_until if source else "",
        require_pq=plan.request.require_pq,
        plugins=plan.request.plugins,
        settings=dict(plan.request.settings or {}),
        folders=asdict(plan.folders) if plan.folders else {},
        modules=plan.modules,
        files=files,
    )


def _prove(plan: _Plan) -> str:
    """Let a bare interpreter load what was written, with its loader, and shake hands; return the group."""
    package = f"{PACKAGE_PREFIX}{plan.graft_id}"
    prelude = (
        f"import sys; sys.path.insert(0, {str(plan.venv.site_packages)!r})\n"
        f"import {package}\ndel sys.path[0]\n"
        f"why = {package}.start(is_trial=True)\n"
        "if why: sys.exit(why)\n"
    )
    environment = {**plan.environment, "OPENSSL_CONF": "/dev/null"}
    probe = probe_mlkem(plan.venv.python, environment, is_bare=True, prelude=prelude)
    why = ""
    version = plan.source.version if plan.source else plan.interpreter.openssl_version
    unheld = find_unheld(plan.request.plugins, plan.request.settings or {}, probe, has_guard=True)
    if not probe.has_mlkem:
        why = probe.explanation.rstrip(".")
    elif plan.source is None:
        why = unheld[0].rstrip(".") if unheld else ""
    elif probe.openssl_version != plan.source.version:
        why = f"{plan.venv.python} still runs {probe.openssl_version}"
    elif not are_same((probe.cafile, plan.interpreter.cafile), (probe.capath, plan.interpreter.capath)):
        why = f"its default CA certificates would be {probe.cafile} and {probe.capath}"
    if why:
        if probe.openssl_version == version and not probe.has_mlkem and (plan.request.settings or {}).get("groups"):
            raise CannotProveError(
                f"With these groups {plan.venv.root} would not do post-quantum TLS: {why}.",
                "Choose --groups with ML-KEM in it, and first, such as X25519MLKEM768:x25519 or hybrid-only.",
            )
        if plan.source is None:
            raise CannotProveError(
                f"{plan.venv.root} cannot be held to what was asked for: {why}.",
                "Look for Groups, Protocol and Options in OPENSSL_CONF and openssl.cnf.",
            )
        raise CannotProveError(
            f"{plan.source.description} cannot stand in here: {why}.",
            f"Try another source (--openssl-source). If {plan.venv.root} is mounted noexec, make the environment "
            "elsewhere; if SELinux denied it, its log says so.",
        )
    return probe.group


def _prove_switched(plan: _Plan) -> None:
    """Require that an ordinary start of the environment's Python does ML-KEM by what it should, and is held."""
    status = examine_venv(plan.venv, plan.environment)
    state = "native" if plan.source is None else "active"
    if status.state == state and status.is_proven and not status.unheld:
        return
    why = "; ".join(status.findings) or status.detail
    raise CannotProveError(
        f"{plan.venv.root} was not enabled: {why}",
        f"Another .pth or sitecustomize may load OpenSSL first; a Groups or MaxProtocol line in OPENSSL_CONF may "
        f"forbid ML-KEM. Look into {plan.venv.site_packages}.",
    )
