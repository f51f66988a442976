"""The environment in which an unmodified client reaches the lab, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pqtls.lab.names import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# What a program needs to start and to print. LD_LIBRARY_PATH is in it since an interpreter may need it to find
# its own libpython (GitHub's setup-python sets it); where it leads is for pqtls.openssl to judge.
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")


def lab_client_environment(
    ca_bundle: Path, proxy_port: int | None, dial_port: int | None, home: Path, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the whole environment for a client in the lab.

    Nothing of the user's that could change the result is in it: no proxy or NO_PROXY, no SSL_CERT_DIR, no
    PYTHONPATH, no AWS profile. Verification is as the client has it; only the authority is the lab's.

    Args:
        ca_bundle: The lab's authority, PEM.
        proxy_port: Port on loopback of a CONNECT proxy, for clients that honour a proxy variable;
            None where names lead to the server by themselves.
        dial_port: Port on loopback that leads to the server, for clients that don't (PQTLS_DIAL);
            None likewise.
        home: Private folder, for HOME.
        base: Environment that PATH, LANG, LC_ALL, TMPDIR and such are taken from, None for this
            process's own. PATH must lead to `aws` where that is needed.

    Returns:
        A new dictionary.
    """
    base = os.environ if base is None else base
    environment = {name: base[name] for name in _KEPT if name in base}
    environment["HOME"] = str(home)
    if dial_port is not None:
        environment["PQTLS_DIAL"] = f"{LOOPBACK}:{dial_port}"
    for name in _PROXY_VARIABLES if proxy_port is not None else ():
        # Both spellings: some libraries prefer one, some know only the other.
        environment[name] = environment[name.lower()] = f"http://{LOOPBACK}:{proxy_port}"
    environment.update(dict.fromkeys(_CA_VARIABLES, str(ca_bundle)))
    environment.update(lab_aws_variables(home))
    return environment


def lab_aws_variables(home: Path) -> dict[str, str]:
    """Return what keeps AWS's libraries to the lab: made-up credentials, and none of the user's files.

    Args:
        home: A folder in which AWS's files, of other names than its own, are looked for and not found.
    """
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": str(home / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",  # a refused connection stays one connection
    }
