"""The file that the recorder writes for one process: nothing that could not be written goes untold.

Each line goes to it with its own open, write and close: a crash loses nothing. Should the file be out of reach later
(the program gave up its rights by setuid or chroot, or has no descriptor left), the line goes by a spare descriptor,
which is held under a high number and looked at before each use: a program may have closed it and used the number
again. Where nothing can be written any more (the disk is full, RLIMIT_FSIZE), the file gets another name, which needs
no room. Loaded by path into other people's programs, so the standard library only.
"""

from __future__ import annotations

import os
import time

CUT_SUFFIX = "-cut.jsonl"
"""What the name of a file ends with whose last lines could not be written."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
# Far above what a program opens first, and within the usual limit; a higher one would cost the kernel a bigger table.
_SPARE = 1023


class RecordFile:
    """Writes the lines of one process.

    Args:
        folder: Private folder that pqtls made; this process adds one file to it.

    Attributes:
        pid: The process that the present file belongs to.
        lost: Lines that could not be written and of which the file does not say so yet.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._spare: tuple[int, int] | None = None
        self._spare_pid = 0
        self.begin()

    def begin(self) -> None:
        """Begin a file of this process's own, also in a fork; it is there with its first line."""
        self.pid = os.getpid()
        self.lost = 0
        self._path = os.path.join(self._folder, "%d-%d.jsonl" % (self.pid, time.time_ns()))  # noqa: UP031

    def append(self, text: str) -> None:
        """Append one line; if that fails, count it as lost and say so with the next line that succeeds.

        Args:
            text: The line without its end.
        """
        lost = '{"e":"lost","n":%d}\n' % self.lost if self.lost else ""  # noqa: UP031
        data = (lost + text + "\n").encode()
        try:
            descriptor = os.open(self._path, _FLAGS, 0o600)
        except OSError:
            self._append_by_spare(data)
            return
        try:
            written = os.write(descriptor, data)
            if self._spare_pid != self.pid:
                self._keep_spare(descriptor)
        except OSError:
            written = 0
        finally:
            os.close(descriptor)
        if written == len(data):
            self.lost = 0
            return
        self.lost += 1
        if not self._path.endswith(CUT_SUFFIX):
            cut = self._path[: -len(".jsonl")] + CUT_SUFFIX
            try:
                os.rename(self._path, cut)
            except OSError:
                return
            self._path = cut

    def _append_by_spare(self, data: bytes) -> None:
        self.lost += 1
        if self._spare is None or _identify(_SPARE) != self._spare:
            return
        if self._spare_pid != self.pid:
            data = b'{"e":"lost","n":1}\n'  # a fork whose own file cannot be made tells of its loss in its parent's
        try:
            written = os.write(_SPARE, data)
        except OSError:
            return
        if written == len(data):
            self.lost = 0

    def _keep_spare(self, descriptor: int) -> None:
        """Hold the file under a high number too, unless the program uses that number."""
        self._spare_pid = self.pid
        present = _identify(_SPARE)
        if present is not None and present != self._spare:
            return
        try:
            os.dup2(descriptor, _SPARE, inheritable=False)
        except OSError:  # the limit is lower
            return
        self._spare = _identify(_SPARE)


def _identify(descriptor: int) -> tuple[int, int] | None:
    """Return what tells a descriptor's file from all others; None if it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
