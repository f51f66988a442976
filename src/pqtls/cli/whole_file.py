"""A file that appears under its name only when it is whole, and of which nothing lies about before.

Only a regular file is replaced so. What else may stand under a name (a device, a FIFO, a symbolic link such as
/dev/stdout) is not ours to take away: it is written into, as every program does.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_MODE = 0o644


@contextmanager
def open_whole(path: Path) -> Iterator[TextIO]:
    """Take text for a file, and write it all at the end, in place of what was there.

    Args:
        path: The file; that it can be written is looked at before.

    Raises:
        UsageError: It cannot be written.
    """
    with _told(path):
        _look_at(path)
    text = io.StringIO()
    yield text
    with _told(path):
        data = text.getvalue().encode()
        if may_be_replaced(path):
            _put(path, data)
        else:
            path.write_bytes(data)


def may_be_replaced(path: Path) -> bool:
    """Tell whether another file may be put in the place of what a name stands for: nothing, or a regular file.

    Args:
        path: The name; a symbolic link is not followed.
    """
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
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
    is_link = path.is_symlink() and not path.exists()  # to a file that is yet to be made
    wanted, rights = (path.parent, os.W_OK | os.X_OK) if may_be_replaced(path) or is_link else (path, os.W_OK)
    if not os.access(wanted, rights):
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
