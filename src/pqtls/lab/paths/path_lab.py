"""A faulty path to play with: made on entering the context, gone on leaving it.

with PathLab() as lab:
    lab.apply("F13", seed=3)
    found = examine(Prober(lab.network(), lab.server_name), lab.network())
    subprocess.run(lab.wrap(["curl", f"https://{lab.server_name}/"]), env=...)
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from pqtls.errors import BugError
from pqtls.lab.extras import missing_library
from pqtls.lab.holder import Holder, isolated_python
from pqtls.lab.messages import encode_line
from pqtls.lab.names import AWS_HOSTS
from pqtls.lab.namespace_refusal import NamespacesRefusedError
from pqtls.lab.paths.draws import draw
from pqtls.probe.network import SocketNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.lab.paths.scenario import Scenario

SERVER_NAME = "server.example"
_DEFAULT_NAME = "default.example"


class PathLab:
    """One path; its methods may be called from any thread.

    The process that enters stays outside, and unchanged. What still runs in the namespaces at the end is killed,
    also when this process is killed.

    Args:
        is_loopback: No namespaces and no packets: servers on loopback alone, for what they get wrong themselves.
        names: Names that the server's certificate is for, the first to be examined.
    """

    def __init__(self, *, is_loopback: bool = False, names: Sequence[str] = (SERVER_NAME, *AWS_HOSTS)) -> None:
        self._is_loopback = is_loopback
        self.names = tuple(names)
        self.server_name = self.names[0]
        self._lock = threading.Lock()
        self._holder: Holder | None = None
        self._certificates: dict[str, Any] = {}
        self.address = ("", 0)
        """Where clients go, once a path was applied."""
        self.ca_pem = ""
        """The authorities that clients here trust: the servers' and the inspecting box's, as in a company."""

    def __enter__(self) -> PathLab:
        """Make the path's namespaces.

        Raises:
            NamespacesRefusedError: The system does not allow it; nothing is left behind.
            UsageError: A library is missing.
            BugError: The process that was to make them failed otherwise.
        """
        if sys.platform != "linux" and not self._is_loopback:
            raise NamespacesRefusedError("The lab's namespaces need Linux.")
        self._certificates = self._make_certificates()
        command = isolated_python("paths.world", has_site=True) + (["--loopback"] if self._is_loopback else [])
        holder = Holder(command)
        try:
            holder.start()
        except BaseException:
            holder.end()
            raise
        self._holder = holder
        return self

    def __exit__(self, *_: object) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.end()

    def _make_certificates(self) -> dict[str, Any]:
        try:
            import trustme
        except ImportError as error:
            raise missing_library(error.name) from error
        authority = trustme.CA(organization_name="pqtls lab, throwaway")
        gateway = trustme.CA(organization_name="pqtls lab, an inspecting gateway")

        def issue(*names: str) -> tuple[str, str]:
            leaf = authority.issue_cert(*names)
            chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
            return chain.decode(), leaf.private_key_pem.bytes().decode()

        ca = authority.cert_pem.bytes().decode()
        self.ca_pem = ca + gateway.cert_pem.bytes().decode()
        key = gateway.private_key_pem.bytes().decode()
        return {
            "server": issue(*self.names),
            "default": issue(_DEFAULT_NAME),
            "gateway": (gateway.cert_pem.bytes().decode(), key),
            "ca": ca,
        }

    def apply(self, fault: str, seed: int = 0, *, is_removed: bool = False) -> Scenario:
        """Make this the path of a class of fault.

        Args:
            fault: Its id, a key of `DRAWINGS`.
            seed: Decides its parameters.
            is_removed: The same path with the fault taken out.

        Returns:
            What was drawn.

        Raises:
            BugError: The process that holds the path does not answer.
        """
        scenario = draw(fault, seed)
        request = {"do": "apply", "fault": fault, "seed": seed, "is_removed": is_removed, **self._certificates}
        answer, _ = self._ask(request)
        self.address = (answer["address"], answer["port"])
        return scenario.without_fault() if is_removed else scenario

    def new_socket(self) -> socket.socket:
        """Return a TCP socket that is where clients are, to be used from here without any privilege."""
        _, descriptors = self._ask({"do": "socket"})
        return socket.socket(fileno=descriptors[0])

    def network(self) -> LabNetwork:
        """Return the network as `pqtls.probe` takes it, seen from the clients' side."""
        return LabNetwork(self)

    def wrap(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line that starts a program where clients are; `NamespacedLab.wrap` has the details.

        Args:
            arguments: The program and its arguments.
        """
        hosts = dict.fromkeys(self.names, self.address[0])
        spec = {**self._running().paths("client"), "hosts": hosts}
        return [*isolated_python("namespace_enter"), json.dumps(spec), *arguments]

    @property
    def holder_pid(self) -> int:
        """Process ID of the process that holds the path."""
        return self._running().pid

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        with self._lock:
            return self._running().ask(encode_line(request))

    def _running(self) -> Holder:
        if self._holder is None:
            raise BugError("The lab's path is used outside of its context.")
        return self._holder


class LabNetwork(SocketNetwork):
    """Sockets on the clients' side of a path.

    Args:
        lab: The path, applied.
    """

    def __init__(self, lab: PathLab) -> None:
        super().__init__(socket.AF_INET, lab.address)
        self._lab = lab

    def new_socket(self) -> socket.socket:
        """See `SocketNetwork`."""
        return self._lab.new_socket()
