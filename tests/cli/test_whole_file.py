"""Outputs replace files, and nothing else that a name may stand for: `--junit /dev/null` took root's device away."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pqtls.cli import app
from pqtls.cli.whole_file import open_whole
from pqtls.errors import UsageError
from pqtls.suite.packets import create_private

if TYPE_CHECKING:
    from pathlib import Path


def put(path: Path, text: str = "<whole/>") -> None:
    with open_whole(path) as file:
        file.write(text)


@pytest.mark.parametrize("before", [None, "a longer text that was there before"])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "x"
    if before is not None:
        path.write_text(before)
    with open_whole(path) as file:
        file.write("half")
        assert not path.exists() if before is None else path.read_text() == before
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["x"]  # noqa: PTH208


def test_a_link_leads_to_its_file_and_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for text in ("first", "then"):
        put(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_text() == text


def test_a_fifo_is_written_into(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(path.read_text()))
    reader.start()
    put(path)
    reader.join(10)
    assert got == ["<whole/>"]
    assert stat.S_ISFIFO(path.lstat().st_mode)


def test_a_device_is_written_into(tmp_path: Path) -> None:
    """Devices of our own, so that a failure of this test costs nobody /dev/null."""
    null, full = tmp_path / "null", tmp_path / "full"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        put(null)
    except OSError as error:
        pytest.skip(f"no device can be made or opened here: {error}")
    assert stat.S_ISCHR(null.lstat().st_mode)
    with pytest.raises(UsageError, match="No space left"):
        put(full)
    assert stat.S_ISCHR(full.lstat().st_mode)
    with pytest.raises(UsageError, match="is no regular file"):
        create_private(null)
    assert stat.S_ISCHR(null.lstat().st_mode)


def test_a_capture_takes_no_link_or_fifo_away(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("fifo", "link"):
        with pytest.raises(UsageError, match="is no regular file"):
            create_private(tmp_path / name)
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "file").write_text("old")
    create_private(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_two_outputs_in_one_file_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    for one, other in ((path, f"{tmp_path}/./x"), ("-", "-")):
        result = CliRunner().invoke(app, ["test", "--json", one, "--junit", other], standalone_mode=False)
        assert isinstance(result.exception, UsageError)
        assert "cannot share one file" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
