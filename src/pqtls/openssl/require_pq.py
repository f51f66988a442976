"""Leave OpenSSL nothing but post-quantum key exchange, and check by a real ClientHello that it follows.

Two lines of configuration do it: groups with ML-KEM alone, and TLS 1.3 alone. The latter by `Protocol`, not by
MinProtocol: an upstream Python sets a minimum of its own over it, so that a TLS 1.2 server still connected (measured).

For a child that is given OPENSSL_CONF. A process that must leave its children's environment as it is gets the same
from inject/openssl_settings.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.evidence import is_post_quantum_group
from pqtls.openssl.context import REQUIRED_GROUPS
from pqtls.openssl.group_presets import resolve_groups
from pqtls.openssl.groups_conf import check_groups, parse_groups, write_groups_conf
from pqtls.openssl.probe import probe_mlkem
from pqtls.wire.groups import group_name, is_grease

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pqtls.openssl.interpreter import Interpreter


def require_post_quantum_groups(groups: str) -> None:
    """Make sure that a group list names no classical group.

    Args:
        groups: OpenSSL's syntax.

    Raises:
        UsageError: It does, or it takes in OpenSSL's own list, or is no list.
    """
    parsed = parse_groups(groups)
    classical = [code for code in sorted(parsed.required | parsed.optional) if not is_post_quantum_group(code)]
    if parsed.has_default or classical:
        names = " ".join(map(group_name, classical)) or "OpenSSL's own list"
        raise UsageError(
            f"{groups!r} would still allow {names}, but post-quantum is required.", f"Use {REQUIRED_GROUPS}."
        )


def write_require_pq_conf(
    folder: Path, interpreter: Interpreter, environment: Mapping[str, str], groups: str = REQUIRED_GROUPS
) -> Path:
    """Write a configuration under which no classical key exchange is possible, on top of the one in force.

    Args:
        folder: A private folder.
        interpreter: Whose default configuration it is built on.
        environment: What the process is started with; OPENSSL_CONF and OPENSSL_CONF_INCLUDE in it count.
        groups: OpenSSL's syntax; none may be classical.

    Returns:
        The file, for OPENSSL_CONF. `check_require_pq` must follow.

    Raises:
        UsageError: A group is classical, or the configuration in force cannot be followed.
    """
    require_post_quantum_groups(groups)
    return write_groups_conf(groups, folder, interpreter, environment, is_tls13_only=True)


def hold_by_conf(
    folder: Path,
    interpreter: Interpreter,
    environment: Mapping[str, str],
    groups: str,
    *,
    require_pq: bool,
    is_bare: bool = False,
) -> dict[str, str]:
    """Hold the programs of an environment to groups, or to post-quantum TLS alone, and make sure that OpenSSL follows.

    Args:
        folder: A private folder.
        interpreter: Whose default configuration it is built on, and who is asked what it offers then.
        environment: What they are started with.
        groups: As `--groups` takes it; "" for OpenSSL's own, or where post-quantum is required, for REQUIRED_GROUPS.
        require_pq: Nothing classical may be offered.
        is_bare: The interpreter stands for a program that is no Python: without what `pqtls enable` has it offer.

    Returns:
        A new environment, with OPENSSL_CONF.

    Raises:
        UsageError: It is no such list, or this OpenSSL does not follow it.
    """
    held = resolve_groups(groups)
    wanted = held.groups or REQUIRED_GROUPS
    if require_pq:
        conf = write_require_pq_conf(folder, interpreter, environment, wanted)
    else:
        conf = write_groups_conf(wanted, folder, interpreter, environment, is_tls13_only=held.is_tls13_only)
    changed = {**environment, "OPENSSL_CONF": str(conf)}
    check = check_require_pq if require_pq else check_groups
    check(interpreter.executable, changed, wanted, is_bare=is_bare)
    return changed


def check_require_pq(
    executable: Path | str, environment: Mapping[str, str], groups: str = REQUIRED_GROUPS, *, is_bare: bool = False
) -> tuple[int, ...]:
    """Make sure that a process in this environment offers nothing classical, by its own ClientHello.

    Args:
        executable: A Python interpreter.
        environment: Its whole environment.
        groups: The list that it should offer.
        is_bare: As for `check_groups`.

    Returns:
        The code points that it offers, for "codes" of inject/openssl_settings.py.

    Raises:
        UsageError: It offers a classical group, a version before TLS 1.3, or nothing.
    """
    require_post_quantum_groups(groups)
    check_groups(executable, environment, groups, is_bare=is_bare)
    probe = probe_mlkem(executable, environment, is_bare=is_bare)
    offered = tuple(code for code in probe.offered_groups if not is_grease(code))
    if not offered or not all(map(is_post_quantum_group, offered)):
        raise UsageError(
            f"{probe.openssl_version} would still offer {' '.join(map(group_name, offered)) or 'nothing'}."
        )
    versions = set(probe.offered_versions)
    if versions != {0x0304}:
        raise UsageError(
            f"{probe.openssl_version} would still offer other versions than TLS 1.3.",
            "Look for Protocol and Options in OPENSSL_CONF and openssl.cnf.",
        )
    return offered
