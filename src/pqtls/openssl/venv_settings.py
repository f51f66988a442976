"""What an enabled environment's TLS is held to: groups, and post-quantum key exchange as a requirement.

It is done in every process of the environment by modules of `pqtls.inject` that `enable` copies beside its loader,
without an environment variable: children that are other programs stay as they were.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from pqtls.openssl.context import REQUIRED_GROUPS
from pqtls.openssl.group_presets import resolve_groups
from pqtls.openssl.groups_conf import parse_groups
from pqtls.openssl.require_pq import require_post_quantum_groups

SETTINGS, GUARD, SOCKET_ERRORS = "openssl_settings", "guard", "socket_errors"


@dataclass(frozen=True, slots=True)
class VenvSettings:
    """Which modules are installed once `ssl` is imported, in their order, and what they are given.

    Attributes:
        groups: The list in OpenSSL's syntax; "" for OpenSSL's own.
        plugins: Modules of `pqtls.inject`.
        values: What their `install(ssl, settings)` is given.
        options: Of `pqtls enable`, as they were given.
        has_own_list: The user named groups: they must be followed, a guard alone would not do.
    """

    groups: str
    plugins: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    options: str = ""
    has_own_list: bool = False

    @property
    def command(self) -> str:
        """The command line that asks for it."""
        return f"pqtls enable {self.options}".rstrip()


def plan_settings(groups: str, *, require_pq: bool) -> VenvSettings:
    """Decide what an environment is held to.

    Args:
        groups: As `--groups` takes it: a preset's name or a list, "" for OpenSSL's own.
        require_pq: Every TLS connection of its Pythons must be post-quantum.

    Returns:
        The modules and settings. The errors of sockets are always mended: it is newer OpenSSLs that need it.

    Raises:
        UsageError: It is no such list, or a classical group is in it though post-quantum is required.
    """
    held = resolve_groups(groups)
    chosen = held.groups or (REQUIRED_GROUPS if require_pq else "")
    must: list[int] = []
    may: list[int] | None = None
    if chosen:
        parsed = parse_groups(chosen)
        must = sorted(parsed.required)
        may = None if parsed.has_default else sorted(parsed.required | parsed.optional)
    if require_pq:
        require_post_quantum_groups(chosen)
    plugins = (
        *((SETTINGS,) if chosen else ()),
        *((GUARD,) if require_pq else ()),
        SOCKET_ERRORS,
    )
    is_tls13_only = require_pq or held.is_tls13_only
    values = {"groups": chosen, "require": is_tls13_only, "must": must, "may": may} if chosen else {}
    options = [*(["--groups", groups] if groups else []), *(["--require-pq"] if require_pq else [])]
    return VenvSettings(chosen, plugins, values, shlex.join(options), bool(held.groups))
