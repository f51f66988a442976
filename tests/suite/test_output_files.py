"""The files that a run writes: what is no plain file is written to, and never replaced by one."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pqtls.cli import app
from pqtls.errors import UsageError
from pqtls.suite.output_files import open_private, open_whole
from pqtls.suite.packets import PCAP_HEADER_BYTES, Packets

if TYPE_CHECKING:
    from collections.abc import Callable


def write_whole(path: Path, text: str) -> None:
    with open_whole(path) as file:
        file.write(text)


def write_private(path: Path, text: str) -> None:
    with open_private(path) as file:
        file.write(text.encode())


either = pytest.mark.parametrize("write", [write_whole, write_private])


@either
def test_a_plain_file_is_replaced(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    path = tmp_path / "file"
    path.write_text("what was there before, and longer")
    with path.open() as held:
        write(path, "new")
        assert path.read_text() == "new"
        assert held.read() == "what was there before, and longer", "another file, not the same one emptied"


@either
def test_a_link_stays_one(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    (tmp_path / "file").write_text("what was there before, and longer")
    link = tmp_path / "link"
    link.symlink_to("file")
    write(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "file").read_text() == "new"


@either
def test_a_pipe_stays_one(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    """As a device does, which needs root to be made: /dev/null was once replaced by a report."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe, "new")
    reader.join(10)
    assert read == ["new"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


@either
def test_a_device_stays_one(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_text("x")
    except OSError:
        pytest.skip("only root may make a device, where the file system allows devices")
    write(device, "new")
    assert stat.S_ISCHR(device.lstat().st_mode)


@either
def test_what_cannot_be_written_is_told(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "file"):
        with pytest.raises(UsageError, match="cannot be written"):
            write(path, "new")


def test_a_capture_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_packets_of_several_clients_have_one_header(tmp_path: Path) -> None:
    header = bytes(range(PCAP_HEADER_BYTES))
    with open_private(tmp_path / "file") as file:
        packets = Packets(file, tmp_path)
        for body in (b"first", b"", b"third"):
            with packets.of_one_client() as part:
                assert part is not None
                part.write_bytes(header + body)
    assert (tmp_path / "file").read_bytes() == header + b"firstthird"


def test_two_outputs_in_one_file_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    for one, other in (("--json", "--junit"), ("--json", "--pcap"), ("--junit", "--pcap")):
        for name, same in ((path, f"{tmp_path}/./x"), ("-", "-")):
            result = CliRunner().invoke(app, ["test", one, name, other, same], standalone_mode=False)
            assert isinstance(result.exception, UsageError)
            assert "cannot share one file" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
