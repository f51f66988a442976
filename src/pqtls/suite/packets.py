"""The capture file that `--pcap` asks for: one, of the packets of all clients."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a pcap file begins with, before its first packet (draft-ietf-opsawg-pcap): written once.
PCAP_HEADER_BYTES = 24


class Packets:
    """Puts the clients' capture files together; for one client at a time.

    Args:
        wanted: The file, None for none.
        folder: Private folder for what is on its way into it.
    """

    def __init__(self, wanted: Path | None, folder: Path) -> None:
        self._wanted = wanted
        self._folder = folder

    @contextmanager
    def of_one_client(self) -> Iterator[Path | None]:
        """Add the packets that are written meanwhile to the file.

        Yields:
            Where to write them; None if nobody wants them.
        """
        if self._wanted is None:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="packets-", dir=self._folder) as folder:
            part = Path(folder) / "part.pcap"
            yield part
            with self._wanted.open("ab") as file:
                file.write(part.read_bytes()[PCAP_HEADER_BYTES if file.tell() else 0 :])


def create_private(path: Path) -> None:
    """Make an empty file that only its owner may read, in place of a file that was there.

    Args:
        path: The file.

    Raises:
        UsageError: It cannot be written, or something else than a regular file has that name (a device, a FIFO, a
            symbolic link), which is not ours to take away.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise UsageError(f"{path} is no regular file, and captures are put into one.", "Name another file.")
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
