"""The host names that the lab answers to: AWS Secrets Manager's, as in AWS's public sample, and localhost."""

from __future__ import annotations

from typing import TypeAlias

Address: TypeAlias = tuple[str, int]
"""IP address and TCP port."""

LOOPBACK = "127.0.0.1"

AWS_REGIONS = ("us-west-1", "us-east-1", "ap-southeast-1", "us-east-2")
"""The regions of AWS's sample, in its order."""

_SERVICE = "secretsmanager"
_DOMAIN = ".amazonaws.com"


def aws_host(region: str) -> str:
    """Return the host name of Secrets Manager in a region.

    Args:
        region: Such as `us-west-1`.
    """
    return f"{_SERVICE}.{region}{_DOMAIN}"


def is_aws_host(host: str) -> bool:
    """Return whether a host name is one of AWS's.

    Args:
        host: A host name, without a port.
    """
    return host.lower().endswith(_DOMAIN)


AWS_HOSTS = tuple(aws_host(region) for region in AWS_REGIONS)
"""What the lab's clients contact."""

LAB_NAMES = (*AWS_HOSTS, "localhost", LOOPBACK)
"""What the certificate of the lab's good server is for."""

WRONG_NAME = "wrong.example"
"""What the certificate of the wrong-name server is for: a name that nobody contacts."""
