"""The keeper's process, started by `pqtls.ending.keeper` and by nobody else: owns a run's folder, starts its programs.

It makes the folder and is there for as long as whoever holds the other end of the socket that is its standard
input. It is the ancestor of every program of the run: for each it forks a guard, which ends with all that the program
has started. When the other end is gone, by whatever means, it ends what is left and removes the folder, then itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from pqtls.ending.descendants import become_subreaper, end_descendants, reap
from pqtls.ending.removal import remove

if TYPE_CHECKING:
    from collections.abc import Mapping

Handlers: TypeAlias = "Mapping[signal.Signals, Any]"

GUARD_REQUEST = b"guard"
REMOVE_REQUEST = b"remove:"
MAX_REQUEST_BYTES = 8_192

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

# What the kernel needs to end processes, or to let go of a file, many times over.
_PATIENCE_S = 3.0
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores, and a program would inherit that


def main(arguments: list[str]) -> int:
    """Keep a run's folder until the parent lets go of it.

    Args:
        arguments: Process ID of the parent, the first letters of the folder's name, and where it may lie, the best
            place first.

    Returns:
        Exit code: 0 after an orderly end, 1 if the folder cannot be made.
    """
    parent, prefix, *places = arguments
    # A session of our own keeps Ctrl-C away; whoever ends all of us by SIGTERM still wants the folder to go.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _IGNORED}
    with socket.socket(fileno=0) as control:
        try:
            folder = _make_folder(prefix, places)
        except OSError as error:
            _tell(control, {"refused": error.strerror or str(error)})
            return 1
        keeper = _Keeper(control, int(parent), before)
        try:
            with contextlib.suppress(OSError):  # then each guard does it for its own program, or nobody can
                become_subreaper()
            if _tell(control, {"folder": folder}):
                keeper.run()
        finally:
            keeper.end(folder)
    return 0


def _make_folder(prefix: str, places: list[str]) -> str:
    """Make a folder (0700) whose name nobody can guess, in the first place that takes it."""
    failure = OSError(2, "there is no folder for temporary files")
    for place in places:
        path = os.path.join(os.path.abspath(place), prefix + os.urandom(8).hex())  # noqa: PTH100, PTH118
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102
        except OSError as error:
            failure = error
            continue
        return path
    raise failure


def _tell(control: socket.socket, answer: dict[str, object]) -> bool:
    try:
        control.sendall(json.dumps(answer).encode() + b"\n")
    except OSError:
        return False
    return True


class _Wakeup:
    """Makes the end of a child readable, so that a select can wait for it."""

    def __init__(self) -> None:
        self.socket, self._write = socket.socketpair()
        self.socket.setblocking(False)
        self._write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the default would wake nobody
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(4_096):
                pass


class _Keeper:
    def __init__(self, control: socket.socket, parent: int, before: Handlers) -> None:
        self._control = control
        self._control.setblocking(False)
        self._before = before
        self._parent: int | None = None
        self._removed: list[str] = []
        self._is_orphan = False
        with contextlib.suppress(OSError, AttributeError):  # before Linux 5.3 the end of the socket must do
            self._parent = os.pidfd_open(parent)  # a fork of the parent may hold the other end open after it is gone
        self._is_orphan = os.getppid() != parent

    def run(self) -> None:
        wakeup = _Wakeup()
        control, ended = self._control.fileno(), wakeup.socket.fileno()
        watched = [control, ended, *([] if self._parent is None else [self._parent])]
        while not self._is_orphan:
            ready = select.select(watched, [], [])[0]
            if ended in ready:
                wakeup.clear()
                reap()
            if self._parent in ready:
                self._is_orphan = True
            if control in ready and not self._take_request():
                return

    def _take_request(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 2)
        try:
            if data.startswith(REMOVE_REQUEST):
                self._removed.append(os.fsdecode(data[len(REMOVE_REQUEST) :]))
            elif data == GUARD_REQUEST and len(descriptors) == 2:
                self._start_guard(*descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return bool(data)

    def _start_guard(self, control: int, output: int) -> None:
        if self._is_orphan or os.fork() != 0:
            return
        try:
            for descriptor in (control, output):
                os.set_inheritable(descriptor, False)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._control.detach())  # the keeper's alone; and no other file becomes standard input
            _Guard(socket.socket(fileno=control), output, self._parent, self._before).run()
        except BaseException:  # noqa: BLE001 - the fork must not go on as the keeper
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)

    def end(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # until nothing is left of what a parent that is gone has asked for
            while self._is_orphan and self._take_request():
                pass
        end_descendants(_PATIENCE_S)  # the guards too: we inherit what they watched over
        for path in (folder, *self._removed):
            remove(path, _PATIENCE_S)


class _Guard:
    """The process between the keeper and one program of the run: it inherits whatever the program leaves behind."""

    def __init__(self, control: socket.socket, output: int, parent: int | None, before: Handlers) -> None:
        self._control = control
        self._output = output
        self._parent = parent
        self._before = before
        self._exit_code: int | None = None

    def run(self) -> None:
        with contextlib.suppress(OSError):
            become_subreaper()
        wakeup = _Wakeup()
        plan = self._read_plan()
        if plan is None:
            return
        self._program = os.fork()
        if self._program == 0:
            self._become_program(plan)
        os.close(self._output)
        try:
            self._wait(wakeup)
        finally:
            end_descendants(_PATIENCE_S)
        _tell(self._control, {"exit_code": self._exit_code})

    def _read_plan(self) -> dict[str, Any] | None:
        data = b""
        while not data.endswith(b"\n"):
            chunk = self._control.recv(65_536)
            if not chunk:
                return None
            data += chunk
        plan: dict[str, Any] = json.loads(data)
        return plan

    def _wait(self, wakeup: _Wakeup) -> None:
        control, ended = self._control.fileno(), wakeup.socket.fileno()
        watched = [control, ended, *([] if self._parent is None else [self._parent])]
        while self._exit_code is None:
            ready = select.select(watched, [], [])[0]
            if control in ready or self._parent in ready:
                return
            wakeup.clear()
            reap(self._take)

    def _take(self, pid: int, exit_code: int) -> None:
        if pid == self._program:
            self._exit_code = exit_code

    def _become_program(self, plan: dict[str, Any]) -> None:
        code = EXIT_NOT_EXECUTABLE
        try:
            os.setsid()
            for descriptor in (1, 2):  # the guard's own standard input is empty already
                os.dup2(self._output, descriptor)
            for number in _RESTORED:
                signal.signal(number, signal.SIG_DFL)
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)
            os.chdir(plan["folder"])
            os.execvpe(plan["arguments"][0], plan["arguments"], plan["environment"])  # noqa: S606 - the point of it
        except OSError as error:
            code = EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else code
            os.write(2, f"pqtls: the program cannot be started: {error.strerror or error}.\n".encode())
        finally:
            os._exit(code)
