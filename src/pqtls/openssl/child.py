"""Run a small script in another interpreter and read the one JSON value that it answers.

What fails in the child (a crash, an exception, a hang, noise on its output) comes back as a sentence, since
"it does not work there" is what the caller wants to know.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pqtls.openssl.paths import from_utf8, map_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MARK = "pqtls-answer:"
"""Starts the line with the answer: a sitecustomize or a wrapper may print lines of its own."""

_MAX_WORDS = 400
"""Of an error's last line; ours name a path or two."""
TIMEOUT_S = 20.0
"""An inspection takes 0.05 s and a handshake 0.1 s; a loaded CI machine may take 50 times that."""

# A script that hangs ends even if this process was killed and can't end it.
_END_IN_TIME = "import signal\nif hasattr(signal, 'alarm'): signal.alarm({})\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child process answered.

    Attributes:
        value: The decoded JSON object, None if there is none.
        failure: Why there is none, as the end of a sentence ("it ..."); "" if there is one.
        starts: The program could be executed at all.
    """

    value: dict[str, Any] | None
    failure: str = ""
    starts: bool = True


def ask(
    executable: Path | str,
    script: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    *,
    is_bare: bool = False,
) -> Answer:
    """Run a script in another interpreter, isolated (`-I`), and read its answer.

    Args:
        executable: The interpreter.
        script: Python source; it prints `MARK` and a JSON object in one line.
        arguments: Its sys.argv[1:].
        environment: The child's whole environment; None for this process's own.
        timeout_s: When to give up, in seconds.
        is_bare: Without `site` too (`-S`): no `.pth` of its environment runs, such as that of `pqtls enable`.

    Returns:
        The answer, or why there is none.
    """
    # In UTF-8 mode whatever the locale: then names of files are spelt as `from_utf8` reads them.
    flags = ["-I", "-X", "utf8", *(["-S"] if is_bare else [])]
    arguments = [str(executable), *flags, "-c", _END_IN_TIME.format(int(timeout_s) + 10) + script, *arguments]
    try:
        process = subprocess.Popen(
            arguments,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a wrapper's own child must end with it
        )
    except (OSError, ValueError) as error:
        return Answer(None, f"cannot be executed ({getattr(error, 'strerror', None) or error})", starts=False)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return Answer(None, f"did not answer within {timeout_s:g} seconds")
    except BaseException:
        _kill(process)
        raise
    return _decode(out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), process.returncode)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=5)


def _decode(out: str, err: str, code: int) -> Answer:
    for line in reversed(out.splitlines()):
        if line.startswith(MARK):
            with contextlib.suppress(ValueError):
                value = map_texts(json.loads(line[len(MARK) :]), from_utf8)
                if isinstance(value, dict):
                    return Answer(value)
    if code < 0:
        with contextlib.suppress(ValueError):
            return Answer(None, f"was killed by {signal.Signals(-code).name}")
    last = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), "").rstrip(".")
    if _END_IN_TIME.partition("\n")[0] in last:
        last = ""  # a program that is no Python complains of its arguments, and quotes them
    if len(last) > _MAX_WORDS:
        last = f"{last[:_MAX_WORDS]}..."
    return Answer(None, f"ended with code {code}" + (f": {last}" if last else " and no answer"))
