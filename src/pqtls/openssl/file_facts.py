"""What is remembered of a file, so that a change of it is noticed: cheaply by size and time, surely by its hash."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pqtls.inject.graft_loader import OLDEST_TIME_S, is_out_of_sight
from pqtls.openssl.paths import from_utf8, read_plain, to_utf8

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file as it was.

    Attributes:
        kind: "graft" (a library of the graft), "source" (what it was made from) or "own" (what it stands in for).
        path: Absolute, or relative to the environment that it lies in.
        size_bytes: Its size.
        mtime_ns: When it was changed last, in nanoseconds.
        inode: Its number on its file system.
        sha256: Of all its bytes, in hex.
    """

    kind: str
    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "path": to_utf8(self.path)}

    @classmethod
    def from_json(cls, value: Any) -> FileFacts:
        """Read it from a JSON object.

        Args:
            value: What `to_json` returned, or anything else.

        Raises:
            ValueError: It is not one.
        """
        if not isinstance(value, dict) or set(value) != set(cls.__slots__):
            raise ValueError("a file's facts are incomplete")
        size_bytes, mtime_ns, inode = (int(value[name]) for name in ("size_bytes", "mtime_ns", "inode"))
        if size_bytes < 0:
            raise ValueError("a file's size is negative")
        return cls(str(value["kind"]), from_utf8(str(value["path"])), size_bytes, mtime_ns, inode, str(value["sha256"]))

    def is_hashed_at_start(self, root: Path, *, only_copies: bool = False) -> bool:
        """Tell whether each start of Python reads all its bytes, since its time is not the remembered one.

        Args:
            root: The environment's folder, for relative paths.
            only_copies: Leave out files without a time (OSTree, Nix), which are hashed whatever is remembered of them.
        """
        try:
            seconds = (root / self.path).stat().st_mtime_ns // _SECOND_NS
        except (OSError, ValueError):
            return False
        if seconds <= OLDEST_TIME_S:
            return not only_copies
        return seconds != self.mtime_ns // _SECOND_NS

    def is_out_of_sight(self, root: Path) -> bool:
        """Tell whether nothing can be said of it from here, not even that it is gone.

        Args:
            root: The environment's folder, for relative paths.
        """
        path = root / self.path
        try:
            path.stat()
        except OSError as error:
            return is_out_of_sight(os.fspath(path), error)
        except ValueError:  # no name of a file
            return False
        return not os.access(path, os.R_OK)

    def find_change(self, root: Path) -> str:
        """Compare with the file as it is now, all bytes read.

        Args:
            root: The environment's folder, for relative paths.

        Returns:
            What is different, as a clause; "" if nothing is.
        """
        path = root / self.path
        try:
            data = read_plain(path, self.size_bytes)
        except OSError as error:
            return f"{path}: {error.strerror}"
        except ValueError as error:  # no name of a file
            return f"{path!r}: {error}"
        return "" if hashlib.sha256(data).hexdigest() == self.sha256 else f"{path} has other contents"


def read_facts(kind: str, path: Path, root: Path) -> FileFacts:
    """Remember a file.

    Args:
        kind: What it is to the graft.
        path: Absolute.
        root: The environment's folder: a path inside it is kept relative, so that the environment can be moved.

    Returns:
        Its facts now.

    Raises:
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    status = path.stat()
    shown = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    digest = hashlib.sha256(data).hexdigest()
    return FileFacts(kind, shown, status.st_size, status.st_mtime_ns, status.st_ino, digest)
