"""Is something there, and how is its name spelt for a Python with another locale?

`pathlib`'s own questions raise where a folder above may not be searched (before 3.14). Names of files are bytes, which
each Python decodes by its own locale: what one says to another is spelt as UTF-8, where bytes that are none stand as
surrogates.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def is_file(path: Path) -> bool:
    """Tell whether a path is a file that we can see; False where we may not look."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder that we can see; False where we may not look."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: Path) -> bool:
    """Tell whether a path leads to anything that we can see; False where we may not look."""
    return os.path.exists(path)  # noqa: PTH110


def find_matching(folder: Path, pattern: str) -> list[Path]:
    """Return what is directly in a folder and matches a shell pattern, sorted; [] where we may not look.

    Args:
        folder: The folder.
        pattern: Such as "libssl*.so*".
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    return [folder / name for name in fnmatch.filter(names, pattern)]


def read_plain(path: Path, limit_bytes: int) -> bytes:
    """Read a file of which nothing is known but its name: a FIFO would never end, a device never stop.

    Args:
        path: The file; a symbolic link is followed.
        limit_bytes: The most that it may have.

    Returns:
        All of it.

    Raises:
        OSError: It cannot be read, is no plain file, or has more.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it has more than {limit_bytes} bytes", str(path))
    return data


def read_json(path: Path, limit_bytes: int) -> Any:
    """Read a JSON file that anybody may have written.

    Args:
        path: The file.
        limit_bytes: The most that it may have.

    Raises:
        OSError: It cannot be read, is no plain file, or has more.
        ValueError: It is not JSON, or nested deeper than any of ours.
    """
    try:
        return json.loads(read_plain(path, limit_bytes))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def to_utf8(name: str) -> str:
    """Spell a file's name for a Python with any locale.

    Args:
        name: As this process has it.
    """
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def from_utf8(name: str) -> str:
    """Spell a file's name for this process.

    Args:
        name: What `to_utf8` returned, or what a Python in UTF-8 mode said.

    Raises:
        UnicodeError: It is no name.
    """
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it changed, keys left as they are.

    Args:
        value: Of dicts, lists, texts and numbers.
        change: What becomes of a text.
    """
    if isinstance(value, dict):
        return {key: map_texts(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [map_texts(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def to_json_text(text: str) -> str:
    """Return a text, with names of files in it, as JSON can carry it: what is no UTF-8 is replaced.

    Args:
        text: As this process has it.
    """
    with contextlib.suppress(UnicodeError):
        text = to_utf8(text)
    return text.encode("utf-8", "replace").decode()
