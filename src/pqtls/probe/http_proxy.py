"""An HTTP proxy, and the way through it by CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pqtls import __version__
from pqtls.errors import UsageError
from pqtls.probe.dialogue import BeforeTlsError

if TYPE_CHECKING:
    from pqtls.probe.dialogue import Dialogue

VARIABLE = "PQTLS_PROXY"
"""Where a proxy's URL stands that has a password in it."""

_USUAL_PORT = 80
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: .*)?")
# Schemes, of which one field may name several; what is followed by an equals sign is a parameter of one.
_SCHEME = re.compile(rb"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]{0,30})(?=\s|,|$)")
_MAX_INTERIM_ANSWERS = 5
_NOT_A_PROXY = "what answers there speaks no HTTP: is it the proxy's address and port?"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: Name, or IP address without brackets.
        port: TCP port.
        credentials: USER:PASSWORD, None for none. Never told to anyone but the proxy.
    """

    host: str
    port: int
    credentials: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The URL without credentials."""
        return f"http://{_join(self.host, self.port)}"


def parse_proxy(url: str, source: str) -> Proxy:
    """Read http://[USER[:PASSWORD]@]HOST[:PORT]; what is wrong is told without the URL, which may hold a password.

    Args:
        url: The URL; without a scheme it is taken for http.
        source: Where it came from, such as "--proxy".

    Raises:
        UsageError: It is no such URL.
    """
    form = "Write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT into PQTLS_PROXY."
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{source} is no proxy's URL.", form) from error
    if parts.scheme.lower() != "http":
        kinds = {"https": "a proxy that is spoken to over TLS", "socks5": "a SOCKS proxy", "socks5h": "a SOCKS proxy"}
        kind = kinds.get(parts.scheme.lower(), "no HTTP proxy")
        raise UsageError(f"{source} names {kind}; pqtls path goes through HTTP proxies by CONNECT.", form)
    if not host or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment or not _is_clean(host):
        raise UsageError(f"{source} is no proxy's URL.", form)
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or _USUAL_PORT, credentials)


def has_password(url: str) -> bool:
    """Tell whether there is a password in a URL.

    Args:
        url: Any text.
    """
    userinfo, at, _ = url.rpartition("@")
    return bool(at) and ":" in userinfo.partition("://")[2 if "://" in userinfo else 0]


def open_tunnel(dialogue: Dialogue, proxy: Proxy, host: str, port: int) -> None:
    """Ask a proxy for a tunnel.

    Args:
        dialogue: With the proxy.
        proxy: The proxy.
        host: Where the tunnel leads to: a name, which the proxy resolves, or an address without brackets.
        port: And its port.

    Raises:
        BeforeTlsError: There is no tunnel.
    """
    dialogue.speaker = f"The proxy {proxy}"
    place = _join(host, port)
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", f"User-Agent: pqtls/{__version__}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(proxy.credentials.encode()).decode()}")
    dialogue.say("".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii"))
    for _ in range(_MAX_INTERIM_ANSWERS):
        status, schemes = _read_head(dialogue)
        if status // 100 == 1:
            continue
        if status // 100 == 2:
            return
        raise _refusal(proxy, place, status, schemes)
    raise BeforeTlsError(f"{dialogue.speaker} answers CONNECT by interim answers alone: {_NOT_A_PROXY}", is_final=True)


def _read_head(dialogue: Dialogue) -> tuple[int, list[str]]:
    """Return an answer's status, and the ways to authenticate that it names."""
    line = dialogue.read_line()
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BeforeTlsError(f"{dialogue.speaker} is none: {_NOT_A_PROXY}", is_final=True)
    schemes = []
    while line := dialogue.read_line():
        name, _, value = line.partition(b":")
        if name.lower() == b"proxy-authenticate":
            schemes += [scheme.decode("ascii") for scheme in _SCHEME.findall(value)]
    return int(match[1]), schemes


def _refusal(proxy: Proxy, place: str, status: int, schemes: list[str]) -> BeforeTlsError:
    # tinyproxy asks by 407, and refuses what it is given by 401, which is said of wrong credentials for a server.
    if status in (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.UNAUTHORIZED):
        wanted = ", ".join(dict.fromkeys(schemes)) or "credentials"
        if schemes and "basic" not in {scheme.lower() for scheme in schemes}:
            text = f"wants {wanted} ({status}), and pqtls can do Basic alone: go through a proxy that takes that"
        elif proxy.credentials is None:
            text = f"wants credentials ({status}): put http://USER:PASSWORD@{proxy.host}:{proxy.port} into {VARIABLE}"
        else:
            text = f"does not take these credentials ({status}): correct those in {VARIABLE}"
        return BeforeTlsError(f"The proxy {proxy} {text}.", is_final=True)
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    if status // 100 == 5 or status == HTTPStatus.TOO_MANY_REQUESTS:
        return BeforeTlsError(
            f"The proxy {proxy} made no connection to {place} ({phrase}): is the target up, and may the proxy reach it?"
        )
    return BeforeTlsError(
        f"The proxy {proxy} allows no CONNECT to {place} ({phrase}): ask those who run it for this host and port.",
        is_final=True,
    )


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_clean(host: str) -> bool:
    return host.isascii() and host.isprintable() and not set(host) & set(" /\\?#@<>\"'")
