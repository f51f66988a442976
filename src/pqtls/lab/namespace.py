"""The lab without a proxy: a network of its own, on which unmodified clients reach AWS's real names at port 443.

Two network namespaces, the clients' and the servers', are joined by a veth pair that behaves as a cable does: MTU
1500, every checksum filled in, no packet longer than the MTU. There is no way out of them. Each client has its own
hosts file. An ordinary user may have all of it where the system allows user namespaces.

    with NamespacedLab() as lab:
        server = subprocess.Popen(lab.wrap(["server", "--listen", f"{lab.server_address}:443"], side="server"))
        capture = lab.open_capture_socket()
        hosts = {"secretsmanager.us-west-1.amazonaws.com": lab.server_address}
        subprocess.run(lab.wrap(["curl", "https://secretsmanager.us-west-1.amazonaws.com/ping"], hosts=hosts))
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Literal, TypeAlias

from pqtls.errors import BugError, PqtlsError
from pqtls.lab.holder import Holder, isolated_python
from pqtls.lab.namespace_network import (
    CAPTURED_INTERFACES,
    CLIENT_ADDRESS,
    INTERFACE,
    SERVER_ADDRESSES,
    capture_request,
)
from pqtls.lab.namespace_refusal import NamespacesRefusedError, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Side: TypeAlias = Literal["client", "server"]

_ANSWER_TIMEOUT_S = 30.0


class NamespacedLab:
    """Namespaces from entering the context to leaving it; its methods may be called from any thread.

    The process that enters stays outside, and unchanged. What still runs in the namespaces at the end is killed,
    also when this process is killed.
    """

    client_interface = INTERFACE
    """Name of the network interface on the client side, on which a capture sees every packet."""

    client_interfaces = CAPTURED_INTERFACES
    """All interfaces of the client side: that one, and loopback, where a client may speak to a program beside it."""

    client_address = CLIENT_ADDRESS
    """The clients' address; reachable only inside."""

    server_address = SERVER_ADDRESSES[0]
    """The first of `server_addresses`."""

    server_addresses = SERVER_ADDRESSES
    """Addresses on the server side, for as many servers on one port; reachable only inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: Holder | None = None

    def __enter__(self) -> NamespacedLab:
        """Make the namespaces, see a packet cross, and try what a client's start needs.

        Raises:
            NamespacesRefusedError: The system does not allow it; nothing is left behind.
            BugError: The process that was to make them failed otherwise.
        """
        holder = Holder(isolated_python("namespace_child"))
        try:
            holder.start()
            self._holder = holder
            self._try_a_client()
        except BaseException:
            self._holder = None
            holder.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        holder, self._holder = self._holder, None
        if holder:
            holder.end()

    def wrap(
        self, arguments: Sequence[str], side: Side = "client", *, hosts: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return the command line that starts a program inside.

        The process that it starts becomes the program: same process ID, group, descriptors, environment and
        working directory. Exit code 125 means that the namespaces could not be entered; 126 and 127, as from a
        shell, that the program could not be started.

        Args:
            arguments: The program and its arguments.
            side: Where it runs.
            hosts: The host names, beside localhost, that it can resolve, each with its IP address; no other
                name can be. None leaves names to the system's files on the server side, and to nothing but
                localhost on the client side.

        Raises:
            BugError: The namespaces are gone, or not yet there.
        """
        if hosts is None and side == "client":
            hosts = {}
        spec = {**self._running().paths(side), "hosts": None if hosts is None else dict(hosts)}
        return [*isolated_python("namespace_enter"), json.dumps(spec), *arguments]

    def open_capture_socket(self, interface: str = INTERFACE) -> socket.socket:
        """Return a raw packet socket (AF_PACKET) on an interface of the client side, to be read without any privilege.

        It sees whole Ethernet frames of both directions from now on. Its `getsockopt(263, 6, 8)`
        (SOL_PACKET, PACKET_STATISTICS) holds how many there were and how many were lost to a late reader.

        Args:
            interface: One of `client_interfaces`.

        Raises:
            NamespacesRefusedError: The system does not allow it.
            BugError: The namespaces are gone, or not yet there.
        """
        with self._lock:
            answer, descriptors = self._running().ask(capture_request(interface))
        if "refused" in answer:
            raise refusal(answer["refused"], answer["reason"])
        return socket.socket(fileno=descriptors[0])

    @property
    def holder_pid(self) -> int:
        """Process ID of the process that holds the namespaces."""
        return self._running().pid

    def _running(self) -> Holder:
        if self._holder is None:
            raise BugError("The lab's namespaces are used outside of their context.")
        return self._holder

    def _try_a_client(self) -> None:
        """Go through a client's start up to the program itself."""
        command = self.wrap([], hosts={"lab.invalid": self.server_address})
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWER_TIMEOUT_S, check=False
        )
        if result.returncode:
            words = result.stderr.strip().rpartition("entered: ")[2].rstrip(".")
            raise refusal("mounts", words or f"exit code {result.returncode}")


def find_namespace_obstacle() -> str:
    """Return why this user cannot have the lab's namespaces here, or "" if the whole set-up has just succeeded."""
    if sys.platform != "linux":
        return "The lab's namespaces need Linux."
    try:
        with NamespacedLab() as lab, lab.open_capture_socket():
            return ""
    except NamespacesRefusedError as error:
        return str(error)
    except (OSError, subprocess.SubprocessError, PqtlsError) as error:
        return f"The lab's namespaces could not be tried: {error}"
