"""Choose which OpenSSL a process uses.

The interpreter's own if it can (native), a newer one under it (graft), or its own whatever it can (system).
What decides is a finished handshake in memory, for every way; versions and ELF headers only explain.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pqtls.errors import CannotProveError, PqtlsError, UsageError
from pqtls.evidence import is_post_quantum_group
from pqtls.openssl.build_folders import suggest_build
from pqtls.openssl.constants import folders_of
from pqtls.openssl.environment import strip_graft
from pqtls.openssl.graft import Graft, make_graft
from pqtls.openssl.interpreter import Interpreter
from pqtls.openssl.obstacles import Obstacle, find_graft_obstacle, find_policy_obstacle
from pqtls.openssl.probe import Probe, probe_mlkem
from pqtls.openssl.sources import Source, find_sources
from pqtls.openssl.venv import GRAFT_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["native", "graft", "system"]
KINDS: tuple[Kind, ...] = ("native", "graft", "system")


@dataclass(frozen=True, slots=True)
class Way:
    """The OpenSSL that was chosen for an interpreter's processes.

    Attributes:
        kind: "native", "graft" or "system".
        reason: Why this one, as a sentence.
        interpreter: For whom.
        probe: What a handshake in memory did this way.
        graft: What stands in; None unless grafted.
    """

    kind: Kind
    reason: str
    interpreter: Interpreter
    probe: Probe
    graft: Graft | None = None

    @property
    def openssl_version(self) -> str:
        """ssl.OPENSSL_VERSION of the library that really ran."""
        return self.probe.openssl_version

    @property
    def source_description(self) -> str:
        """Where the library comes from."""
        if self.graft is not None:
            return self.graft.source.description
        return f"{self.openssl_version} of {self.interpreter.executable}"

    def apply(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return a new environment in which a process uses this OpenSSL.

        Args:
            environment: Any environment; a graft of pqtls in it is taken out or replaced.
        """
        return strip_graft(environment) if self.graft is None else self.graft.apply(environment)


@dataclass(frozen=True, slots=True)
class WayReport:
    """Whether one way is possible, for people.

    Attributes:
        kind: Which way.
        is_possible: It works, and for native and graft it negotiated ML-KEM.
        reason: Why, or why not; a sentence.
        next_step: What would make it possible; "" if nothing is needed or known.
        way: The way itself, None if it is not possible.
    """

    kind: Kind
    is_possible: bool
    reason: str
    next_step: str = ""
    way: Way | None = None


def choose_way(
    requested: str,
    interpreter: Interpreter,
    extra_sources: Sequence[Path] = (),
    cache_folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Way:
    """Choose an OpenSSL for an interpreter, and prove what it does.

    Args:
        requested: "auto" (native if it negotiates ML-KEM, else graft), "native", "graft" or "system".
        interpreter: As inspected.
        extra_sources: Folders with OpenSSL 3.5 that the user named; if any is, none but these are taken.
        cache_folder: Where grafts are kept; None for the user's cache.
        environment: What processes will be started with; None for this process's environment.

    Returns:
        The way. Except for "system", its probe is post-quantum.

    Raises:
        CannotProveError: It is not possible here; the message says why and what to do.
        UsageError: There is no such way, or the cache folder is not safe.
    """
    given = strip_graft(os.environ if environment is None else environment)
    if requested == "system":
        return _system(interpreter, given)
    if requested == "native":
        return _native(interpreter, given)
    if requested == "graft":
        return _graft(interpreter, given, extra_sources, cache_folder, "")
    if requested != "auto":
        raise UsageError(f"There is no way {requested!r} to an OpenSSL.", "Use auto, native, graft or system.")
    native = probe_mlkem(interpreter.executable, given)
    if native.has_mlkem:
        return _native(interpreter, given)
    because = _why_not_native(interpreter, native).rstrip(".")
    obstacle = find_policy_obstacle()
    if obstacle is not None:
        raise CannotProveError(_sentence(because, ", but ", obstacle.reason), obstacle.next_step)
    return _graft(interpreter, given, extra_sources, cache_folder, because)


def reach_other_programs(
    way: Way,
    extra_sources: Sequence[Path] = (),
    cache_folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Way:
    """Make a way good for more than the Python that it was chosen for.

    The Python of an enabled environment finds its graft by itself. What else is started (curl, a system's Python)
    does not, and would go on with the system's OpenSSL.

    Args:
        way: As "auto" chose it.
        extra_sources: Folders with OpenSSL 3.5 that the user named.
        cache_folder: Where grafts are kept; None for the user's cache.
        environment: What processes will be started with; None for this process's environment.

    Returns:
        A graft for all of them; the same way where it reaches them, or where there is nothing better.
    """
    if way.kind != "native" or not _is_enabled(way.interpreter) or find_policy_obstacle() is not None:
        return way
    try:
        return choose_way("graft", way.interpreter, extra_sources, cache_folder, environment)
    except CannotProveError:
        return way


def explain_ways(
    interpreter: Interpreter,
    extra_sources: Sequence[Path] = (),
    cache_folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[WayReport]:
    """Try all three ways and say of each whether it is possible and why.

    Args:
        interpreter: As inspected.
        extra_sources: Folders with OpenSSL 3.5 that the user named.
        cache_folder: Where grafts are kept; None for the user's cache. A graft is made there to try it.
        environment: What processes will be started with; None for this process's environment.

    Returns:
        One report per way: native, graft, system.
    """
    reports = []
    for kind in KINDS:
        try:
            if kind == "graft":
                policy = find_policy_obstacle()
                if policy is not None:
                    raise CannotProveError(_sentence("", "", policy.reason), policy.next_step)
            way = choose_way(kind, interpreter, extra_sources, cache_folder, environment)
        except PqtlsError as error:
            reports.append(WayReport(kind, False, error.message, error.next_step))
        else:
            reports.append(WayReport(kind, True, way.reason, way=way))
    return reports


def _system(interpreter: Interpreter, environment: dict[str, str]) -> Way:
    if interpreter.linkage == "no-ssl":
        raise CannotProveError(
            f"{interpreter.executable} has no `ssl` module ({interpreter.ssl_error}).",
            "Use a Python that was built with OpenSSL.",
        )
    probe = probe_mlkem(interpreter.executable, environment)
    reason = "The interpreter's own OpenSSL, unchanged, whatever it can do."
    if _is_enabled(interpreter):
        reason = "Not the system's own: `pqtls enable` put it under this environment; `pqtls disable` ends that."
    return Way("system", reason, interpreter, probe)


def _native(interpreter: Interpreter, environment: dict[str, str]) -> Way:
    probe = probe_mlkem(interpreter.executable, environment)
    if not probe.has_mlkem:
        obstacle = find_graft_obstacle(interpreter)
        step = obstacle.next_step if obstacle is not None else "Use --openssl graft, or a Python with OpenSSL 3.5."
        raise CannotProveError(_why_not_native(interpreter, probe), step)
    whose = "The interpreter's own"
    if _is_enabled(interpreter):
        whose = "By `pqtls enable`, this environment's"
    reason = f"{whose} {probe.openssl_version} just negotiated {probe.group} with itself."
    return Way("native", reason, interpreter, probe)


def _is_enabled(interpreter: Interpreter) -> bool:
    """Tell whether what it mapped is the graft of `pqtls enable`."""
    return interpreter.libssl is not None and GRAFT_FOLDER in interpreter.libssl.parts


def _graft(
    interpreter: Interpreter,
    environment: dict[str, str],
    extra_sources: Sequence[Path],
    cache_folder: Path | None,
    because: str,
) -> Way:
    obstacle: Obstacle | None = find_graft_obstacle(interpreter)
    if obstacle is not None:
        raise CannotProveError(_sentence(because, ", but ", obstacle.reason), obstacle.next_step)
    source = choose_source(interpreter, extra_sources, because)
    graft = make_graft(source, interpreter, cache_folder, environment)
    probe = probe_mlkem(interpreter.executable, graft.apply(environment))
    if not probe.has_mlkem:
        raise CannotProveError(
            _sentence(because, ", and ", f"with {source.description} grafted it is no better: {probe.explanation}"),
            "Look into OPENSSL_CONF and openssl.cnf: a Groups or MaxProtocol line there may forbid it.",
        )
    reason = _sentence(because, "; ", f"{source.description} stands in, and just negotiated {probe.group}.")
    return Way("graft", reason, interpreter, probe, graft)


def choose_source(interpreter: Interpreter, extra_sources: Sequence[Path], because: str) -> Source:
    """Choose what to make a graft from.

    Args:
        interpreter: Who is to use it.
        extra_sources: Folders that the user named; if any is, none but these are taken.
        because: Why a graft is needed, as the first half of a sentence; "" if that goes without saying.

    Returns:
        The best usable source.

    Raises:
        CannotProveError: There is none; the message names what was looked at.
    """
    sources = find_sources(interpreter, extra_sources)
    if any(source.is_named for source in sources):
        sources = [source for source in sources if source.is_named]
    usable = next((source for source in sources if source.is_usable), None)
    if usable is not None:
        return usable
    rejected = "; ".join(f"{source.description}: {source.rejected}" for source in sources)
    if rejected:
        step = (
            "Install a current one: pip install --upgrade --force-reinstall 'pqtls[openssl]'. Or: pqtls openssl build."
        )
        if all(source.is_named for source in sources):
            step = "Name a folder that has both, from OpenSSL 3.5 or newer, or name none."
        if any(source.is_misfit for source in sources):
            step = suggest_build(folders_of(interpreter))
        raise CannotProveError(_sentence(because, ", and ", f"no OpenSSL found here can stand in ({rejected})."), step)
    musl = " It brings libraries for musl too." if interpreter.is_musl else ""
    raise CannotProveError(
        _sentence(because, ", and ", "there is no newer OpenSSL here to stand in."),
        f"Run: pip install 'pqtls[openssl]'.{musl}",
    )


def _sentence(because: str, joint: str, rest: str) -> str:
    """Join why a graft is needed, if that is known, with what became of it."""
    return f"{because}{joint}{rest}" if because else rest[:1].upper() + rest[1:]


def _why_not_native(interpreter: Interpreter, probe: Probe) -> str:
    if not probe.openssl_version or not probe.offered_groups:
        return f"The `ssl` module of {interpreter.executable} made no handshake: {probe.explanation}"
    why = "offers no ML-KEM" if not any(map(is_post_quantum_group, probe.offered_groups)) else probe.explanation
    return f"The interpreter's own {probe.openssl_version} {why.rstrip('.')}."
