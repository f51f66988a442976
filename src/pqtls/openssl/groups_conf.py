"""Hold a process to a list of groups, through OPENSSL_CONF, and check that OpenSSL really follows it.

Before Python 3.15 there is no call for it, but every TLS context takes its defaults from OpenSSL's configuration.
The private file written here includes the one that was in force, so that MinProtocol, CipherString, providers and
the rest stay as they were. OpenSSL drops the whole Groups line in silence if it does not know one name (any ML-KEM
group before 3.5): hence `check_groups`, which reads a real ClientHello. (Measured: with `config_diagnostics = 1`,
as in Debian's openssl.cnf, 3.5 refuses to make any TLS context instead; 3.0 is silent even then.)
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.openssl.conf import find_settings_chain
from pqtls.openssl.constants import folders_of
from pqtls.openssl.paths import is_file
from pqtls.openssl.probe import probe_mlkem
from pqtls.wire.groups import group_code, group_name, is_grease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.openssl.interpreter import Interpreter
    from pqtls.openssl.probe import Probe

_ALLOWED = re.compile(r"[A-Za-z0-9_.:/*?\- ]+")
_OWN_SECTIONS = ("pqtls_openssl", "pqtls_ssl", "pqtls_system_default")
_KEYS = ("openssl_conf", "ssl_conf", "system_default")


@dataclass(frozen=True, slots=True)
class GroupList:
    """A group list in OpenSSL's syntax, taken apart.

    Attributes:
        required: Code points that a ClientHello must offer.
        optional: Those that OpenSSL may leave out if it does not know them (`?x`).
        removed: Those that must not be offered (`-x`).
        has_default: `DEFAULT` adds OpenSSL's own list, so that others may be offered too.
    """

    required: frozenset[int]
    optional: frozenset[int]
    removed: frozenset[int]
    has_default: bool


def parse_groups(groups: str) -> GroupList:
    """Take a group list apart.

    Args:
        groups: OpenSSL's syntax: `a:b`, and since 3.5 `*a / *b:?c:-d` and DEFAULT.

    Returns:
        The code points that it names.

    Raises:
        UsageError: It is empty, is no such list, or names a group that pqtls does not know.
    """
    if not _ALLOWED.fullmatch(groups):
        raise UsageError(f"{groups!r} is not a list of groups.", "Write it as X25519MLKEM768:x25519.")
    found: dict[str, set[int]] = {"required": set(), "optional": set(), "removed": set()}
    has_default = False
    for token in (part.strip() for part in re.split("[:/]", groups)):
        if not token:
            raise UsageError(f"{groups!r} has an empty place in it.", "Write it as X25519MLKEM768:x25519.")
        name = token.lstrip("*?-")
        marks = token[: len(token) - len(name)]
        if name.upper() == "DEFAULT":
            has_default = True
            continue
        try:
            code = group_code(name)
        except KeyError as error:
            where = "" if name == groups else f" in {groups!r}"
            raise UsageError(
                f"{name!r}{where} is no group that pqtls knows.",
                "Use names such as X25519MLKEM768, SecP384r1MLKEM1024, MLKEM1024, x25519 or secp256r1.",
            ) from error
        kind = "removed" if "-" in marks else "optional" if "?" in marks else "required"
        found[kind].add(code)
    sets = {kind: frozenset(codes) for kind, codes in found.items()}
    if not (sets["required"] or sets["optional"] or has_default):
        raise UsageError(f"{groups!r} names no group.", "Write it as X25519MLKEM768:x25519.")
    return GroupList(
        sets["required"] - sets["removed"], sets["optional"] - sets["removed"], sets["removed"], has_default
    )


def base_conf(interpreter: Interpreter, environment: Mapping[str, str]) -> Path | None:
    """Return the configuration that is in force for an interpreter.

    Args:
        interpreter: As inspected.
        environment: What it is started with.

    Returns:
        The file that OPENSSL_CONF names, else openssl.cnf in its OPENSSLDIR; None where there is no such file,
        which OpenSSL does not mind either.
    """
    configured = environment.get("OPENSSL_CONF")
    path = Path(configured) if configured is not None else Path(folders_of(interpreter).openssl_dir, "openssl.cnf")
    return path.absolute() if is_file(path) else None


def write_groups_conf(
    groups: str,
    folder: Path,
    interpreter: Interpreter,
    environment: Mapping[str, str],
    *,
    is_tls13_only: bool = False,
) -> Path:
    """Write a configuration that holds a process to these groups and is otherwise the one in force.

    Args:
        groups: OpenSSL's syntax.
        folder: A private folder.
        interpreter: Whose default configuration it is built on.
        environment: What the process is started with; OPENSSL_CONF and OPENSSL_CONF_INCLUDE in it count.
        is_tls13_only: Leave out TLS 1.2 and older.

    Returns:
        The file, for OPENSSL_CONF. `check_groups` must follow: an OpenSSL that does not know a group ignores it.

    Raises:
        UsageError: The list is not one, or the configuration in force cannot be followed.
    """
    parse_groups(groups)
    base = base_conf(interpreter, environment)
    chain = find_settings_chain(base, environment.get("OPENSSL_CONF_INCLUDE", "")) if base is not None else []
    lines = [f"# Written by pqtls: groups {groups}"]
    if base is not None:
        lines.append(f".include {_escaped(base)}")
    section = "default"
    for number, key in enumerate(_KEYS):
        if number < len(chain):
            section = chain[number]
            continue
        lines += [f"[{section}]", f"{key} = {_OWN_SECTIONS[number]}"]
        section = _OWN_SECTIONS[number]
    lines += [f"[{section}]", f"Groups = {groups}"]
    if is_tls13_only:
        # Not MinProtocol: Python as built upstream sets its own minimum over it.
        lines.append("Protocol = -TLSv1, -TLSv1.1, -TLSv1.2")
    lines.append("")
    path = folder / "openssl.cnf"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.fsencode("\n".join(lines)))
    return path


def check_groups(executable: Path | str, environment: Mapping[str, str], groups: str, *, is_bare: bool = False) -> None:
    """Make sure that a process in this environment offers exactly these groups.

    Args:
        executable: A Python interpreter.
        environment: Its whole environment, OPENSSL_CONF set.
        groups: The list that it should offer.
        is_bare: It stands for another program: without what `pqtls enable` has a Python of its environment offer.

    Raises:
        UsageError: Its ClientHello offers others: OpenSSL did not follow the list.
    """
    why = find_group_mismatch(probe_mlkem(executable, environment, is_bare=is_bare), groups)
    if why:
        raise UsageError(
            why,
            "Choose groups that this OpenSSL knows (those with ML-KEM need 3.5), or --openssl graft; look into "
            "OPENSSL_CONF and openssl.cnf.",
        )


def find_group_mismatch(probe: Probe, groups: str) -> str:
    """Compare what a ClientHello offered with a group list.

    Args:
        probe: What the interpreter did.
        groups: The list that it should offer.

    Returns:
        How they differ, as a sentence; "" if the list was followed.

    Raises:
        UsageError: It is no such list.
    """
    wanted = parse_groups(groups)
    offered = frozenset(code for code in probe.offered_groups if not is_grease(code))
    if not offered:
        return f"With the group list {groups!r} no ClientHello is sent at all: {probe.explanation}"
    is_complete = wanted.required <= offered and not wanted.removed & offered
    if is_complete and (wanted.has_default or offered <= wanted.required | wanted.optional):
        return ""
    names = ":".join(group_name(code) for code in probe.offered_groups)
    return f"{probe.openssl_version} does not follow the group list {groups!r}; it would offer {names} instead."


def _escaped(path: Path) -> str:
    return re.sub(r"([^A-Za-z0-9/._+@,-])", r"\\\1", str(path))
