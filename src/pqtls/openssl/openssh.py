"""Keep OpenSSH working inside a graft: some builds refuse a libcrypto newer than the one they were built with.

Such an `ssh` ends with "OpenSSL version mismatch" (before OpenSSH 9.4, and Debian 12 before its 9.2p1-2+deb12u7),
and git over ssh, rsync and ansible with it. `ssh -V` is tried with the graft and without; only where the graft is
what breaks it, a private folder with a small wrapper for each of OpenSSH's programs is put first on PATH. A wrapper
takes the graft's folder, and nothing else, out of LD_LIBRARY_PATH and becomes the real program. It lies beside the
graft, is written under a temporary name and renamed, and is compared byte by byte before it is used again.

What calls ssh by its absolute path (`GIT_SSH=/usr/bin/ssh`, git's core.sshCommand) is not
reached.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.errors import UsageError
from pqtls.openssl.environment import MANIFEST, OPENSSH_SCHEMA, read_manifest
from pqtls.openssl.private_folder import find_own_obstacle, make_private_folder
from pqtls.openssl.whole_folder import move_into_place, start_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS = ("ssh", "slogin", "scp", "sftp", "ssh-add", "ssh-agent", "ssh-keygen", "ssh-keyscan", "sshd", "autossh")
"""OpenSSH's programs, and those that start its ssh by an absolute path (scp, sftp, autossh)."""

_TIMEOUT_S = 10.0
"""`ssh -V` takes 5 ms; one that asks for something is no OpenSSH."""

# The list gets a colon at each end, so that every element has one on both sides; each is taken off again.
_WRAPPER = """#!/bin/sh
# Written by pqtls: this OpenSSH does not run with a newer OpenSSL, so it gets the system's own.
graft={graft}
if [ -n "${{LD_LIBRARY_PATH-}}" ]; then
  list=":$LD_LIBRARY_PATH:"
  while :; do
    case "$list" in
      *":$graft:"*) list="${{list%%":$graft:"*}}:${{list#*":$graft:"}}" ;;
      *) break ;;
    esac
  done
  list="${{list#:}}"
  list="${{list%:}}"
  if [ -n "$list" ]; then LD_LIBRARY_PATH="$list"; else unset LD_LIBRARY_PATH; fi
fi
exec {program} "$@"
"""


def keep_openssh_working(graft_folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which OpenSSH works as it does without the graft.

    Args:
        graft_folder: The graft's folder, which is in LD_LIBRARY_PATH.
        environment: The whole environment with the graft in it.

    Returns:
        A new environment: the same, or with a folder of wrappers first on PATH where `ssh` needs them.

    Raises:
        UsageError: The folder beside the graft is not safe or cannot be written.
    """
    path = environment.get("PATH", os.defpath)
    ssh = _find("ssh", path)
    if ssh is None or _starts(ssh, environment):
        return dict(environment)
    without = _without(environment, graft_folder)
    if not _starts(ssh, without):
        return dict(environment)  # it does not work either way: not our doing
    programs = {name: real for name in PROGRAMS if (real := _find(name, path)) is not None}
    try:
        folder = _make_wrappers(graft_folder, programs)
    except OSError as error:
        raise UsageError(
            f"The wrappers that keep ssh working cannot be written beside {graft_folder}: {error.strerror}.",
            "Set XDG_CACHE_HOME to another folder.",
        ) from error
    return {**environment, "PATH": f"{folder}:{path}"}


def wrapper_folder(environment: Mapping[str, str]) -> str:
    """Return the folder of wrappers that is first on PATH, "" if there is none.

    Args:
        environment: From `keep_openssh_working`.
    """
    first = environment.get("PATH", "").partition(":")[0]
    return first if first.startswith("/") and read_manifest(Path(first), OPENSSH_SCHEMA) is not None else ""


def find_wrapper(program: str, environment: Mapping[str, str]) -> str:
    """Return the wrapper that stands for a program which was named by its path; else the program as it is.

    Args:
        program: The path of a program.
        environment: From `keep_openssh_working`.
    """
    folder = Path(wrapper_folder(environment))
    programs = (read_manifest(folder, OPENSSH_SCHEMA) or {}).get("programs")
    for name, real in programs.items() if isinstance(programs, dict) else ():
        if isinstance(real, str) and os.path.realpath(real) == os.path.realpath(program):
            return str(folder / str(name))
    return program


def _find(name: str, path: str) -> str | None:
    found = shutil.which(name, path=path)
    return None if found is None else str(Path(found).absolute())


def _starts(ssh: str, environment: Mapping[str, str]) -> bool:
    """Tell whether `ssh -V` ends well; a program that hangs or cannot be run does not."""
    try:
        done = subprocess.run(
            [ssh, "-V"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _without(environment: Mapping[str, str], graft_folder: Path) -> dict[str, str]:
    kept = [each for each in environment.get("LD_LIBRARY_PATH", "").split(":") if each != str(graft_folder)]
    without = {key: value for key, value in environment.items() if key != "LD_LIBRARY_PATH"}
    return {**without, "LD_LIBRARY_PATH": ":".join(kept)} if any(kept) else without


def _make_wrappers(graft_folder: Path, programs: Mapping[str, str]) -> Path:
    base = make_private_folder(graft_folder.parent)
    files = {
        name: os.fsencode(_WRAPPER.format(graft=shlex.quote(str(graft_folder)), program=shlex.quote(real)))
        for name, real in programs.items()
    }
    manifest = {"schema": OPENSSH_SCHEMA, "graft": str(graft_folder), "programs": dict(programs)}
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    digest = hashlib.sha256(b"\0".join(part for name in sorted(files) for part in (name.encode(), files[name])))
    folder = base / f"openssh-{digest.hexdigest()[:32]}"
    if _is_intact(folder, files):
        return folder
    making = start_folder(base)
    try:
        for name, data in files.items():
            write_file(making / name, data, 0o700)
        move_into_place(making, folder, lambda: _is_intact(folder, files))
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _is_intact(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Tell whether a folder holds exactly these wrappers.

    Raises:
        UsageError: It is not ours or open to others: then it must not be used, nor replaced.
    """
    try:
        inside = list(folder.iterdir())
        for path in (folder, *inside):
            obstacle = find_own_obstacle(path)
            if obstacle:
                step = f"Look into it, then remove {folder}."
                raise UsageError(f"{obstacle}; programs there are not safe to run.", step)
        names = {each.name for each in inside}
        return names == set(files) and all((folder / name).read_bytes() == data for name, data in files.items())
    except OSError:
        return False
