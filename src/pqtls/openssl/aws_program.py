"""Which AWS CLI is on PATH, read from its files: one that a graft reaches, or one that brings its own OpenSSL.

Version 2 as AWS installs it is a frozen program: Python, OpenSSL and all in one folder. Nothing that is put under
the machine's Python changes it. It is never run here, since it would read the user's configuration.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pqtls.openssl.carried_library import name_libraries
from pqtls.openssl.command_line import find_interpreter
from pqtls.openssl.paths import find_matching

if TYPE_CHECKING:
    from collections.abc import Mapping

AwsKind = Literal["python", "frozen", "unknown"]


@dataclass(frozen=True, slots=True)
class AwsProgram:
    """The `aws` that PATH leads to.

    Attributes:
        path: As found, links not followed.
        kind: "python": a script of a Python; "frozen": brings its own Python and OpenSSL; "unknown".
        version: Such as "2.36.50"; "" if its files don't say.
        openssl: The OpenSSL that it carries; "" if it carries none, or its files don't say.
        explanation: What follows from it, as a clause.
    """

    path: Path
    kind: AwsKind
    version: str
    openssl: str
    explanation: str


def find_aws_program(environment: Mapping[str, str] | None = None) -> AwsProgram | None:
    """Find the AWS CLI.

    Args:
        environment: Whose PATH; None for this process's environment.

    Returns:
        What its files say of it; None if there is none on PATH.
    """
    search = (os.environ if environment is None else environment).get("PATH", os.defpath)
    found = shutil.which("aws", path=search)
    if found is None:
        return None
    path = Path(found).absolute()
    real = Path(os.path.realpath(path))
    if _is_elf(real):
        return _frozen(path, real)
    interpreter = find_interpreter([str(path)], search)
    if interpreter is None:
        return AwsProgram(path, "unknown", "", "", "a wrapper: its files don't say which AWS CLI it starts")
    version = _installed_version(interpreter.parent.parent)
    return AwsProgram(path, "python", version, "", f"does what {interpreter} does; a graft reaches it")


def _frozen(path: Path, real: Path) -> AwsProgram:
    openssl = find_carried_openssl(real)
    match = re.search(r"/v2/(\d+\.\d+\.\d+[^/]*)/", str(real))
    carries = f"carries {openssl}" if openssl else "its files don't say which OpenSSL it carries"
    reach = "frozen, so a graft and `pqtls run` do nothing for it"
    return AwsProgram(path, "frozen", match.group(1) if match else "", openssl, f"{carries}; {reach}")


def find_carried_openssl(program: Path) -> str:
    """Return which OpenSSL a frozen program brings, "" if the files beside it do not say.

    AWS's own version 2 has it in a libcrypto for ARM; for x86-64 it is linked into Python's `_ssl` (aws/aws-cli 8485,
    10135).

    Args:
        program: The program's file, links followed.
    """
    for folder in (program.parent, program.parent / "_internal"):  # PyInstaller's, before version 6 and since
        modules = [
            folder,
            folder / "lib-dynload",
            *(each / "lib-dynload" for each in find_matching(folder, "python3*")),
        ]
        files = find_matching(folder, "libcrypto*")
        files += [file for each in modules for file in find_matching(each, "_ssl.*")]
        files += find_matching(folder, "libpython3*")
        for file in files:
            try:
                names = name_libraries(file.read_bytes())
            except OSError:
                continue
            openssl = next((name for name in names if name.startswith("OpenSSL ")), "")
            if openssl:
                return openssl
    return ""


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _installed_version(prefix: Path) -> str:
    """Return the version of awscli that is installed below a Python's prefix, "" if it cannot be told."""
    for folder in find_matching(prefix / "lib", "python3*"):
        for packages in (folder / "site-packages", folder / "dist-packages"):
            for info in find_matching(packages, "awscli-*.dist-info"):
                return info.name.removeprefix("awscli-").removesuffix(".dist-info")
    return ""
