"""The capture as a witness: TLS handshakes read from packets, live on one interface or from a file.

It sees every program, changes nothing, and shares no code with the recorder but the tracker that both feed.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.observe.capture_report import CaptureReport, describe_losses
from pqtls.observe.kept_packets import KeptPackets, write_packets
from pqtls.observe.observation import Observation, observe
from pqtls.observe.packet_socket import PacketSocket
from pqtls.wire.errors import MalformedError
from pqtls.wire.packet_tracker import PacketTracker
from pqtls.wire.pcap import CaptureReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from pqtls.wire.packet_tracker import PacketCounts
    from pqtls.wire.pcap import CapturedPacket
    from pqtls.wire.tcp_connection import CapturedHandshake

# After `stop` packets can still be on their way from the card's queue to the socket's: milliseconds, unless
# the machine is overloaded. On an interface that is never quiet the end is told by the packets' own times.
_QUIET_S = 0.05
_DRAIN_LIMIT_S = 5.0
_CHUNK_BYTES = 1 << 20


class LiveCapture:
    """Watches one interface from `__enter__` to `__exit__`, in a thread of its own.

    Once entered, no packet of the interface goes by unseen or uncounted. After the block, `report` holds the
    result and `write_pcap` writes the handshakes' packets.

    Args:
        interface: Name of the interface, in the network namespace of the thread that enters.
        check_checksums: See `PacketTracker`.

    Attributes:
        interface: The name.
        link_type: LINKTYPE number of its packets, once entered.

    Raises:
        CannotProveError: On entering: the system does not allow it (CAP_NET_RAW is needed).
        UsageError: On entering: there is no such interface.
    """

    def __init__(self, interface: str, *, check_checksums: bool = True) -> None:
        self.interface = interface
        self._tracker = PacketTracker(check_checksums=check_checksums)
        self._kept = KeptPackets()
        self._observations: list[Observation] = []
        self._socket: PacketSocket | None = None
        self._thread: threading.Thread | None = None
        self.link_type = 0
        self._stop_ns: int | None = None
        self._failure = ""
        self._crash: Exception | None = None
        self._kernel_drops = 0
        self._lock = threading.Lock()

    @classmethod
    def adopt(cls, bound: socket.socket, *, check_checksums: bool = True) -> LiveCapture:
        """Make a capture that reads a packet socket bound by another process, in its network namespace.

        Args:
            bound: The socket; closed with the capture.
            check_checksums: See `PacketTracker`.
        """
        source = PacketSocket.adopt(bound)
        capture = cls(source.interface, check_checksums=check_checksums)
        capture._socket = source
        return capture

    def __enter__(self) -> LiveCapture:
        if self._socket is None:
            self._socket = PacketSocket(self.interface)
        self.link_type = self._socket.link_type
        self._wake_reader, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(self._socket,), name="pqtls-capture", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def begin_to_stop(self) -> None:
        """Let the thread take in what is queued and end, without waiting for it; several captures end so at once."""
        if self._thread is not None and self._stop_ns is None:
            self._stop_ns = time.time_ns()
            self._wake.close()

    def stop(self) -> None:
        """Take in what is queued, end the thread and close the socket; a second time does nothing."""
        if self._socket is None or self._thread is None:
            return
        self.begin_to_stop()
        self._thread.join()
        self._wake_reader.close()
        self._kernel_drops = self._socket.read_statistics()[1]
        self._socket.close()
        self._socket = None
        if self._crash is not None:
            raise self._crash
        self._add(self._tracker.finish())

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The handshakes that have ended so far; all of them after the block."""
        with self._lock:
            return tuple(self._observations)

    @property
    def report(self) -> CaptureReport:
        """The result; complete after the block."""
        return CaptureReport(
            self.observations, self._tracker.counts, self._kernel_drops, self._kept.not_kept, self._failure
        )

    def write_pcap(self, path: Path) -> int:
        """Write the packets of the handshakes, after the block, as a pcap file.

        Args:
            path: Where; only its owner may read it.

        Returns:
            How many packets were written.

        Raises:
            UsageError: It cannot be written there.
        """
        return write_captures([self], path)

    def packets(self) -> list[CapturedPacket]:
        """Return the packets of the handshakes in the order in which they were captured; for after the block."""
        if self._socket is not None:
            raise RuntimeError("packets is for after the with block")
        return self._kept.packets()

    # In the thread

    def _run(self, source: PacketSocket) -> None:
        try:
            self._watch(source)
            self._drain(source)
        except OSError as error:
            self._failure = f"the capture on {self.interface} ended early: {error.strerror}"
        except Exception as error:  # noqa: BLE001 - carried over to the thread that asks
            self._crash = error

    def _watch(self, source: PacketSocket) -> None:
        poll = select.poll()
        poll.register(source.fileno(), select.POLLIN)
        poll.register(self._wake_reader.fileno(), select.POLLIN)
        while self._stop_ns is None:
            poll.poll()
            while self._stop_ns is None and self._take_one(source) is not None:
                pass

    def _drain(self, source: PacketSocket) -> None:
        """Take in what was captured before `stop`, and what follows within the time that packets need."""
        poll = select.poll()
        poll.register(source.fileno(), select.POLLIN)
        until_ns = (self._stop_ns or 0) + int(_QUIET_S * 1e9)
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        while poll.poll(_QUIET_S * 1000):
            packet = self._take_one(source)
            if packet is not None and (packet.time_ns or 0) > until_ns:
                return
            if time.monotonic() > deadline:
                self._failure = f"the packets still queued on {self.interface} at the end were too many to read"
                return

    def _take_one(self, source: PacketSocket) -> CapturedPacket | None:
        try:
            packet = source.receive()
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            self._failure = f"interface {self.interface} went down during the capture"
            return None
        if packet is not None:
            result = self._tracker.receive(packet.time_ns, packet.data, packet.link_type, packet.original_bytes)
            self._kept.take(packet, result)
            if result.handshakes:
                self._add(result.handshakes)
        return packet

    def _add(self, found: Iterable[CapturedHandshake]) -> None:
        with self._lock:
            self._observations.extend(map(_to_observation, found))


def write_captures(captures: Sequence[LiveCapture], path: Path) -> int:
    """Write the packets of the handshakes of one or more captures, all of one link type, as one pcap file.

    Args:
        captures: The captures, stopped; at least one.
        path: Where; only its owner may read it.

    Returns:
        How many packets were written.

    Raises:
        UsageError: It cannot be written there.
    """
    packets = sorted((packet for each in captures for packet in each.packets()), key=lambda each: each.time_ns or 0)
    write_packets(packets, path, captures[0].link_type)
    return len(packets)


def _to_observation(found: CapturedHandshake) -> Observation:
    return observe(
        found.handshake,
        found.connection_id,
        "capture",
        started_ns=found.started_ns,
        client=str(found.client),
        server=str(found.server),
    )


class CaptureFile:
    """A capture file; iterating reads it once, from start to end, in memory that does not grow with it.

    Args:
        path: A pcap or pcapng file.
        check_checksums: See `PacketTracker`.

    Attributes:
        ended_early: After iterating: the file ends inside a packet, as when its writer was killed.
        damage: After iterating: where and why reading had to stop, as a sentence; "" if it did not.
    """

    def __init__(self, path: Path, *, check_checksums: bool = True) -> None:
        self.path = path
        self.ended_early = False
        self.damage = ""
        self._tracker = PacketTracker(check_checksums=check_checksums)

    @property
    def counts(self) -> PacketCounts:
        """What became of the packets so far."""
        return self._tracker.counts

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What could not be seen in this file, as sentences; complete after iterating."""
        spots = list(describe_losses(self.counts))
        if self.ended_early:
            spots.append(f"not visible here: {self.path} ends inside a packet")
        if self.damage:
            spots.append(f"not visible here: {self.damage}")
        return tuple(spots)

    def __iter__(self) -> Iterator[Observation]:
        """Yield an observation of each TLS handshake as soon as it has ended.

        Raises:
            UsageError: The file cannot be read, or is no capture file.
        """
        reader, tracker = CaptureReader(), self._tracker
        try:
            for packet in self._packets(reader):
                result = tracker.receive(packet.time_ns, packet.data, packet.link_type, packet.original_bytes)
                yield from map(_to_observation, result.handshakes)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror}.") from error
        except MalformedError as error:
            if not reader.has_header:
                raise UsageError(f"{self.path} is no pcap or pcapng file: {error}.") from error
            self.damage = f"{self.path} is damaged: {error}"
        else:
            self.ended_early = reader.ended_early
            if not reader.has_header:
                raise UsageError(f"{self.path} is no pcap or pcapng file: it is too short.")
        yield from map(_to_observation, tracker.finish())

    def _packets(self, reader: CaptureReader) -> Iterator[CapturedPacket]:
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield from reader.feed(chunk)


def read_capture(path: Path) -> CaptureFile:
    """Open a capture file, of which iterating yields the observations.

    Args:
        path: A pcap or pcapng file.
    """
    return CaptureFile(path)
