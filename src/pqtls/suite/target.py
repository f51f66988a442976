"""Real servers to test: an AWS region, or any TLS server as host and port or as a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pqtls.errors import UsageError

# DNS suffixes of AWS's partitions by the first part of a region's name; all others are in the first partition.
# Source: botocore's partitions.json (1.43).
_PARTITION_SUFFIXES = (
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
)
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]{2,12}){1,4}-\d{1,2}")
# A host name's labels, or an address. Names of other scripts come as their IDNA form.
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}\.?)+|[0-9A-Fa-f:.]+(%[\w.-]+)?")
_EXAMPLES = "Write example.com, example.com:8443, [2001:db8::1]:443 or https://example.com/path."


@dataclass(frozen=True, slots=True)
class Target:
    """A real server.

    Attributes:
        name: Short name for people and reports: a region, or host:port. Never a path or a query.
        host: Host name or IP address.
        port: TCP port.
        path: What is asked for by HTTP; None for `/ping` at AWS.
        region: The AWS region; "" for another server.
    """

    name: str
    host: str
    port: int = 443
    path: str | None = None
    region: str = ""

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL; the port left out where it is 443."""
        return self.address.removesuffix(":443")

    @property
    def address(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        return _address(self.host, self.port)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_region(text: str) -> Target:
    """Return Secrets Manager's endpoint in a region.

    Args:
        text: The region, such as `us-east-1`.

    Raises:
        UsageError: It does not look like one.
    """
    if not _REGION.fullmatch(text):
        raise UsageError(f"{text!r} is no name of an AWS region.", "Write it as AWS does, such as us-east-1.")
    suffix = next((each for start, each in _PARTITION_SUFFIXES if text.startswith(start)), "amazonaws.com")
    return Target(text, f"secretsmanager.{text}.{suffix}", region=text)


def parse_endpoint(text: str) -> Target:
    """Read `--endpoint`.

    Args:
        text: `host`, `host:port` or an https URL; an IPv6 address in brackets.

    Raises:
        UsageError: It is none of these.
    """
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() != "https":
        raise UsageError(
            f"{_clean(text)} does not begin with https://: TLS from the first byte on is what is tested.",
            "STARTTLS is not part of it.",
        )
    try:
        parts = urlsplit(text if separator else f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"{_clean(text)} is no host, host:port or URL: {error}.", _EXAMPLES) from error
    if parts.username is not None or parts.password is not None:
        raise UsageError("An endpoint takes no user name or password.", "Leave out what stands before the @.")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise UsageError(f"{_clean(text)} has a host name that cannot be written in IDNA.", _EXAMPLES) from error
    if not _HOST.fullmatch(host) or not text.isprintable() or " " in text or port == 0:
        raise UsageError(f"{_clean(text)} is no host, host:port or URL.", _EXAMPLES)
    if not separator and (parts.path or parts.query or parts.fragment):
        raise UsageError(f"{_clean(text)} has a path, but is no URL.", _EXAMPLES)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(_address(host, port or 443), host, port or 443, path)


def _clean(text: str) -> str:
    """Write what a user gave, without a query or a password that it may hold."""
    text = re.sub(r"//[^/@]*@", "//", text.partition("?")[0])
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
