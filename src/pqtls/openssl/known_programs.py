"""What no ELF header says of a program: what it opens or starts by itself, and who sets its own groups.

Only programs that were measured are named here (docs/openssl.md, docs/programs.md); everything else is told by
what it is linked to.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.paths import is_file

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_GROUPS = {
    "socat": "Use another program between, such as haproxy or nginx.",
    "stunnel": "Set `curves = X25519MLKEM768:X25519` in its configuration.",
    "stunnel4": "Set `curves = X25519MLKEM768:X25519` in its configuration.",
    "postgres": "PostgreSQL 18 has `ssl_groups`; before, let haproxy or a pooler end the TLS.",
    "postmaster": "PostgreSQL 18 has `ssl_groups`; before, let haproxy or a pooler end the TLS.",
}
"""Programs that set their groups themselves, whatever OpenSSL's own list is; with what to do."""

CLEAN_STARTERS = ("sudo", "doas", "pkexec", "systemd-run")
"""Programs that start others with an environment of their own, in which LD_LIBRARY_PATH is not."""

_EXTENSIONS = {
    "perl": (
        "lib/*/perl5/*/auto/Net/SSLeay/SSLeay.so",
        "local/lib/*/perl/*/auto/Net/SSLeay/SSLeay.so",
        "lib/perl5/*/auto/Net/SSLeay/SSLeay.so",
        "lib/perl5/*/*/auto/Net/SSLeay/SSLeay.so",
        "lib64/perl5/*/auto/Net/SSLeay/SSLeay.so",
    ),
    "ruby": ("lib/*/ruby/*/openssl.so", "lib/ruby/*/*/openssl.so", "lib64/ruby/openssl.so"),
}
"""Extension modules through which a language does TLS, below the prefix of its interpreter."""

_HELPERS = {"git": ("lib/git-core/git-remote-https", "libexec/git-core/git-remote-https")}
"""Programs that others start for TLS, below the prefix of theirs."""


def find_extensions(program: Path) -> list[Path]:
    """Find the extension modules through which an interpreter does TLS.

    Args:
        program: Such as /usr/bin/perl.

    Returns:
        Their files; none if it is no such interpreter, or has none where they usually are.
    """
    patterns = _EXTENSIONS.get(re.sub(r"[0-9.]+$", "", program.name), ())
    return [path for prefix in _prefixes(program) for pattern in patterns for path in sorted(prefix.glob(pattern))]


def find_helper(program: Path, environment: Mapping[str, str]) -> Path | None:
    """Find the program that another one starts for TLS.

    Args:
        program: Such as /usr/bin/git.
        environment: What it would be started with; GIT_EXEC_PATH in it counts.

    Returns:
        Its file; None if there is none, or `program` needs none.
    """
    name = program.name
    candidates = [prefix / path for prefix in _prefixes(program) for path in _HELPERS.get(name, ())]
    if name == "git" and environment.get("GIT_EXEC_PATH", "").startswith("/"):
        candidates.insert(0, Path(environment["GIT_EXEC_PATH"], "git-remote-https"))
    return next((path for path in candidates if is_file(path)), None)


def see_through_wrapper(program: Path) -> Path:
    """Return the program that Debian's pg_wrapper starts: the newest version's; any other program as it is.

    Args:
        program: As found, symbolic links kept.
    """
    wrapper = program.resolve()
    if wrapper.name != "pg_wrapper" or len(wrapper.parents) < 3:
        return program
    versions = wrapper.parents[2].glob(f"lib/postgresql/*/bin/{program.name}")
    found = sorted(versions, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.parent.name)])
    return found[-1] if found else program


def _prefixes(program: Path) -> list[Path]:
    return list(dict.fromkeys(path.parent.parent for path in (program, program.resolve())))
