"""A run's private folder and its programs, which are gone with the run, by whatever means it ends.

    with Keeper("pqtls-test-") as keeper, keeper.holds_temporary_files():
        program = keeper.start(["curl", "https://localhost/"], environment, keeper.folder, output)
        exit_code = program.wait(timeout_s=10)

What has to outlive a `kill -9` is a small process of its own (`keeper_child`), in a session of its own. It makes the
folder, starts the programs, each under a guard that inherits what it leaves behind, and removes the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pqtls.ending.keeper_child import GUARD_REQUEST, REMOVE_REQUEST
from pqtls.errors import BugError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_IMPORT_ROOT = str(Path(__file__).parent.parent.parent)
_ANSWER_TIMEOUT_S = 30.0
# Longer than the keeper's own patience with programs and files that resist.
_END_TIMEOUT_S = 15.0
_LOG_TAIL_BYTES = 2_000


class Program:
    """A program that runs under the keeper, for as long as it is held on to: dropped, it is ended.

    Args:
        control: Socket to its guard.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; all that it has started ends with it.

        Args:
            timeout_s: Seconds after which it is ended.

        Returns:
            Its exit code, negative for a signal; None if it was ended, after its time or by `stop`.
        """
        answer = self._read(timeout_s)
        if answer is None:
            self.stop()
            answer = self._read(_END_TIMEOUT_S)
        self._control.close()
        return None if not answer else json.loads(answer)["exit_code"]

    def stop(self) -> None:
        """End it, with all that it has started; may be called from any thread, and does not wait."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def _read(self, timeout_s: float) -> bytes | None:
        """Return the guard's answer, b"" if it ended without, None if there is none in time."""
        deadline = time.monotonic() + timeout_s
        data = b""
        try:
            while not data.endswith(b"\n"):
                self._control.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = self._control.recv(4_096)
                if not chunk:
                    return b""
                data += chunk
        except TimeoutError:
            return None
        except OSError:
            return b""
        return data


class Keeper:
    """A private folder (0700), and programs whose descendants end with them; from entering the context to leaving it.

    Args:
        prefix: First letters of the folder's name; nobody can guess the rest.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._log = -1
        self._folder: Path | None = None

    def __enter__(self) -> Keeper:
        """Start the keeper's process and wait until the folder is there.

        Raises:
            UsageError: The folder cannot be made.
            BugError: The process failed otherwise.
        """
        self._log = _open_log()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def folder(self) -> Path:
        """The folder."""
        if self._folder is None:
            raise BugError("A keeper is used outside of its context.")
        return self._folder

    @property
    def pid(self) -> int:
        """Process ID of the keeper's process."""
        assert self._process  # noqa: S101 - it was entered
        return self._process.pid

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, output: int) -> Program:
        """Start a program, in a session of its own, with nothing on its standard input.

        Args:
            arguments: The program and its arguments. Exit codes 126 and 127 mean, as from a shell, that it could
                not be started; its output says why.
            environment: Its whole environment.
            folder: Its working directory.
            output: Descriptor that takes what it prints on both streams; the caller's to close.

        Raises:
            BugError: The keeper has ended.
        """
        plan = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        control, other_end = socket.socketpair()
        try:
            with other_end:
                self._send(GUARD_REQUEST, [other_end.fileno(), output])
            control.sendall(json.dumps(plan).encode() + b"\n")
        except OSError as error:
            control.close()
            raise BugError(f"The keeper of the run's programs has ended: {self._last_words()}") from error
        return Program(control)

    def removes(self, path: Path) -> None:
        """Have something outside the folder removed at the end too; best told before it is made.

        Args:
            path: A file or a folder; nothing happens if it is not there by then.
        """
        with contextlib.suppress(OSError):
            self._send(REMOVE_REQUEST + os.fsencode(path), [])

    @contextmanager
    def holds_temporary_files(self) -> Iterator[None]:
        """Make everything that this process creates through `tempfile` lie in the folder.

        The environment, and so what programs that are started do, stays as it is.
        """
        global _current  # noqa: PLW0603
        before, tempfile.tempdir = tempfile.tempdir, str(self.folder)
        before_current, _current = _current, self
        try:
            yield
        finally:
            tempfile.tempdir = before
            _current = before_current

    def _start(self) -> None:
        self._control, other_end = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with other_end:
            try:
                self._process = subprocess.Popen(
                    [*_command(), str(os.getpid()), self._prefix, *_places()],
                    cwd="/",
                    stdin=other_end.fileno(),
                    stdout=self._log,
                    stderr=self._log,
                    start_new_session=True,  # Ctrl-C is for us to act on; closing the socket ends it
                )
            except OSError as error:
                raise UsageError(f"{sys.executable} cannot be started: {error.strerror}.") from error
        self._control.settimeout(_ANSWER_TIMEOUT_S)
        answer: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            answer = json.loads(self._control.recv(65_536))
        if "refused" in answer:
            raise UsageError(
                f"No private folder for temporary files can be made: {answer['refused']}.",
                "Set TMPDIR to a folder that you can write to.",
            )
        if "folder" not in answer:
            raise BugError(f"The keeper of the run's programs did not start: {self._last_words()}")
        self._folder = Path(answer["folder"])

    def _send(self, request: bytes, descriptors: list[int]) -> None:
        socket.send_fds(self._control, [request], descriptors)

    def _end(self) -> None:
        folder, self._folder = self._folder, None
        process, self._process = self._process, None
        if process is not None:
            self._control.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_TIMEOUT_S)
            process.kill()  # does nothing to a process that has been waited for
            process.wait()
        if folder is not None and folder.exists():  # the keeper was killed
            shutil.rmtree(folder, ignore_errors=True)
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _last_words(self) -> str:
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES)).decode("utf-8", "replace")
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


_current: Keeper | None = None


def temporary_name(folder: Path, prefix: str) -> Path:
    """Choose a name for something that is to lie in a folder for a while; its maker removes or renames it.

    While a keeper holds this process's temporary files, it goes even after a `kill -9`.

    Args:
        folder: Where it is to lie.
        prefix: First letters of its name; nobody can guess the rest.

    Returns:
        A path where nothing is yet.
    """
    path = folder / f"{prefix}{secrets.token_hex(8)}"
    if _current is not None:
        _current.removes(path)
    return path


def _open_log() -> int:
    """Return a descriptor for the keeper's last words: a file that is none, not even for a moment."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pqtls-keeper")
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # a Python built for an old glibc


def _command() -> list[str]:
    """Return how to run the keeper apart from the user's settings for Python, with nothing else loaded."""
    start = "from pqtls.ending.keeper_child import main; sys.exit(main(sys.argv[1:]))"
    options = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    return [sys.executable, *options, "-c", f"import sys; sys.path.append({_IMPORT_ROOT!r}); {start}"]


def _places() -> list[str]:
    """Return where `tempfile` would look, in its order. It tries each with a file, which a kill would leave."""
    if tempfile.tempdir is not None:
        return [os.fsdecode(tempfile.tempdir)]
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    return [*named, "/tmp", "/var/tmp", "/usr/tmp"]  # noqa: S108 - the folder made there is private
