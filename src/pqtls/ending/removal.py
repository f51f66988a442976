"""Remove a folder, whatever its owner's own programs have put into it.

Nothing outside is touched: every name is taken relative to an opened folder, and no symbolic link is followed. What
was made unreadable is made readable first. A tree of any depth needs two descriptors and no recursion: what is found
below is moved up.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

_PAUSE_S = 0.01


def remove(path: str, patience_s: float) -> bool:
    """Remove a file, or a folder with all that is in it.

    Args:
        path: What to remove; a symbolic link is removed itself.
        patience_s: Seconds to go on for while something in it cannot be removed, or something new appears.

    Returns:
        Whether nothing is there any more.
    """
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError):
            _remove(path)
        if not os.path.lexists(path):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)


def _remove(path: str) -> None:
    if not _is_folder(path, None):
        os.unlink(path)  # noqa: PTH108 - pathlib starts slowly, here and below
        return
    top = _open_folder(path, None)
    try:
        while _empty(top, top):
            pass
    finally:
        os.close(top)
    os.rmdir(path)  # noqa: PTH106


def _empty(folder: int, top: int) -> bool:
    """Remove what is in a folder; in `top` with all below it, elsewhere by moving folders there. Tell of any moved."""
    is_top, moved = folder == top, False
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):  # the others all the same
            if not _is_folder(name, folder):
                os.unlink(name, dir_fd=folder)
            elif is_top:
                inner = _open_folder(name, top)
                try:
                    moved |= _empty(inner, top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
            else:
                _make_accessible(name, folder)  # a folder that is moved is written to: its `..`
                os.rename(name, os.urandom(16).hex(), src_dir_fd=folder, dst_dir_fd=top)
                moved = True
    return moved


def _open_folder(path: str, parent: int | None) -> int:
    _make_accessible(path, parent)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _make_accessible(path: str, parent: int | None) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(descriptor).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)  # noqa: PTH101 - what was opened, not what is there by now
    finally:
        os.close(descriptor)


def _is_folder(path: str, parent: int | None) -> bool:
    return stat.S_ISDIR(os.stat(path, dir_fd=parent, follow_symlinks=False).st_mode)
