"""The kernel's own list of TCP sockets, by sock_diag: one socket by its two ends in microseconds, or all of them.

Sources: sock_diag(7); linux/inet_diag.h and linux/netlink.h for the numbers that Python's `socket` does not name.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.wire.packets import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

SYN_SENT, TIME_WAIT, CLOSE, LISTEN = 2, 6, 7, 10

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST, _NLM_F_DUMP, _NLMSG_ERROR, _NLMSG_DONE = 0x1, 0x300, 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH16s16s")
_COOKIE = struct.Struct("=III")
_ANSWER_TAIL = struct.Struct("=IIIII")
_FAMILY_STATE_BYTES, _TAIL_OFFSET = 4, 4 + _PORTS.size + _COOKIE.size
_ANY_STATE, _NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
_MAPPED = bytes(10) + b"\xff\xff"
_BUFFER_BYTES = 1 << 20
# The kernel answers out of its own memory; if it does not, something else is wrong than a slow network.
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """One TCP socket as the kernel lists it.

    Attributes:
        local: Its own end; the IPv4 address of one that is IPv4 inside IPv6 (v4-mapped).
        remote: The other end; port 0 where there is none.
        state: TCP state: `SYN_SENT`, `LISTEN` and so on.
        inode: Number by which /proc/PID/fd names it; 0 if no process holds it any more.
    """

    local: Endpoint
    remote: Endpoint
    state: int
    inode: int


class SockDiag:
    """Asks the kernel for TCP sockets of the network namespace of the thread that makes this object.

    Not to be used by two threads at once.

    Raises:
        OSError: The kernel does not know sock_diag, or does not allow it.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        try:
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise
        self._serial = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def find(self, local: Endpoint, remote: Endpoint, interface_index: int = 0) -> TcpSocket | None:
        """Find the socket with these two ends.

        Args:
            local: Its own end.
            remote: The other end.
            interface_index: Number of the interface that its packets use; 0 for sockets bound to none.

        Returns:
            The socket, v4-mapped ones included; None if there is none.

        Raises:
            OSError: The kernel does not answer.
        """
        family = socket.AF_INET if len(local.ip) == 4 else socket.AF_INET6
        try:
            found = next(self._ask(family, local, remote, interface_index, 0), None)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        # Where no connection fits, the kernel answers with a listener on the port.
        return found if found is not None and (found.local, found.remote) == (local, remote) else None

    def list_all(self) -> list[TcpSocket]:
        """Return every TCP socket of the namespace.

        Raises:
            OSError: The kernel does not answer.
        """
        nothing = Endpoint(b"", 0)
        return [
            each
            for family in (socket.AF_INET, socket.AF_INET6)
            for each in self._ask(family, nothing, nothing, 0, _NLM_F_DUMP)
        ]

    def _ask(self, family: int, local: Endpoint, remote: Endpoint, interface: int, flags: int) -> Iterator[TcpSocket]:
        self._serial += 1
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE)
        body += _PORTS.pack(local.port, remote.port, local.ip, remote.ip)
        body += _COOKIE.pack(interface, _NO_COOKIE, _NO_COOKIE)
        size = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | flags, self._serial, 0) + body)
        while True:
            data = self._socket.recv(_BUFFER_BYTES)
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind, _, serial, _ = _HEADER.unpack_from(data, at)
                start, at = at + _HEADER.size, at + max((size + 3) & ~3, _HEADER.size)
                if serial != self._serial:
                    continue  # left over from a question that was given up
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, start)
                    raise OSError(-code, os.strerror(-code))
                yield _parse(data, start)
                if not flags:
                    return


def _parse(data: bytes, at: int) -> TcpSocket:
    state = data[at + 1]
    local_port, remote_port, local, remote = _PORTS.unpack_from(data, at + _FAMILY_STATE_BYTES)
    *_, inode = _ANSWER_TAIL.unpack_from(data, at + _TAIL_OFFSET)
    is_ipv4 = data[at] == socket.AF_INET
    return TcpSocket(
        Endpoint(_address(local, is_ipv4), local_port), Endpoint(_address(remote, is_ipv4), remote_port), state, inode
    )


def _address(raw: bytes, is_ipv4: bool) -> bytes:
    if is_ipv4:
        return raw[:4]
    return raw[12:] if raw.startswith(_MAPPED) else raw
