"""The request line and head of HTTP CONNECT, as a proxy reads them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket

# aiohttp, the most talkative of the suite, sends under 300 bytes; proxies commonly take 8 to 64 KiB.
MAX_HEAD_BYTES = 16_384
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """What a client asked a proxy for.

    Attributes:
        method: The method, such as `CONNECT`.
        host: Host name in lower case or IP address without brackets, "" if there is none.
        early: Bytes that came after the head.
    """

    method: str
    host: str
    early: bytes


async def receive_request(connection: socket.socket) -> ProxyRequest | None:
    """Read one request's head.

    Args:
        connection: Non-blocking socket to the client.

    Returns:
        The request; None if the stream ended before, or the head is longer than `MAX_HEAD_BYTES`.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while _END_OF_HEAD not in data:
        chunk = await loop.sock_recv(connection, MAX_HEAD_BYTES)
        data += chunk
        if not chunk or len(data) > MAX_HEAD_BYTES:
            return None
    head, _, early = data.partition(_END_OF_HEAD)
    return parse_head(head, early)


def parse_head(head: bytes, early: bytes = b"") -> ProxyRequest:
    """Read a request's head; any bytes give a request, if only one for no host.

    Args:
        head: Everything before the blank line.
        early: What came after it.

    Returns:
        The request.
    """
    words = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    method, target = (words[0], words[1]) if len(words) == 3 else ("", "")
    try:
        host = urlsplit(target if "://" in target else f"//{target}").hostname
    except ValueError:  # such as an unclosed bracket
        host = None
    return ProxyRequest(method, host or "", early)
