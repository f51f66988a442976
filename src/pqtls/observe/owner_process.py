"""The process that finds owners: `python -m pqtls.observe.owner_process`, started by `owner_finder` and nobody else.

It is a process of its own because it must be quick: a connection on loopback lives for a few milliseconds, and the
capture, which reads every packet in between, would keep it waiting. It sees the opening packets only.

It reads one line of settings as JSON and answers `ready` or `refused` with a sentence; then, until its standard
input ends, it takes `follow PID` and says `claim KEY OWNER TIME TIME` of each connection; in the end, `end` and JSON.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import sys
import time
from typing import Any

from pqtls.errors import PqtlsError
from pqtls.observe.client_processes import ClientProcesses
from pqtls.observe.packet_socket import PacketSocket
from pqtls.observe.socket_owner import Claim, SocketOwners
from pqtls.wire.packets import ACK, SYN, Endpoint, TcpSegment, parse_packet

# How long to wait for news while an owner is looked for; else, until the client is to be looked through again.
_PENDING_INTERVAL_MS = 1
# Openings that are taken in before their owners are looked for: all of them at the cost of one.
_BATCH = 128
# Packets are on their way to us for so long at most; and owners that are not known yet are looked for so long.
_LAST_WORDS_S = 0.1
# Connections remembered for their ends to be used again: more than there are ports for one server.
MAX_REMEMBERED = 65_536
_NICE = -20
# So many at once are more than clients make.
_FLOOD = 32


class OwnerProcess:
    """Follows the openings of connections and tells whose they are.

    Args:
        sources: Packet sockets that see openings, by the number of their interface.
        owners: The finder.
    """

    def __init__(self, sources: dict[int, PacketSocket], owners: SocketOwners) -> None:
        self._sources = sources
        self._owners = owners
        self._latest: dict[tuple[int, Endpoint, Endpoint], Claim] = {}
        self._untold: dict[Claim, tuple[str, int, int]] = {}

    def take_openings(self, index: int) -> None:
        """Look at the openings that one interface has seen.

        Args:
            index: Number of the interface.
        """
        source = self._sources[index]
        for _ in range(_BATCH):
            try:
                found = source.receive_with_direction()
            except OSError as error:
                if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
                    raise
                return
            if found is None:
                return
            packet, is_outgoing = found
            segment = None
            with contextlib.suppress(PqtlsError, ValueError):
                segment = parse_packet(packet.data, packet.link_type, packet.original_bytes)
            if not isinstance(segment, TcpSegment) or segment.flags & (SYN | ACK) != SYN:
                continue
            if is_outgoing or source.is_loopback:
                self._take(Claim(segment.src, segment.dst, packet.time_ns or 0, index, segment.seq))

    def _take(self, claim: Claim) -> None:
        ends = (claim.interface_index, claim.local, claim.remote)
        before = self._latest.get(ends)
        if before is not None and before.sequence_number == claim.sequence_number:
            return  # sent again
        if before is not None:
            before.close(claim.opened_ns)
            self._untold.setdefault(before, before.answer)
        self._latest[ends] = claim
        if len(self._latest) > MAX_REMEMBERED:
            del self._latest[next(iter(self._latest))]
        self._untold[claim] = claim.answer
        self._owners.add(claim)

    def tell(self) -> None:
        """Tell what is new of each connection."""
        words = []
        for claim, told in list(self._untold.items()):
            answer = claim.answer
            if answer != told:
                words.append(f"claim {claim.key} {' '.join(map(str, answer))}\n")
                self._untold[claim] = answer
            if answer[0] != "unknown" or claim.is_given_up or claim.closed_ns is not None:
                del self._untold[claim]
        if words:
            sys.stdout.write("".join(words))
            sys.stdout.flush()


def main() -> None:
    """Serve one watch."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    _hurry()
    processes = ClientProcesses(settings["marker"], settings["starter"])
    interval_s = settings["interval_s"]
    try:
        sources = {index: PacketSocket(name, only_openings=True) for name, index in settings["interfaces"]}
        owners = SocketOwners(processes, interval_s)
    except (PqtlsError, OSError) as error:
        _say(f"refused {error}".replace("\n", " "))
        return
    processes.refresh()
    _say("ready")
    failure = ""
    with contextlib.suppress(BrokenPipeError):
        try:
            _serve(OwnerProcess(sources, owners), owners, sources, processes, int(interval_s * 1000))
        except BrokenPipeError:
            raise
        except OSError as error:
            failure = f"the kernel no longer tells whose a connection is: {error.strerror or error}"
        _say(f"end {json.dumps(_sum_up(owners, processes, failure))}")


def _hurry() -> None:
    """Come before programs that need all processors; what this process has to do is short."""
    for hurry in (lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)), lambda: os.nice(_NICE)):
        with contextlib.suppress(OSError):
            hurry()
            return


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _serve(
    own: OwnerProcess,
    owners: SocketOwners,
    sources: dict[int, PacketSocket],
    processes: ClientProcesses,
    interval_ms: int,
) -> None:
    poll, openings = select.poll(), select.poll()
    standard_input = sys.stdin.fileno()
    by_descriptor = {source.fileno(): index for index, source in sources.items()}
    poll.register(standard_input, select.POLLIN)
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
        openings.register(descriptor, select.POLLIN)
    end_s: float | None = None
    while end_s is None or time.monotonic() < end_s:
        for descriptor, _ in poll.poll(_PENDING_INTERVAL_MS if owners.pending_count else interval_ms):
            if descriptor != standard_input:
                own.take_openings(by_descriptor[descriptor])
                continue
            words = os.read(standard_input, 4096).decode().split()
            if not words:
                poll.unregister(standard_input)
                end_s = time.monotonic() + _LAST_WORDS_S
            for pid in words[1::2]:
                processes.follow(int(pid))
        is_flood = owners.pending_count > _FLOOD
        began_s = time.monotonic()
        owners.step(lambda: bool(openings.poll(0)))
        own.tell()
        if is_flood:  # what comes before everybody else must not take all there is
            time.sleep(time.monotonic() - began_s)


def _sum_up(owners: SocketOwners, processes: ClientProcesses, failure: str) -> dict[str, Any]:
    return {
        "sockets": [
            [each.local.ip.hex(), each.local.port, each.remote.ip.hex(), each.remote.port, each.first_ns, each.last_ns]
            for each in owners.client_sockets
            if each.was_connected
        ],
        "foreign_namespace": owners.foreign_namespace,
        "unreadable": owners.unreadable,
        "failure": failure,
        "uses_tls_proxy": processes.uses_tls_proxy,
    }


if __name__ == "__main__":
    main()
