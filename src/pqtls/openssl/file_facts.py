"""What is remembered of a file, so that a change of it is noticed: cheaply by size and time, surely by its hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pqtls.openssl.paths import from_utf8, read_plain, to_utf8


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
