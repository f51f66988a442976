"""Reading and choosing cases; nothing of a script is run to read its header."""

from __future__ import annotations

from pathlib import Path

import pytest

from pqtls.errors import UsageError
from pqtls.suite.case import Case, load_builtin_cases, read_case, select_cases


def test_the_eight_in_their_order() -> None:
    cases = load_builtin_cases()
    assert [case.name for case in cases] == [
        "socket-ssl",
        "requests",
        "boto3",
        "aws-cli",
        "asyncio-streams",
        "urllib3",
        "httpx",
        "aiohttp",
    ]
    assert all(case.host.endswith(".amazonaws.com") for case in cases)
    assert len({case.host for case in cases}) == 4


def test_a_header_is_read_and_the_rest_is_not(tmp_path: Path) -> None:
    path = tmp_path / "07_my_case.py"
    path.write_text("#!/usr/bin/env python3\n# title: Mine\n# needs: requests, nosuch\nimport x\n# host: no.example\n")
    case = read_case(path)
    assert (case.name, case.title, case.host, case.needs) == ("my-case", "Mine", "", ("requests", "nosuch"))
    assert case.missing() == ("nosuch",)


def test_a_script_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "plain.sh"
    path.write_text("true\n")
    assert (read_case(path).name, read_case(path).title) == ("plain", "plain")


def test_ones_own_case_comes_after_the_built_in_ones(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("pass\n")
    chosen = select_cases((str(path), "httpx", "requests"))
    assert [case.name for case in chosen] == ["requests", "httpx", "own"]
    assert [case.name for case in select_cases((str(path),))] == ["own"]


def test_what_cannot_be_chosen(tmp_path: Path) -> None:
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"\xff\xfe\x00")
    needy = tmp_path / "needy.py"
    needy.write_text("# needs: no-such-distribution\n")
    for name, sentence in (
        ("nosuch", "no case 'nosuch'"),
        (str(tmp_path / "absent.py"), "cannot be read"),
        (str(binary), "cannot be read"),
        (str(needy), "no-such-distribution"),
    ):
        with pytest.raises(UsageError, match=sentence):
            select_cases((name,))


def test_what_to_install_is_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that pqtls's extras bring helps a case that needs something else."""
    needy = tmp_path / "needy.py"
    needy.write_text("# needs: no-such-distribution, requests\n")
    with pytest.raises(UsageError) as caught:
        select_cases((str(needy),))
    assert caught.value.next_step == "Run: pip install no-such-distribution, or choose other clients with --case."
    monkeypatch.setattr(Case, "missing", lambda self: tuple(name for name in self.needs if name != "boto3"))
    with pytest.raises(UsageError) as caught:
        select_cases((str(needy), "requests"))
    assert "pip install 'pqtls[suite,aws,openssl]' no-such-distribution, or" in caught.value.next_step
