from __future__ import annotations

import os
from pathlib import Path

import pytest

from pqtls.openssl.environment import add_graft, is_graft_folder, strip_graft
from pqtls.openssl.graft import Graft


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, []), ("", []), (":", []), ("/a", ["/a"]), ("/a:/b", ["/a", "/b"]), (":/a::/b:", ["/a", "/b"])],
)
def test_the_graft_comes_first_and_no_element_is_empty(graft: Graft, before: str | None, after: list[str]) -> None:
    given = {"X": "1"} if before is None else {"X": "1", "LD_LIBRARY_PATH": before}
    copy = dict(given)
    added = graft.apply(given)
    assert given == copy
    assert added["LD_LIBRARY_PATH"].split(":") == [str(graft.folder), *after]
    assert added["X"] == "1"


@pytest.mark.parametrize("given", [{}, {"A": "b"}, {"LD_LIBRARY_PATH": "/a:/b"}, {"OPENSSL_MODULES": "/mine"}])
def test_taken_out_again_without_a_trace(graft: Graft, given: dict[str, str]) -> None:
    assert strip_graft(graft.apply(given)) == given
    assert strip_graft(graft.apply(graft.apply(given))) == given
    assert strip_graft(given) == given


def test_a_users_own_variables_win(graft: Graft, tmp_path: Path) -> None:
    assert add_graft({"OPENSSL_MODULES": "/mine"}, graft.folder, tmp_path)["OPENSSL_MODULES"] == "/mine"
    assert strip_graft({"LD_LIBRARY_PATH": ":/a:"}) == {"LD_LIBRARY_PATH": ":/a:"}


def test_only_a_manifest_makes_a_graft(graft: Graft, tmp_path: Path) -> None:
    assert is_graft_folder(graft.folder)
    assert not is_graft_folder(tmp_path)
    for text in ("{", "[]", '{"schema": "other"}', "\udcff"):
        (tmp_path / "manifest.json").write_text(text, errors="surrogateescape")
        assert not is_graft_folder(tmp_path)


@pytest.mark.parametrize("kind", ["FIFO", "device", "nested", "large", "folder"])
def test_any_folder_of_the_users_is_looked_into_without_harm(tmp_path: Path, kind: str) -> None:
    """LD_LIBRARY_PATH and PATH name folders that others may have filled: none is waited for, none read to its end."""
    path = tmp_path / "manifest.json"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("[" * 60_000 if kind == "nested" else '{"schema": "' + "x" * 100_000)
    given = {"LD_LIBRARY_PATH": str(tmp_path), "PATH": str(tmp_path)}
    assert strip_graft(given) == given
