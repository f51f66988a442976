"""TCP_INFO, read field by field: what a shorter struct or another platform does not have is None.

Source: struct tcp_info in Linux's include/uapi/linux/tcp.h. Fields are only ever added at its end, and the kernel says
how many bytes it filled in. gVisor's: pkg/sentry/socket/netstack/netstack.go, read in August 2026's state.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from pqtls.probe.model import TcpFacts

_READ_BYTES = 512
_US = 1_000_000
# Field: offset in bytes, format.
_FIELDS = {
    "snd_mss": (16, "I"),
    "pmtu": (60, "I"),
    "rtt_s": (68, "I"),
    "advmss": (84, "I"),
    "total_retrans": (100, "I"),
    "bytes_acked": (120, "Q"),
    "bytes_received": (128, "Q"),
    "min_rtt_s": (148, "I"),
    "rwnd_limited_s": (176, "Q"),
    "rcv_ooopack": (224, "I"),
    "snd_wnd": (228, "I"),
}
# No round trip has been measured: the kernel says so by all ones (min_rtt) or nought (rtt).
_NO_RTT = 0xFFFFFFFF


def read_tcp_facts(connection: socket.socket) -> TcpFacts | None:
    """Return what the kernel knows of a connection; None where it does not say.

    An emulated kernel, such as gVisor's under some clouds' containers, answers with a struct of noughts, but for a few
    fields. Taken for facts they would make a closed window of every silence; so segments of no bytes are no facts.

    Args:
        connection: A TCP socket that was connected.
    """
    option = getattr(socket, "TCP_INFO", None)
    if option is None or not sys.platform.startswith("linux"):
        return None
    try:
        facts = parse_tcp_info(connection.getsockopt(socket.IPPROTO_TCP, option, _READ_BYTES))
    except OSError:
        return None
    return facts if facts.snd_mss else None


def parse_tcp_info(data: bytes) -> TcpFacts:
    """Read Linux's struct tcp_info, however much of it there is.

    Args:
        data: The bytes that the kernel filled in.
    """
    found: dict[str, Any] = {}  # by the fields of TcpFacts
    for name, (offset, kind) in _FIELDS.items():
        end = offset + struct.calcsize("=" + kind)
        if end <= len(data):
            found[name] = struct.unpack_from("=" + kind, data, offset)[0]
    for name in ("rtt_s", "min_rtt_s", "rwnd_limited_s"):
        value = found.pop(name, None)
        if value is not None and value != _NO_RTT and (value or name == "rwnd_limited_s"):
            found[name] = value / _US
    if "bytes_acked" in found:
        # The SYN counts as one byte (and our FIN, which is sent only after this is read).
        found["bytes_acked"] = max(0, found["bytes_acked"] - 1)
    return TcpFacts(**found)
