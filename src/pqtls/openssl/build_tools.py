"""The programs that a build of OpenSSL needs: a C compiler, make, and perl with its core modules."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What Configure and the generators under crypto/ and util/ use that some distributions package apart from perl.
PERL_MODULES = (
    "Config", "Cwd", "FindBin", "Carp", "Exporter", "File::Basename", "File::Compare", "File::Copy", "File::Path",
    "File::Spec::Functions", "File::Temp", "Getopt::Long", "Getopt::Std", "IPC::Cmd", "POSIX",
)  # fmt: skip
_INSTALL = (
    "Install the tools: apt-get install gcc make perl libc6-dev; dnf install gcc make perl-core glibc-devel; "
    "or apk add gcc make perl musl-dev linux-headers."
)
_TRIAL = b"#include <stdint.h>\n#include <stdlib.h>\nint main(void) { return sizeof(uint64_t) != 8; }\n"
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class BuildTools:
    """The tools, as absolute paths.

    Attributes:
        compiler: A C compiler: $CC, gcc or cc.
        compiler_version: Its first line about itself.
        make: GNU make or another.
        perl: Perl 5.10 or newer.
    """

    compiler: str
    compiler_version: str
    make: str
    perl: str


def find_build_tools(environment: Mapping[str, str]) -> BuildTools:
    """Find the tools, and try that they work.

    Args:
        environment: Its PATH is searched; its CC names another compiler.

    Returns:
        The tools.

    Raises:
        UsageError: One is missing or does not work; the message names each of the missing ones.
    """
    path = environment.get("PATH", os.defpath)
    named = environment.get("CC", "")
    found = (shutil.which(name, path=path) for name in ([named] if named else ["gcc", "cc"]))
    compiler = next(filter(None, found), None)
    make, perl = shutil.which("make", path=path), shutil.which("perl", path=path)
    wanted = {f"C compiler ({named or 'gcc or cc'})": compiler, "make": make, "perl": perl}
    missing = [name for name, found in wanted.items() if not found]
    if missing or not compiler or not make or not perl:
        raise UsageError(f"OpenSSL cannot be built here: there is no {', no '.join(missing)}.", _INSTALL)
    _check_compiler(compiler, environment)
    _check_perl(perl, environment)
    version = _run([compiler, "--version"], environment).stdout.decode("utf-8", "replace").strip()
    return BuildTools(compiler, version.partition("\n")[0][:200], make, perl)


def _check_compiler(compiler: str, environment: Mapping[str, str]) -> None:
    """Compile a few lines: a compiler without its C library's headers is a common half."""
    done = _run([compiler, "-x", "c", "-c", "-o", os.devnull, "-"], environment, _TRIAL)
    if done.returncode != 0:
        raise UsageError(f"{compiler} compiles nothing: {_first_error(done.stderr)}.", _INSTALL)


def _check_perl(perl: str, environment: Mapping[str, str]) -> None:
    script = 'for (@ARGV) { print "$_ " unless eval "require $_; 1" } print $] < 5.010 ? "old" : "";'
    done = _run([perl, "-e", script, *PERL_MODULES], environment)
    missing = done.stdout.decode("utf-8", "replace").split()
    if "old" in missing:
        raise UsageError(f"{perl} is older than 5.10, which OpenSSL's Configure needs.", _INSTALL)
    if missing or done.returncode != 0:
        what = f"has no module {', '.join(missing)}" if missing else f"does not run: {_first_error(done.stderr)}"
        raise UsageError(f"OpenSSL cannot be built here: {perl} {what}.", _INSTALL)


def _run(
    arguments: list[str], environment: Mapping[str, str], given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            arguments, env=dict(environment), input=given, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except OSError as error:
        raise UsageError(f"{arguments[0]} cannot be run: {error.strerror}.", _INSTALL) from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{arguments[0]} did not answer within {_TIMEOUT_S:g} seconds.", _INSTALL) from error


def _first_error(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    told = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "it says nothing")
    return told.rstrip(".")[:200]
