"""The packets of handshakes, kept for a capture file: no more of a connection than its handshake and its end.

A connection's packets are let go as soon as it shows that it is not TLS, so nothing that was sent in the
clear by another protocol reaches the file. Nor does what a client and its proxy say to each other in the clear,
which may hold credentials: of a tunnel only the TLS is kept. The last packets of a handshake may carry the first
application data after it, encrypted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.wire.packet_builder import complete_checksum
from pqtls.wire.packets import FIN, RST
from pqtls.wire.pcap import CapturedPacket, build_pcap_header, build_pcap_packet

if TYPE_CHECKING:
    from pathlib import Path

    from pqtls.wire.packet_tracker import PacketResult

# Some 10,000 handshakes of 6 KB; more of them are counted and not kept.
MAX_KEPT_BYTES = 1 << 26
# What Python needs for one packet beside its bytes.
_PACKET_OVERHEAD_BYTES = 250


class KeptPackets:
    """Keeps what a capture file needs, up to a limit.

    Attributes:
        not_kept: Packets of handshakes that did not fit.
    """

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self.not_kept = 0
        self._max_bytes = max_bytes
        self._bytes = 0
        self._order = 0
        self._connections: dict[int, list[tuple[int, CapturedPacket]]] = {}
        self._over: set[int] = set()
        self._tunnels: set[int] = set()

    def take(self, packet: CapturedPacket, result: PacketResult) -> None:
        """Take a packet after the tracker has seen it.

        Args:
            packet: The packet.
            result: What the tracker said of it.
        """
        for number in result.dropped:
            self._let_go(number)
        number = result.connection if result.connection is not None else -1
        if result.is_tunnel and number not in self._tunnels:
            # Whatever came before this was known, the opening of the connection with it.
            self._tunnels.add(number)
            self._let_go(number)
        if result.has_plain_text:
            return
        if result.phase in ("waiting", "handshake"):
            self._keep(number, packet)
        elif result.phase == "over" and number in self._connections:
            if number not in self._over or result.flags & (FIN | RST):
                self._keep(number, packet)
            self._over.add(number)

    def _keep(self, number: int, packet: CapturedPacket) -> None:
        size = len(packet.data) + _PACKET_OVERHEAD_BYTES
        if self._bytes + size > self._max_bytes:
            self.not_kept += 1
            return
        self._bytes += size
        self._order += 1
        self._connections.setdefault(number, []).append((self._order, packet))

    def _let_go(self, number: int) -> None:
        for _, packet in self._connections.pop(number, ()):
            self._bytes -= len(packet.data) + _PACKET_OVERHEAD_BYTES

    def drop(self, number: int) -> None:
        """Let go of a connection's packets.

        Args:
            number: The tracker's number for the connection.
        """
        self._let_go(number)

    def packets_of(self, number: int) -> list[CapturedPacket]:
        """Return one connection's packets in the order in which they were captured.

        Args:
            number: The tracker's number for the connection.
        """
        return [packet for _, packet in self._connections.get(number, ())]

    def packets(self) -> list[CapturedPacket]:
        """Return the packets in the order in which they were captured."""
        ordered = sorted((each for kept in self._connections.values() for each in kept), key=lambda each: each[0])
        return [packet for _, packet in ordered]


def write_packets(packets: list[CapturedPacket], path: Path, link_type: int) -> None:
    """Write a pcap file that its owner alone may read; a file that is there is replaced.

    A TCP checksum that was left to the network card is completed as the card would have done, so that programs which
    check them find them valid.

    Args:
        packets: The packets, in order, all of one link type.
        path: Where.
        link_type: LINKTYPE number of the packets.

    Raises:
        UsageError: It cannot be written there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(build_pcap_header(link_type))
            for packet in packets:
                data = complete_checksum(packet.data, link_type)
                whole = CapturedPacket(packet.time_ns, data, packet.original_bytes, link_type)
                file.write(build_pcap_packet(whole))
    except OSError as error:
        raise UsageError(f"The capture cannot be written to {path}: {error.strerror}.") from error
