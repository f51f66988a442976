"""Which `aws` is the user's AWS CLI v2, and where it takes part."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from pqtls.errors import UsageError
from pqtls.suite.aws_v2 import NAME, find_aws_v2, require_aws_v2, settle
from pqtls.suite.case import load_builtin_cases, select_cases


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH that leads to a frozen program, by its layout."""
    dist = tmp_path / "aws-cli" / "v2" / "2.36.50" / "dist"
    dist.mkdir(parents=True)
    shutil.copy("/bin/true", dist / "aws")
    return str(dist)


def test_this_environments_own_aws_is_left_out(path: str) -> None:
    own = sysconfig.get_path("scripts")
    assert (Path(own) / "aws").exists(), "pip's AWS CLI v1"
    found = find_aws_v2({"PATH": f"{own}:{path}"})
    assert found is not None
    assert found.case.environment == (("PQTLS_AWS", f"{path}/aws"),)
    assert found.case.title == "AWS CLI v2 2.36.50"
    assert find_aws_v2({"PATH": own}) is None


def test_a_program_of_a_python_is_not_it(tmp_path: Path, path: str) -> None:
    """Such as Debian's awscli, which is version 2 as well: it does what its Python does, and a graft reaches it."""
    script = tmp_path / "aws"
    script.write_text(f"#!{sys.executable}\n")
    script.chmod(0o755)
    given = {"PATH": f"{tmp_path}:{path}"}
    assert find_aws_v2(given) is None, "what PATH leads to counts, not what stands behind it"
    with pytest.raises(UsageError, match=r"not frozen .does what .* does; a graft reaches it") as caught:
        require_aws_v2(given)
    assert "--case FILE.sh" in caught.value.next_step
    with pytest.raises(UsageError, match="on PATH there is no `aws`"):
        require_aws_v2({"PATH": "/nonexistent"})


def test_it_comes_after_the_eight_and_replaces_none(path: str) -> None:
    found = find_aws_v2({"PATH": path})
    assert found is not None
    builtin = load_builtin_cases()
    assert select_cases((), (found.case,)) == (*builtin, found.case)
    assert [case.name for case in select_cases((NAME, "requests"), (found.case,))] == ["requests", NAME]
    assert select_cases(("aws-cli",), (found.case,)) == tuple(case for case in builtin if case.name == "aws-cli")


def test_where_it_is_not_visible_it_runs_only_if_asked_for(path: str) -> None:
    found = find_aws_v2({"PATH": path})
    assert found is not None
    cases = select_cases((), (found.case,))
    assert settle(found, cases, (), sees_it=True)[0] == cases
    left, sentence = settle(found, cases, (), sees_it=False)
    assert left == load_builtin_cases()
    assert "not run, since it is not visible here" in sentence
    assert settle(found, cases, (NAME,), sees_it=False)[0] == cases
