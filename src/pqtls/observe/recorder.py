"""The recorder as a witness: put it into child processes, then read what they wrote.

The other half, which runs inside those processes, is `pqtls.inject`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pqtls import inject
from pqtls.inject.record_file import CUT_SUFFIX
from pqtls.observe.observation import Observation, Process, observe
from pqtls.wire.facts import Side
from pqtls.wire.tracker import HandshakeTracker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

# One line carries one handshake message as hex; the longest is a ClientHello of 131,396 bytes.
MAX_LINE_BYTES = 400_000
# Stands for a line that could not be read whole; it is no JSON, so it is counted as lost.
UNREADABLE = b"unreadable"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What the recorder said of one process.

    Attributes:
        pid: Its number.
        parent_pid: Its parent's.
        python: Version of the interpreter.
        name: Name of the program, "" if it never imported `ssl`.
        openssl: OPENSSL_VERSION that it ran with, "" if it never imported `ssl`.
        blind_because: Why its handshakes could not be seen; "" if they could.
        other_stacks: Other TLS stacks that it used or, of most, had loaded: their handshakes are not visible here.
        started_programs: Names of the programs that it started.
        started_shells: Those of them that are shells, which may have started any number more.
        is_forked: It is a fork of another recorded process, not a program that was started.
        ended_normally: It wrote its last line.
        lost_lines: Lines that it could not write, or that could not be read.
    """

    pid: int
    parent_pid: int
    python: str
    name: str
    openssl: str
    blind_because: str
    other_stacks: tuple[str, ...]
    started_programs: tuple[str, ...]
    started_shells: tuple[str, ...]
    is_forked: bool
    ended_normally: bool
    lost_lines: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that the recorder wrote for one run.

    Attributes:
        processes: Every Python process that started with the recorder in it.
        observations: Every TLS connection that they made or took, in order of their start.
        unreadable_files: Files of the record that do not begin as one.
    """

    processes: tuple[ProcessRecord, ...]
    observations: tuple[Observation, ...]
    unreadable_files: int = 0

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What was not visible here, as sentences; empty if everything that was watched could be seen."""
        spots = []
        if not self.processes:
            spots.append("not visible here: no Python process started with the recorder in it")
        if self.unreadable_files:
            spots.append(f"not visible here: {self.unreadable_files} files of the record could not be read")
        for process in self.processes:
            who = f"{process.name or 'python'} (process {process.pid})"
            if process.blind_because:
                spots.append(f"not visible here: {who}: {process.blind_because}")
            spots.extend(f"not visible here: {who} loaded {stack}" for stack in process.other_stacks)
            if process.lost_lines:
                spots.append(f"not visible here: {who} lost {process.lost_lines} lines of its record")
        return (*spots, *self._unwatched_programs())

    def _unwatched_programs(self) -> Iterator[str]:
        """Yield what was started and is not recorded itself, process by process."""
        chains = self._chains()
        for chain in chains:
            started = [name for each in chain for name in each.started_programs]
            became = sum(not each.is_forked for each in chain[1:])
            children = sum(
                other is not chain and not other[0].is_forked and other[0].parent_pid == chain[0].pid
                for other in chains
            )
            who = f"{chain[-1].name or 'python'} (process {chain[0].pid})"
            shells = [name for each in chain for name in each.started_shells]
            if len(started) > became + children:
                names = ", ".join(dict.fromkeys(started))
                yield f"not visible here: {who} started {names}, and not all of it was watched"
            elif shells:
                names = ", ".join(dict.fromkeys(shells))
                yield f"not visible here: {who} started {names}, which may have started programs that are not watched"

    def _chains(self) -> list[list[ProcessRecord]]:
        """Return the processes, each with the programs that it became one after the other (os.exec)."""
        chains: list[list[ProcessRecord]] = []
        current: dict[int, list[ProcessRecord]] = {}
        for each in self.processes:
            before = current.get(each.pid)
            if before is not None and not each.is_forked and before[-1].parent_pid == each.parent_pid:
                before.append(each)
                continue
            current[each.pid] = [each]
            chains.append(current[each.pid])
        return chains


class RecorderFolder:
    """A private folder that child processes record into; removed at the end.

    Use it as a context manager, start programs with `environment()`, and `read()` when they have ended (or
    while they run: what is there by then).
    """

    def __init__(self) -> None:
        self._folder: Path | None = None

    def __enter__(self) -> RecorderFolder:
        self._folder = Path(tempfile.mkdtemp(prefix="pqtls-record-"))  # 0700
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def folder(self) -> Path:
        """The folder."""
        if self._folder is None:
            raise RuntimeError("RecorderFolder is used outside its with block")
        return self._folder

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which every Python process records into this folder.

        Args:
            base: The environment that the program would have had.

        Returns:
            The same with PQTLS_RECORD set and the recorder's folder first on PYTHONPATH.
        """
        site = str(Path(inject.__file__).parent / "site")
        rest = [entry for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != site]
        return {**base, "PQTLS_RECORD": str(self.folder), "PYTHONPATH": os.pathsep.join([site, *rest])}

    def read(self) -> Recording:
        """Read what has been recorded so far.

        Returns:
            The recording; damaged or unfinished lines are counted as lost, never raised.
        """
        processes: list[ProcessRecord] = []
        observations: list[Observation] = []
        unreadable = 0
        for path in sorted(self.folder.glob("*.jsonl")):
            reader = _ProcessReader()
            reader.read(path)
            if reader.has_started:
                processes.append(reader.process())
            else:
                unreadable += 1
            observations.extend(reader.observations())
        observations.sort(key=lambda each: each.started_ns or 0)
        return Recording(tuple(processes), tuple(observations), unreadable)


@dataclass(slots=True)
class _Connection:
    """One connection while its lines are read."""

    tracker: HandshakeTracker
    role: str
    started_ns: int
    name: str
    local: str | None
    peer: str | None

    def sender(self, direction: str) -> Side:
        wrote = direction == "w"
        return Side.CLIENT if wrote == (self.role == "client") else Side.SERVER


@dataclass(slots=True)
class _ProcessReader:
    """Reads the file of one process."""

    has_started: bool = False
    pid: int = 0
    parent_pid: int = 0
    python: str = ""
    name: str = ""
    openssl: str = ""
    blind_because: str = ""
    other_stacks: list[str] = field(default_factory=list)
    started_programs: list[str] = field(default_factory=list)
    started_shells: list[str] = field(default_factory=list)
    is_forked: bool = False
    ended_normally: bool = False
    lost_lines: int = 0
    connections: list[_Connection] = field(default_factory=list)
    current: dict[int, _Connection] = field(default_factory=dict)

    def read(self, path: Path) -> None:
        self.lost_lines += path.name.endswith(CUT_SUFFIX)
        for text in _read_lines(path):
            try:
                line = json.loads(text)
                self._take(line)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                self.lost_lines += 1

    def _take(self, line: dict[str, Any]) -> None:
        event = line["e"]
        if event == "start":
            self.has_started = True
            self.pid, self.parent_pid, self.python = int(line["pid"]), int(line["ppid"]), str(line["python"])
            self.is_forked = bool(line["forked"])
        elif event == "ready":
            self.openssl, self.name = str(line["openssl"]), str(line["name"])
        elif event == "blind":
            self.blind_because = str(line["why"])
        elif event == "lost":
            self.lost_lines += int(line["n"])
        elif event == "exit":
            self.ended_normally = True
        elif event == "stack":
            self.other_stacks.append(str(line["name"]))
        elif event == "child":
            self.started_programs.append(str(line["name"]))
            if line.get("shell"):
                self.started_shells.append(str(line["name"]))
        elif event == "msg":
            self._take_message(line, bytes.fromhex(line["b"]))
        elif event == "type":
            connection = self.current[int(line["c"])]
            message, time_ns = int(line["mt"]), int(line["m"])
            connection.tracker.receive_message_type(connection.sender(line["d"]), message, time_ns)
        else:
            raise ValueError(event)

    def _take_message(self, line: dict[str, Any], message: bytes) -> None:
        number = int(line["c"])
        if line.get("role") in ("client", "server"):
            local, peer = (None if line[key] is None else str(line[key]) for key in ("local", "peer"))
            started_ns = int(line["t"])
            if not 0 <= started_ns < 1 << 62:
                raise ValueError(started_ns)
            connection = _Connection(HandshakeTracker(), line["role"], started_ns, str(line["name"]), local, peer)
            self.current[number] = connection
            self.connections.append(connection)
            self.name = self.name or connection.name
        connection = self.current[number]
        connection.tracker.receive_message(
            connection.sender(line["d"]),
            int(line["ct"]),
            message,
            records=line.get("records"),
            time_ns=int(line["m"]),
        )

    def process(self) -> ProcessRecord:
        return ProcessRecord(
            self.pid,
            self.parent_pid,
            self.python,
            self.name,
            self.openssl,
            self.blind_because,
            tuple(self.other_stacks),
            tuple(self.started_programs),
            tuple(self.started_shells),
            self.is_forked,
            self.ended_normally,
            self.lost_lines,
        )

    def observations(self) -> Iterator[Observation]:
        for connection in self.connections:
            handshake = connection.tracker.handshake
            if handshake is None:
                continue
            is_client = connection.role == "client"
            yield observe(
                handshake,
                connection.tracker.connection_id,
                "recorder",
                started_ns=connection.started_ns,
                client=connection.local if is_client else connection.peer,
                server=connection.peer if is_client else connection.local,
                process=Process(self.pid, connection.name),
                role=connection.role,
            )


def _read_lines(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file, each bounded; a longer or unfinished one comes as an unreadable line.

    The folder is open to the programs that are watched. Anything in it that is no regular file is one unreadable
    line, and of a file that grows while it is read only what was there at first is taken: reading always ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield UNREADABLE
        return
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        yield UNREADABLE
        return
    with os.fdopen(descriptor, "rb") as file:
        left = status.st_size
        while left > 0 and (line := file.readline(min(MAX_LINE_BYTES, left))):
            left -= len(line)
            yield line if line.endswith(b"\n") else UNREADABLE
