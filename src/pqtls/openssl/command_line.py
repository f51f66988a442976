"""Which Python interpreter a command line will run, told without running it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.openssl.paths import is_file

if TYPE_CHECKING:
    from collections.abc import Sequence

_PYTHON_NAME = re.compile(r"(?:python|pypy)[0-9.]*(?:-dbg|[a-z]{0,2})?(?:\.exe)?")

# pip, uv and distlib write this into scripts whose interpreter's path is too long or has spaces for a shebang:
#   #!/bin/sh
#   '''exec' "/a long/path/python" "$0" "$@"
_SHELL_TRICK = re.compile(rb"""^'''exec'\s+(.+?)\s+"\$0"\s+"\$@"\s*$""", re.MULTILINE)
# uv's relocatable variant of it: "$(dirname -- "$(realpath -- "$0")")"/'python'
_RELOCATABLE = re.compile(r"""^"\$\(dirname -- "\$\(realpath -- "\$0"\)"\)"/(.+)$""")

_HEAD_BYTES = 4096
"""The kernel reads 256 bytes of a shebang; the shell trick carries one path, of at most PATH_MAX."""

_MAX_HOPS = 5
"""Linux gives up after as many interpreters of interpreters (binfmt_script)."""


def find_interpreter(command: Sequence[str], path: str | None = None) -> Path | None:
    """Tell which Python interpreter a command line will run.

    Args:
        command: The program and its arguments.
        path: Folders to search, in PATH's form; None for this process's PATH.

    Returns:
        The program itself if it is called like a Python, the interpreter of a script (`#!/path/python`,
        `#!/usr/bin/env [-S] python`, the /bin/sh trick of pip and uv), or None: not a Python program, or it
        cannot be told. Symbolic links are kept, since a virtual environment's Python is one.
    """
    files = follow_command(command, path)
    return files[-1] if files and _PYTHON_NAME.fullmatch(files[-1].name) else None


def follow_command(command: Sequence[str], path: str | None = None) -> list[Path]:
    """List the files that a command line leads through: a script, its interpreter, what `env` starts.

    Args:
        command: The program and its arguments.
        path: Folders to search, in PATH's form; None for this process's PATH.

    Returns:
        The files in order, symbolic links kept, none if there is no such program. It ends at a Python, at a
        program that is no script, or at a script that cannot be followed, such as one of a shell.
    """
    search = os.environ.get("PATH", os.defpath) if path is None else path
    words = list(command)
    files: list[Path] = []
    while words and len(files) < _MAX_HOPS:
        program = shutil.which(words[0], path=search)
        if program is None:
            break
        found = Path(program).absolute()
        files.append(found)
        words = [] if _PYTHON_NAME.fullmatch(found.name) else _next_command(found, words[1:])
    return files


def _next_command(found: Path, arguments: list[str]) -> list[str]:
    """Return the command that a program starts in its stead, [] if it starts none or it cannot be told."""
    if found.name == "env":
        return _after_env(arguments)
    if not is_file(found):  # a FIFO would never end
        return []
    try:
        with found.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return []
    return _shebang(head, found) if head.startswith(b"#!") else []


def _shebang(head: bytes, script: Path) -> list[str]:
    """Return the command that a script's head asks for."""
    line = os.fsdecode(head[2:].split(b"\n", 1)[0]).strip()
    interpreter, _, argument = line.partition(" ")
    if Path(interpreter).name in ("sh", "bash", "dash"):
        trick = _SHELL_TRICK.search(head)
        return _trick_command(os.fsdecode(trick.group(1)), script) if trick else []
    return [interpreter, *([argument.strip()] if argument.strip() else [])]


def _trick_command(text: str, script: Path) -> list[str]:
    relocatable = _RELOCATABLE.match(text)
    words = _split(relocatable.group(1) if relocatable else text)
    if relocatable and words:
        return [str(script.resolve().parent / words[0])]
    return words[:1]


def _after_env(arguments: list[str]) -> list[str]:
    """Return the command inside env's arguments, past its options and assignments; [] if it cannot be told."""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word.startswith(("-S", "--split-string")) or re.match(r"-[iv0]*S", word):
            text = word.partition("=")[2] if word.startswith("--") else word.partition("S")[2]
            rest = _split(text or (rest.pop(0) if rest else "")) + rest
        elif word in ("-u", "--unset", "-C", "--chdir"):
            rest = rest[1:]
        elif " " in word and "=" not in word.split(" ", 1)[0]:
            return []  # `#!/usr/bin/env python3 -u` without -S: env looks for a program of that whole name
        elif not word.startswith("-") and "=" not in word:
            return [word, *rest]
    return []


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []
