"""The user's own AWS CLI v2 as one case more: a frozen program, on which nothing that is put under Python has effect.

It is found on PATH behind this environment's own programs, which have the AWS CLI v1 of pip, a case by itself. No
graft is given to it, and no recorder sees into it: only a capture of its packets can tell what it negotiated.
"""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.openssl.aws_program import find_aws_program
from pqtls.suite.case import Case, read_case, select_cases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pqtls.openssl.aws_program import AwsProgram

NAME = "aws-cli-v2"
_SCRIPT = Path(__file__).parent / "present" / "aws_cli_v2.sh"


@dataclass(frozen=True, slots=True)
class AwsV2:
    """An AWS CLI v2 that is there.

    Attributes:
        case: It as a case.
        description: What it is and carries, as a clause.
    """

    case: Case
    description: str


def find_aws_v2(environment: Mapping[str, str] | None = None) -> AwsV2 | None:
    """Find the AWS CLI v2.

    Args:
        environment: Whose PATH; None for this process's environment.

    Returns:
        The first `aws` on PATH, this environment's own left out, if it is frozen; else None.
    """
    found = _find_users_aws(environment)
    if found is None or found.kind != "frozen":
        return None
    title = f"AWS CLI v2 {found.version}".rstrip()
    case = read_case(_SCRIPT)
    case = replace(
        case,
        name=NAME,
        title=title,
        brings_own_openssl=True,
        environment=(("PQTLS_AWS", str(found.path)),),
        notes=(f"{found.path} {found.explanation}",),
    )
    return AwsV2(case, f"{title}, {found.path}: {found.explanation}")


def require_aws_v2(environment: Mapping[str, str] | None = None) -> AwsV2:
    """Return the AWS CLI v2 that was asked for by name.

    Args:
        environment: Whose PATH; None for this process's environment.

    Raises:
        UsageError: There is none.
    """
    aws = find_aws_v2(environment)
    if aws is not None:
        return aws
    found = _find_users_aws(environment)
    there = (
        "there is no `aws`" if found is None else f"`aws` is {found.path}, which is not frozen ({found.explanation})"
    )
    raise UsageError(
        f"The case {NAME} needs the AWS CLI v2 that AWS's installer lays out, and on PATH {there}.",
        "Install it, or put it first on PATH; --case FILE.sh proves any other program.",
    )


def choose_cases(named: tuple[str, ...]) -> tuple[tuple[Case, ...], AwsV2 | None]:
    """Return the cases asked for, the AWS CLI v2 among them where it is there.

    Args:
        named: As `--case` takes them; none means all.

    Returns:
        The cases, and the AWS CLI v2 if it is one of them.

    Raises:
        UsageError: A case that cannot be had.
    """
    aws = require_aws_v2() if NAME in named else find_aws_v2()
    cases = select_cases(named, (aws.case,) if aws else ())
    return cases, aws if aws and aws.case in cases else None


def settle(
    aws: AwsV2 | None, cases: Sequence[Case], named: Sequence[str], *, sees_it: bool
) -> tuple[tuple[Case, ...], str]:
    """Leave it out where nothing can be seen of it, unless it was asked for; either way say so.

    Args:
        aws: The AWS CLI v2, None if it is not among the cases.
        cases: What is to be run.
        named: The cases that were asked for by name; none means all.
        sees_it: The witness on the wire sees every program.

    Returns:
        The cases to run, and a sentence about this one, "" if there is none.
    """
    if aws is None:
        return tuple(cases), ""
    if sees_it or NAME in named:
        return tuple(cases), f"{aws.description}; run as {NAME}"
    why = f"not run, since it is not visible here: only a packet capture sees it (--case {NAME} runs it all the same)"
    return tuple(case for case in cases if case.name != NAME), f"{aws.description}; {why}"


def _find_users_aws(environment: Mapping[str, str] | None) -> AwsProgram | None:
    given = os.environ if environment is None else environment
    own = os.path.realpath(sysconfig.get_path("scripts"))
    folders = [each for each in given.get("PATH", os.defpath).split(os.pathsep) if os.path.realpath(each) != own]
    return find_aws_program({"PATH": os.pathsep.join(folders)})
