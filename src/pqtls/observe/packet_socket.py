"""A Linux packet socket on one interface: TCP only by a filter in the kernel, with the kernel's own clock.

Sources: packet(7), socket(7) (SO_TIMESTAMPNS, SO_RXQ), the kernel's networking/filter documentation and
linux/if_packet.h, linux/filter.h, linux/if_arp.h for the numbers that Python's `socket` does not name.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import time
from typing import TYPE_CHECKING

from pqtls.errors import CannotProveError, UsageError
from pqtls.wire import link
from pqtls.wire.pcap import CapturedPacket

if TYPE_CHECKING:
    from collections.abc import Sequence

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_ARPHRD_RAW_IP = frozenset((65534, 768, 769, 776, 778))  # tun; tunnels whose packets begin with IP
# linux/filter.h's SKF_AD_OFF + SKF_AD_PKTTYPE: which way the packet goes; 4 is "outgoing".
_PACKET_TYPE, _OUTGOING = 0xFFFFF004, 4

# BIG TCP can hand out more than 64 KB at once; pcap programs take 262,144 bytes for "everything".
MAX_PACKET_BYTES = 262_144
# Some 5,000 full packets: what arrives in half a second of a busy lab while Python is held up. Without
# CAP_NET_ADMIN the kernel gives less (net.core.rmem_max); what does not fit is counted as dropped.
RECEIVE_BUFFER_BYTES = 1 << 24

_LOAD_BYTE, _LOAD_HALF, _AND, _JUMP_EQUAL, _RETURN = 0x30, 0x28, 0x54, 0x15, 0x06
_LOAD_IP_HEADER_SIZE, _LOAD_BYTE_BEHIND = 0xB1, 0x50
_TCP, _SYN, _SYN_ACK = 6, 0x02, 0x12
_IPV6_EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140)  # headers after which TCP can come

_Test = tuple[int, str]
_Step = tuple[int, int] | _Test | str


class PacketSocket:
    """Sees every TCP packet of one interface, both ways, from the moment it is made.

    Args:
        interface: Name of the interface, in the network namespace of the calling thread.
        only_openings: See only the first packet of each TCP connection: a SYN without an ACK. Packets in which the
            kernel's filter cannot find the flags are let through as well.

    Attributes:
        interface: The name.
        is_loopback: It leads back to this host.

    Raises:
        CannotProveError: The system does not allow it, or its kind of interface is not known.
        UsageError: There is no such interface.
    """

    def __init__(self, interface: str, *, only_openings: bool = False) -> None:
        self.interface = interface
        self._only_openings = only_openings
        self._buffer = bytearray(MAX_PACKET_BYTES)
        self._received = self._dropped = 0
        self.is_loopback = False
        self._socket = _open_socket()
        try:
            self._open(interface)
        except OSError as error:
            self._socket.close()
            if error.errno in (errno.ENODEV, errno.ENXIO, errno.EINVAL):
                raise UsageError(f"There is no network interface {interface!r} here.") from error
            raise CannotProveError(f"Packets of {interface} cannot be captured: {error.strerror}.") from error
        except BaseException:
            self._socket.close()
            raise

    @classmethod
    def adopt(cls, bound: socket.socket) -> PacketSocket:
        """Take over a packet socket that another process bound to an interface of its own network namespace.

        Args:
            bound: The socket; closed with this object.
        """
        self = cls.__new__(cls)
        self.interface = str(bound.getsockname()[0])
        self._only_openings = False
        self._buffer = bytearray(MAX_PACKET_BYTES)
        self._received = self._dropped = 0
        self._socket = bound
        self._set_up(self.interface, bound.getsockname()[3])
        return self

    def _open(self, interface: str) -> None:
        self._socket.bind((interface, 0))  # no packets yet: none may arrive before the filter stands
        self._set_up(interface, self._socket.getsockname()[3])
        self._socket.bind((interface, _ETH_P_ALL))

    def _set_up(self, interface: str, hardware: int) -> None:
        own = self._socket
        self.link_type = _link_type(interface, hardware)
        self.is_loopback = hardware == _ARPHRD_LOOPBACK
        program = build_filter(self.link_type, skip_outgoing=self.is_loopback, only_openings=self._only_openings)
        _attach_filter(own, program)
        own.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            own.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        own.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, to wait for packets."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; what is queued is lost."""
        self._socket.close()

    def receive(self) -> CapturedPacket | None:
        """Return the next queued packet, None if there is none.

        Raises:
            OSError: The interface went down (ENETDOWN, told once) or is gone.
        """
        found = self.receive_with_direction()
        return None if found is None else found[0]

    def receive_with_direction(self) -> tuple[CapturedPacket, bool] | None:
        """Return the next queued packet and whether this host sent it; on loopback every packet comes in.

        Raises:
            OSError: As for `receive`.
        """
        flags = socket.MSG_TRUNC
        try:
            size, ancillary, _, address = self._socket.recvmsg_into([self._buffer], 64, flags)
        except (BlockingIOError, InterruptedError):
            return None
        data = bytes(memoryview(self._buffer)[: min(size, MAX_PACKET_BYTES)])
        packet = CapturedPacket(_kernel_time_ns(ancillary), data, size, self.link_type)
        return packet, address[2] == _OUTGOING

    def read_statistics(self) -> tuple[int, int]:
        """Return how many packets the kernel has queued for this socket and how many it dropped, so far."""
        raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)  # resets its counters
        packets, drops = struct.unpack("II", raw)
        self._received += packets - drops  # the kernel counts dropped ones among its packets
        self._dropped += drops
        return self._received, self._dropped


def _open_socket() -> socket.socket:
    if not hasattr(socket, "AF_PACKET"):
        raise CannotProveError("Packets can be captured on Linux only.", "Read a capture file instead.")
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except PermissionError as error:
        raise CannotProveError(
            "Capturing packets needs the capability CAP_NET_RAW in this network namespace.",
            "Run this as root, or inside namespaces of your own: unshare -Urn.",
        ) from error
    except OSError as error:
        raise CannotProveError(f"This kernel has no packet sockets: {error.strerror}.") from error


def _link_type(interface: str, hardware: int) -> int:
    if hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK):
        return link.ETHERNET
    if hardware in _ARPHRD_RAW_IP:
        return link.RAW
    raise CannotProveError(f"Interface {interface} is of a kind (ARPHRD {hardware}) whose packets are not understood.")


def _kernel_time_ns(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("ll", data[: struct.calcsize("ll")])
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


# The filter: a classic BPF program, written as steps with named places to jump to


def build_filter(link_type: int, *, skip_outgoing: bool, only_openings: bool = False) -> bytes:
    """Write the filter program: IPv4 and IPv6 packets that carry TCP, or may; anything tagged with a VLAN.

    Args:
        link_type: `link.ETHERNET` or `link.RAW`.
        skip_outgoing: On loopback each packet passes twice, out and in; once is enough.
        only_openings: Of plain IPv4 and IPv6 packets, only those with SYN and without ACK.

    Returns:
        `struct sock_filter` instructions.
    """
    ethernet = link_type == link.ETHERNET
    network = 14 if ethernet else 0
    steps: list[_Step] = []
    if skip_outgoing:
        steps += [(_LOAD_BYTE, _PACKET_TYPE), (_OUTGOING, "drop")]
    if ethernet:
        steps += [(_LOAD_HALF, 12), (link.ETHERTYPE_IPV4, "ipv4"), (link.ETHERTYPE_IPV6, "ipv6")]
        steps += [(tag, "accept") for tag in (0x8100, 0x88A8, 0x9100)]
    else:
        steps += [(_LOAD_BYTE, 0), (_AND, 0xF0), (0x40, "ipv4"), (0x60, "ipv6")]
    tcp4, tcp6 = ("tcp4", "tcp6") if only_openings else ("accept", "accept")
    steps += [(_RETURN, 0), "ipv4", (_LOAD_BYTE, network + 9), (_TCP, tcp4), (_RETURN, 0), "ipv6"]
    steps += [(_LOAD_BYTE, network + 6), (_TCP, tcp6), *((number, "accept") for number in _IPV6_EXTENSIONS)]
    steps += [(_RETURN, 0)]
    if only_openings:
        steps += ["tcp4", (_LOAD_IP_HEADER_SIZE, network), (_LOAD_BYTE_BEHIND, network + 13)]
        steps += [(_AND, _SYN_ACK), (_SYN, "accept"), (_RETURN, 0)]
        steps += ["tcp6", (_LOAD_BYTE, network + 40 + 13), (_AND, _SYN_ACK), (_SYN, "accept"), (_RETURN, 0)]
    steps += ["drop", (_RETURN, 0), "accept", (_RETURN, MAX_PACKET_BYTES)]
    return _assemble(steps)


def _assemble(steps: list[_Step]) -> bytes:
    """Turn steps into instructions: (code, operand), (value, place to jump to if equal), or a place's name."""
    places: dict[str, int] = {}
    instructions: list[tuple[int, int] | _Test] = []
    for step in steps:
        if isinstance(step, str):
            places[step] = len(instructions)
        else:
            instructions.append(step)
    program = b""
    for number, (first, second) in enumerate(instructions):
        if isinstance(second, str):
            program += struct.pack("HBBI", _JUMP_EQUAL, places[second] - number - 1, 0, first)
        else:
            program += struct.pack("HBBI", first, 0, 0, second)
    return program


def _attach_filter(own: socket.socket, program: bytes) -> None:
    memory = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
    own.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
