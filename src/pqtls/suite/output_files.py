"""The files that a run writes for its user: a report that is whole or not there, and a capture that is private.

Either takes the place of a plain file. What is none (a device, a pipe, a link) is never replaced by one, which as root
would take /dev/null away from everybody: it is opened as any program would, and written to.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO, TextIO

_MODE = 0o644
_PRIVATE_MODE = 0o600


@contextmanager
def open_whole(path: Path) -> Iterator[TextIO]:
    """Take text for a file, and write it all at the end, in place of what was there.

    Args:
        path: The file; that it can be written is looked at before.

    Raises:
        UsageError: It cannot be written.
    """
    text = io.StringIO()
    if _is_replaceable(path):
        with _told(path):
            _look_at(path)
        yield text
        with _told(path):
            _put(path, text.getvalue().encode())
        return
    with _told(path):
        descriptor = _open_as_it_is(path, _MODE)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        yield text
        with _told(path):
            _empty(descriptor)
            file.write(text.getvalue().encode())
            file.flush()


@contextmanager
def open_private(path: Path) -> Iterator[BinaryIO]:
    """Open a file that only its owner may read, in place of what was there.

    Args:
        path: The file; `-` is standard output.

    Yields:
        It, open for writing.

    Raises:
        UsageError: It cannot be written.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    with _told(path):
        if _is_replaceable(path):
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_MODE)
        else:
            descriptor = _open_as_it_is(path, _PRIVATE_MODE)
            _empty(descriptor)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        yield file


def _open_as_it_is(path: Path, mode: int) -> int:
    """Open what is no plain file; whether a link is followed is the kernel's to say (protected_symlinks)."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)


def _empty(descriptor: int) -> None:
    """Take away what a plain file at the end of a link held; a device or a pipe holds nothing."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.ftruncate(descriptor, 0)


def _is_replaceable(path: Path) -> bool:
    """Tell whether another file may take a path's place: nothing is there, or a plain file is."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return True


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def _look_at(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    path.parent.stat()
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _put(path: Path, data: bytes) -> None:
    try:
        _link_unnamed(path, data)
    except (OSError, AttributeError):  # no O_TMPFILE on this file system, or no /proc
        _rename_part(path, data)


def _link_unnamed(path: Path, data: bytes) -> None:
    """Write a file without a name, then give it its name: killed before, it is gone."""
    descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, _MODE)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        file.flush()
        os.fchmod(descriptor, _MODE)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        # With a folder's descriptor, which the absolute path has no use for, the link in /proc is followed.
        os.link(f"/proc/self/fd/{descriptor}", path.absolute(), src_dir_fd=descriptor)


def _rename_part(path: Path, data: bytes) -> None:
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
        Path(part).chmod(_MODE)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
