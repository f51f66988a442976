"""The environment of a client in the lab: everything that it needs, and nothing of the user's that could interfere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# All that is taken over. Proxies, CA files, AWS profiles and Python settings of the user stay outside.
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


def lab_client_environment(*, ca_bundle: Path, proxy_port: int, dial_port: int, home: Path) -> dict[str, str]:
    """Return the whole environment for one client.

    Args:
        ca_bundle: The lab's authority.
        proxy_port: Port of the client's CONNECT proxy on loopback.
        dial_port: Port on loopback that leads straight to the client's server, for clients without proxies.
        home: Private folder, also its working directory.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    bundle = str(ca_bundle)
    return {
        **kept,
        "HOME": str(home),
        "HTTPS_PROXY": f"http://127.0.0.1:{proxy_port}",
        "PQTLS_DIAL": f"127.0.0.1:{dial_port}",
        "SSL_CERT_FILE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "AWS_CA_BUNDLE": bundle,
        # Made up: moto asks for credentials and takes any.
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": str(home / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_PAGER": "",
    }
