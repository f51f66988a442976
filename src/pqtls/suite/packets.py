"""The capture file that `--pcap` asks for: one, of the packets of all clients."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

# What a pcap file begins with, before its first packet (draft-ietf-opsawg-pcap): written once.
PCAP_HEADER_BYTES = 24


class Packets:
    """Puts the clients' capture files together; for one client at a time.

    Args:
        wanted: The file, open and empty; None for none.
        folder: Private folder for what is on its way into it.
    """

    def __init__(self, wanted: BinaryIO | None, folder: Path) -> None:
        self._wanted = wanted
        self._folder = folder
        self._has_header = False

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
            self._wanted.write(part.read_bytes()[PCAP_HEADER_BYTES if self._has_header else 0 :])
            # Whoever reads a pipe sees each client's packets as they come, and a file has them if the run is killed.
            self._wanted.flush()
            self._has_header = True
