"""Network namespaces for tests: a thread that lives in one of its own, and a veth pair between two."""

from __future__ import annotations

import ctypes
import fcntl
import os
import queue
import shutil
import socket
import struct
import subprocess
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

Result = TypeVar("Result")
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCETHTOOL, _IFF_UP = 0x8913, 0x8914, 0x8946, 1
_OFFLOADS = {"rx": 0x15, "tx": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}  # linux/ethtool.h: ETHTOOL_S*


class Namespace:
    """A thread in a network namespace of its own with `lo` up; both vanish at the end."""

    def __enter__(self) -> Namespace:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        try:
            self.thread_id = self.run(_enter)
        except OSError as error:
            self.__exit__(None, None, None)
            pytest.skip(f"no network namespaces here: {error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._work.put(None)
        self._thread.join(timeout=30)

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in the namespace and return what it returns."""
        future: Future[Result] = Future()
        self._work.put((future, function))
        return future.result(timeout=120)

    def _serve(self) -> None:
        while (job := self._work.get()) is not None:
            future, function = job
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - carried over to the caller
                future.set_exception(error)


@contextmanager
def alone_on_the_network() -> Iterator[None]:
    """Move the calling thread, and all that it starts, to a network of its own; and back.

    For what looks at all of a host's packets: other tests talk TLS over the host's loopback at the same time. Where
    this is not allowed nothing is captured either, and everything stays as it is.
    """
    with Path("/proc/thread-self/ns/net").open("rb") as hosts:
        try:
            _enter()
        except OSError:  # no right to, or no more namespaces
            yield
            return
        try:
            yield
        finally:
            _call("setns", hosts.fileno(), _CLONE_NEWNET)


def _enter() -> int:
    _call("unshare", _CLONE_NEWNET)
    bring_up("lo")
    return threading.get_native_id()


def _call(name: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def bring_up(interface: str) -> None:
    """Set an interface up in the namespace of the calling thread."""
    with socket.socket() as any_socket:
        request = struct.pack("16sH22x", interface.encode(), 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", interface.encode(), flags | _IFF_UP))


def switch_offloads_off(interface: str) -> None:
    """Have the kernel compute checksums and cut segments itself, as on the wire."""
    with socket.socket() as any_socket:
        for number in _OFFLOADS.values():
            value = ctypes.create_string_buffer(struct.pack("II", number, 0))
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def connect(one: Namespace, other: Namespace) -> None:
    """Join two namespaces by a veth pair: 10.9.0.1 (`west`) and 10.9.0.2 (`east`), MTU 1500, offloads off."""
    program = shutil.which("ip")
    if program is None:
        pytest.skip("no ip (iproute2) here")

    def ip(*words: str) -> None:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"ip {' '.join(words)}: {done.stderr.strip()}")

    one.run(lambda: ip("link", "add", "west", "type", "veth", "peer", "east", "netns", str(other.thread_id)))
    for namespace, name, address in ((one, "west", "10.9.0.1"), (other, "east", "10.9.0.2")):
        namespace.run(lambda name=name, address=address: ip("addr", "add", f"{address}/24", "dev", name))  # type: ignore[misc]
        namespace.run(lambda name=name: switch_offloads_off(name))  # type: ignore[misc]
        namespace.run(lambda name=name: bring_up(name))  # type: ignore[misc]
