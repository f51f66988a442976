"""Which processes are the watched client's: those with its mark in their environment, and all that came of them.

A process belongs to the client if its environment holds the mark, if its parent does, or if it lives in a session
that one of the client's processes leads; and once it does, it does as long as it lives, whatever becomes of its
parent or its environment. That leaves a process which gave up its environment, its session and its parent before it
was ever looked at: it was handed to one of our own ancestors, such as init, after the watch began, or to a process
of ours that inherits orphans. Nor is it known of a process of ours that began after the watch whether it will become
the client: between fork and exec it still has our environment. Of such processes nothing is claimed: they are "unsure",
and asked again.

Source: proc(5).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

Standing = Literal["client", "other", "unsure"]

NOT_WATCHED = "not-watched"
_PROXY_VARIABLES = (b"https_proxy", b"all_proxy")
# Depth of a family; without an end two reused numbers that name each other could keep us busy.
_MAX_GENERATIONS = 64


class ClientProcesses:
    """Knows the processes of one client.

    Args:
        marker: An entry of the environment, `NAME=value`, that the client and nobody else has; None for none.
            With the value `NOT_WATCHED` a process that we start says that it is no client's.
        starter: Number of the process that starts the client, by itself or by processes of its own.

    Attributes:
        uses_tls_proxy: One of them is told to use a proxy over TLS.
    """

    def __init__(self, marker: str | None, starter: int) -> None:
        self.uses_tls_proxy = False
        self._marker = None if marker is None else os.fsencode(marker)
        self._own = starter
        self._since_ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        self._heirs = {self._own, *_find_ancestors(self._own)}
        self._helpers: set[int] = set()  # processes that descend from us and were there before the client
        self._standings: dict[int, Standing] = {}
        self._ever: set[int] = set()  # every number that was a client's process

    def follow(self, pid: int) -> None:
        """Take a process for the client's.

        Args:
            pid: Its number; it must be running.
        """
        self._standings = {each: "client" for each, old in self._standings.items() if old == "client"}
        self._standings[pid] = "client"
        self._ever.add(pid)
        self.refresh()

    def refresh(self) -> None:
        """Look for processes that are new."""
        names = os.listdir("/proc")  # noqa: PTH208 - hundreds of times a second: no object for each
        present = {int(name) for name in names if name.isdigit()}
        for pid in self._standings.keys() - present:
            del self._standings[pid]
        self._helpers &= present
        # A number that is used again is another process.
        self._ever -= present - self._standings.keys()
        for pid in present - self._standings.keys():
            self._judge(pid, _MAX_GENERATIONS)

    def list_clients(self) -> list[int]:
        """Return the numbers of the client's processes that were there at the last `refresh`."""
        return [pid for pid, standing in self._standings.items() if standing == "client"]

    def list_others(self) -> list[int]:
        """Return the numbers of all processes of the last `refresh` that are certainly not the client's."""
        return [pid for pid, standing in self._standings.items() if standing == "other"]

    def _judge(self, pid: int, generations: int) -> Standing:
        known = self._standings.get(pid)
        if known is not None:
            return known
        found = _read_stat(pid)
        if found is None or not generations:
            return "unsure"  # it is gone already
        parent, session, start_ticks = found
        standing = self._judge_environment(pid)
        if standing is None and session in self._ever and session != pid:
            standing = "client"
        if standing is None and parent not in (0, self._own):
            inherited = self._judge(parent, generations - 1)
            is_new = start_ticks >= self._since_ticks
            if (parent not in self._standings or (parent in self._helpers and is_new)) and not self._is_excepted(pid):
                # Its parent ended meanwhile, or is itself not settled; or it may be about to start the client, or
                # to become it: asked again.
                return "unsure"
            if parent in self._helpers:
                self._helpers.add(pid)
            is_orphan = parent in self._heirs and is_new
            standing = "unsure" if is_orphan and inherited == "other" else inherited
            standing = "other" if parent not in self._standings else standing
        elif standing is None and parent == self._own and start_ticks >= self._since_ticks:
            # Between fork and exec a child of ours still has our environment, so this is asked again; and
            # where we are the first process of a container, orphans are handed to us.
            return "unsure"
        elif standing is None and parent == self._own:
            self._helpers.add(pid)
        self._standings[pid] = standing = standing or "other"
        if standing == "client":
            self._ever.add(pid)
        return standing

    def _is_excepted(self, pid: int) -> bool:
        name = (self._marker or b"").partition(b"=")[0]
        try:
            return bool(name) and name + b"=" + NOT_WATCHED.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(
                b"\0"
            )
        except OSError:
            return False

    def _judge_environment(self, pid: int) -> Standing | None:
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return None
        if self._marker is None or self._marker not in entries:
            return None
        pairs = (entry.partition(b"=") for entry in entries)
        self.uses_tls_proxy |= any(n.lower() in _PROXY_VARIABLES and v.startswith(b"https://") for n, _, v in pairs)
        return "client"


def _find_ancestors(pid: int) -> set[int]:
    ancestors: set[int] = {1}
    while (found := _read_stat(pid)) is not None and found[0] not in ancestors and found[0]:
        pid = found[0]
        ancestors.add(pid)
    return ancestors


def _read_stat(pid: int) -> tuple[int, int, int] | None:
    """Return parent, session and start time in ticks since the boot; None if there is no such process."""
    try:
        # The name before the last bracket may hold anything.
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(words[1]), int(words[3]), int(words[19])
    except (OSError, IndexError, ValueError):
        return None
