"""Whose is a connection that a capture on the host's own network saw? The client's, another's, or nobody can tell.

Two ways, and either is enough:

- **At once**: when a connection is being opened, the kernel is asked for the socket with these two ends (sock_diag),
  and the processes for who holds it. A handshake takes a round trip, so it still lives.
- **All the time**: the client's processes are looked through for TCP sockets every few milliseconds. This also finds
  sockets whose packets the capture did not see, which is told as a blind spot.

Only what was seen is claimed. A connection is the client's if one of its processes held the socket; it is another's
if a process held it that is certainly not the client's, or if it is no socket of this network namespace at all (its
packets are only passed on). Everything else is unknown, and is never counted for either.

Sources: proc(5), sock_diag(7); the kernel's net/socket.c for the attribute `system.sockprotoname`.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pqtls.observe.sock_diag import LISTEN, SYN_SENT, SockDiag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pqtls.observe.client_processes import ClientProcesses
    from pqtls.wire.packets import Endpoint

Owner = Literal["client", "another", "unknown"]

# How often the client's processes are looked through. A connection to another machine that shakes hands lives for
# two round trips at least; to this one, for a millisecond or more, and those are caught by the look at once.
INTERVAL_S = 0.01
# A TCP socket that is not connected yet is asked for again at this distance, not at every turn.
_UNCONNECTED_INTERVAL_S = 0.05
# Connections that wait for an answer at once; each costs one entry of a list that is walked. More is a flood of
# other programs', of which the oldest are given up as unknown.
MAX_PENDING = 1_024
# Looks through all processes for the owner of one socket: who holds it holds it from the start.
MAX_LOOKS = 50
# So many connections are asked for one by one; for more, the list of all sockets is cheaper.
_FEW = 8
# Processes remembered for having held another's socket: they are likely to open the next one too.
MAX_RECENT = 8
_SOCKET = "socket:["


@dataclass(slots=True, eq=False)
class Claim:
    """One connection whose owner is looked for.

    Attributes:
        local: The end that opened it.
        remote: The other end.
        opened_ns: When its first packet was captured.
        interface_index: Number of the interface that it was seen on.
        sequence_number: Of its SYN, which tells it from others with the same ends.
        owner: Whose it is, as far as it is known.
        inode: The socket's, 0 before it was found.
        absent_at_ns: When the kernel was last seen to have no such socket; None if that was never.
        answered_ns: When the owner was known.
        looks: How often all processes were looked through for it.
        closed_ns: When the next connection with the same ends began; None if there was none. What is found from then
            on is the next one's.
        is_given_up: Its owner is no longer looked for.
    """

    local: Endpoint
    remote: Endpoint
    opened_ns: int
    interface_index: int
    sequence_number: int
    owner: Owner = "unknown"
    inode: int = 0
    absent_at_ns: int | None = None
    answered_ns: int = 0
    looks: int = 0
    closed_ns: int | None = None
    is_given_up: bool = False

    @property
    def key(self) -> str:
        """What names the connection between two processes that see the same packets."""
        ends = f"{self.local.ip.hex()}:{self.local.port}-{self.remote.ip.hex()}:{self.remote.port}"
        return f"{self.interface_index}-{ends}-{self.sequence_number}"

    @property
    def answer(self) -> tuple[Owner, int, int]:
        """What was found out: owner, when, and when the kernel was last seen to have no such socket (0: never)."""
        return self.owner, self.answered_ns, self.absent_at_ns or 0

    def take_answer(self, owner: Owner, answered_ns: int, absent_at_ns: int) -> None:
        """Take what another process found out.

        Args:
            owner: See `answer`, as the two after it.
            answered_ns: When.
            absent_at_ns: When there was no such socket.
        """
        self.owner, self.answered_ns, self.absent_at_ns = "unknown", answered_ns, absent_at_ns or None
        self.settle(owner, answered_ns)

    def settle(self, owner: Owner, now_ns: int) -> None:
        """Take an answer; the first one stands.

        Args:
            owner: Whose it is.
            now_ns: When that was seen, to the end of looking.
        """
        if self.owner == "unknown" and (self.closed_ns is None or now_ns < self.closed_ns):
            self.owner, self.answered_ns = owner, now_ns

    def close(self, next_ns: int) -> None:
        """Take the beginning of another connection with the same ends.

        Args:
            next_ns: When its first packet was captured.
        """
        self.closed_ns = next_ns
        if self.answered_ns >= next_ns:
            self.owner = "unknown"  # it may have been the next one's socket that was found


@dataclass(slots=True)
class ClientSocket:
    """A TCP connection that one of the client's processes was seen to hold.

    Attributes:
        local: Its own end.
        remote: The other end.
        first_ns: When it was first seen.
        last_ns: When it was last looked up.
        was_connected: It was seen in a state in which packets had gone both ways.
    """

    local: Endpoint
    remote: Endpoint
    first_ns: int
    last_ns: int
    was_connected: bool = False


@dataclass(slots=True)
class _HeldInode:
    """A TCP socket of a client's process, by its inode."""

    sockets: dict[tuple[Endpoint, Endpoint], ClientSocket] = field(default_factory=dict)
    is_settled: bool = False
    asked_s: float = 0.0


class SocketOwners:
    """Finds owners, step by step; for one thread, which has little else to do.

    Args:
        processes: The client's.
        interval_s: Seconds between two looks through the client's processes.

    Attributes:
        foreign_namespace: One of the client's processes lives in another network namespace than the capture.
        unreadable: One of the client's processes could not be looked into.

    Raises:
        OSError: The kernel does not tell (see `SockDiag`).
    """

    def __init__(self, processes: ClientProcesses, interval_s: float = INTERVAL_S) -> None:
        self.foreign_namespace = False
        self.unreadable = False
        self._processes = processes
        self._interval_s = interval_s
        self._namespace = Path("/proc/thread-self/ns/net").readlink()
        self._diag = SockDiag()
        self._pending: list[Claim] = []
        self._held: dict[int, _HeldInode] = {}
        self._not_tcp: set[int] = set()
        self._recent_others: list[int] = []
        self._next_look_s = 0.0

    def close(self) -> None:
        """Ask the kernel no more."""
        self._diag.close()

    @property
    def pending_count(self) -> int:
        """How many connections there are whose owner may still be found."""
        return len(self._pending)

    @property
    def client_sockets(self) -> list[ClientSocket]:
        """Every TCP connection that a process of the client was seen to hold."""
        return [each for held in self._held.values() for each in held.sockets.values()]

    def add(self, claim: Claim) -> None:
        """Ask for the owner of a connection; `step` finds it.

        Args:
            claim: The connection.
        """
        self._pending.append(claim)
        del self._pending[:-MAX_PENDING]

    def step(self, is_urgent: Callable[[], bool]) -> None:
        """Look for owners: where it is likely first, then everywhere.

        Args:
            is_urgent: Tells whether there is something new to `add`: then the rest waits for the next step.

        Raises:
            OSError: The kernel no longer tells.
        """
        if self._pending:
            wanted = self._find_sockets()
            self._ask_client(wanted)
            self._ask_others(wanted, self._recent_others, lambda: False)
            if wanted and not is_urgent():
                self._processes.refresh()
                self._ask_client(wanted)
                self._ask_others(wanted, self._processes.list_others(), is_urgent)
            self._pending = [each for each in self._pending if each.owner == "unknown" and not each.is_given_up]
        now = time.monotonic()
        if now >= self._next_look_s and not is_urgent():
            self._look_through_client()
            # Where that is dear (thousands of processes), most of the time is left to the others.
            self._next_look_s = now + max(self._interval_s, 4 * (time.monotonic() - now))

    def _find_sockets(self) -> dict[int, list[Claim]]:
        """Return the pending connections that have a socket, by its inode; give up the others."""
        began_ns = time.time_ns()
        listed = {}
        if len(self._pending) > _FEW:
            listed = {(each.local, each.remote): each for each in self._diag.list_all()}
        wanted: dict[int, list[Claim]] = {}
        for claim in self._pending:
            found = listed.get((claim.local, claim.remote))
            if found is None:
                found = self._diag.find(claim.local, claim.remote, claim.interface_index)
                claim.absent_at_ns = began_ns if found is None else claim.absent_at_ns
            claim.looks += 1
            if found is None or not found.inode or (claim.inode and found.inode != claim.inode):
                claim.is_given_up = True  # no process can be found any more, or none ever had it
                continue
            claim.is_given_up = claim.looks >= MAX_LOOKS
            claim.inode = found.inode
            wanted.setdefault(found.inode, []).append(claim)
        return wanted

    def _ask_client(self, wanted: dict[int, list[Claim]]) -> None:
        for pid in self._processes.list_clients():
            for inode in _settle_held(pid, wanted, "client"):
                # Its packets are captured: nothing more is to be known of it.
                self._held.setdefault(inode, _HeldInode()).is_settled = True

    def _ask_others(self, wanted: dict[int, list[Claim]], pids: list[int], is_urgent: Callable[[], bool]) -> None:
        for number, pid in enumerate(list(pids)):
            if not wanted or (number % 16 == 15 and is_urgent()):
                return
            if _settle_held(pid, wanted, "another"):
                self._recent_others = [pid, *(each for each in self._recent_others if each != pid)][:MAX_RECENT]

    def _look_through_client(self) -> None:
        self._processes.refresh()
        others = set(self._processes.list_others())
        self._recent_others = [pid for pid in self._recent_others if pid in others]
        present: set[int] = set()
        for pid in self._processes.list_clients():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                try:
                    self.foreign_namespace |= Path(f"/proc/{pid}/ns/net").readlink() != self._namespace
                    present |= set(self._take_sockets(pid))
                except PermissionError:
                    self.unreadable = True
        now = time.monotonic()
        wanted = {
            inode: held
            for inode in present
            if not (held := self._held[inode]).is_settled and now - held.asked_s >= _UNCONNECTED_INTERVAL_S
        }
        if wanted:
            self._look_up(wanted, now)

    def _look_up(self, wanted: dict[int, _HeldInode], now_s: float) -> None:
        """Ask the kernel for the ends of sockets that the client's processes hold."""
        began_ns = time.time_ns()
        listed = self._diag.list_all()
        ended_ns = time.time_ns()
        for held in wanted.values():
            held.asked_s = now_s
        for each in listed:
            own = wanted.get(each.inode)
            if own is None:
                continue
            if each.state == LISTEN:
                own.is_settled = True
            elif each.remote.port:
                ends = (each.local, each.remote)
                known = own.sockets.setdefault(ends, ClientSocket(*ends, began_ns, ended_ns))
                known.last_ns = ended_ns
                known.was_connected |= each.state != SYN_SENT
                own.is_settled = known.was_connected
                own.asked_s = 0.0  # on its way: its state changes soon

    def _take_sockets(self, pid: int) -> Iterator[int]:
        """Yield the inodes of a process's TCP sockets."""
        for inode, path in _list_sockets(pid, strict=True):
            if inode in self._not_tcp:
                continue
            if inode not in self._held:
                try:
                    kind = os.getxattr(path, "system.sockprotoname")
                except OSError:
                    kind = b"TCP"  # it cannot be told: to be looked up
                if not kind.startswith(b"TCP"):
                    self._not_tcp.add(inode)
                    continue
                self._held[inode] = _HeldInode()
            yield inode


def _settle_held(pid: int, wanted: dict[int, list[Claim]], owner: Owner) -> set[int]:
    """Give the sockets that a process holds to their owner, and take them off the list; return their inodes."""
    held = {inode for inode, _ in _list_sockets(pid)} & wanted.keys() if wanted else set()
    for inode in held:
        for claim in wanted.pop(inode):
            claim.settle(owner, time.time_ns())
    return held


def _list_sockets(pid: int, *, strict: bool = False) -> Iterator[tuple[int, str]]:
    """Yield inode and path in /proc of each socket that a process holds; none of one that cannot be looked into.

    Raises:
        PermissionError: It may not be looked into, and `strict` was asked for.
    """
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - thousands of names a second: no object for each
    except PermissionError:
        if strict:
            raise
        return
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}"
        with contextlib.suppress(OSError):
            target = os.readlink(path)  # noqa: PTH115 - the same
            if target.startswith(_SOCKET):
                yield int(target[len(_SOCKET) : -1]), path


def match_client_sockets(claims: Iterable[Claim], sockets: Iterable[ClientSocket]) -> list[ClientSocket]:
    """Give what was seen in the client's processes to the connections that were captured.

    Args:
        claims: Every connection that was captured and is not known to be passed on.
        sockets: Every TCP connection that the client's processes were seen to hold.

    Returns:
        The client's connections of which no packet was captured.
    """
    by_ends: dict[tuple[Endpoint, Endpoint], list[Claim]] = {}
    for claim in claims:
        by_ends.setdefault((claim.local, claim.remote), []).append(claim)
    missing = []
    for each in sockets:
        if (each.remote, each.local) in by_ends and (each.local, each.remote) not in by_ends:
            continue  # the client took this connection
        found = by_ends.get((each.local, each.remote), [])
        if not found:
            missing += [each] if each.was_connected else []
        elif len(found) == 1:
            found[0].settle("client", each.last_ns)
        else:
            # Ports used again, or seen on several interfaces: those that were open when the client had the socket.
            for claim in found:
                if claim.opened_ns <= each.first_ns:
                    claim.settle("client", each.last_ns)
    return missing
