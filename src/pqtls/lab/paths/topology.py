"""Five network namespaces in a row: client, router, box, router, server, joined by veth pairs that behave as cables do.

The routers are the kernel's own. The box's namespace has no address: what crosses it is carried by a program.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.lab.kernel import CLONE_NEWNET, has_network_and_mount_rights, setns, unshare
from pqtls.lab.namespace_child import make_user_namespace, step
from pqtls.lab.netlink import NetworkConfigurator

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_ADDRESS = "192.0.2.254"
SERVER_ADDRESS = "198.51.100.1"
"""Where clients go."""
UPSTREAM_ADDRESS = "198.51.100.2"
"""Where a router by server name, or an inspecting box, goes on to."""
DEFAULT_ADDRESS = "198.51.100.3"
"""A router's default server."""

NEAR_ROUTER_ADDRESS, FAR_ROUTER_ADDRESS = "203.0.113.1", "203.0.113.2"
"""The routers', on the sides of the box; what the box itself has to say comes from them."""

NAMES = ("client", "near", "box", "far", "server")
CLIENT_LINK, NEAR_LINK, FAR_LINK, SERVER_LINK = "pqtls0", "pqtls1", "pqtls2", "pqtls3"
MTU = 1500

_LINKS = (
    ("client", "near", CLIENT_LINK, CLIENT_ADDRESS, "192.0.2.253", 24),
    ("near", "box", NEAR_LINK, NEAR_ROUTER_ADDRESS, None, 30),
    ("box", "far", FAR_LINK, None, FAR_ROUTER_ADDRESS, 30),
    ("far", "server", SERVER_LINK, "198.51.100.254", SERVER_ADDRESS, 24),
)
_ROUTES = {
    "client": (CLIENT_LINK, "192.0.2.253"),
    "near": (NEAR_LINK, FAR_ROUTER_ADDRESS),
    "far": (FAR_LINK, NEAR_ROUTER_ADDRESS),
    "server": (SERVER_LINK, "198.51.100.254"),
}
# Nothing that one connection taught is to help the next, and a black hole is to stay one.
_SETTINGS = {"tcp_no_metrics_save": "1", "tcp_mtu_probing": "0", "ip_unprivileged_port_start": "0"}


class Topology:
    """The namespaces, from its making on; this process is in the client's.

    Raises:
        SetUpError: A step was refused.
    """

    def __init__(self) -> None:
        self.user: int | None = None
        if not has_network_and_mount_rights():
            make_user_namespace()
            self.user = os.open("/proc/self/ns/user", os.O_RDONLY)
        self.descriptors: dict[str, int] = {}
        self._networks: dict[str, NetworkConfigurator] = {}
        for name in reversed(NAMES):
            with step("network namespace"):
                unshare(CLONE_NEWNET)
                self.descriptors[name] = os.open("/proc/self/ns/net", os.O_RDONLY)
                self._networks[name] = NetworkConfigurator()
                self._networks[name].set_up("lo")
            with step("network settings"):
                for key, value in _SETTINGS.items():
                    with contextlib.suppress(FileNotFoundError):  # of another kernel
                        Path(f"/proc/sys/net/ipv4/{key}").write_text(value, encoding="ascii")
                if name in ("near", "far"):
                    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        for link in _LINKS:
            self._join(*link)
        with step("addresses"):
            for address in (UPSTREAM_ADDRESS, DEFAULT_ADDRESS):
                self._networks["server"].add_address(SERVER_LINK, address, 24)
            for name, route in _ROUTES.items():
                self._networks[name].add_default_route(*route)

    def _join(self, left: str, right: str, name: str, near: str | None, far: str | None, prefix: int) -> None:
        with step("veth pair"):
            self._networks[left].add_veth_pair(name, MTU, self.descriptors[right])
        for side, address in ((right, far), (left, near)):
            network = self._networks[side]
            with step("offloads"):
                network.turn_offloads_off(name)
            with step("addresses"):
                network.forbid_link_local(name)
                if address is not None:
                    network.add_address(name, address, prefix)
                network.set_up(name)
        with step("addresses"):
            self._networks[right].start_sending(name)

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Be in another of the namespaces for a while; sockets made there stay there.

        Args:
            name: One of `NAMES`.
        """
        setns(self.descriptors[name], CLONE_NEWNET)
        try:
            yield
        finally:
            setns(self.descriptors["client"], CLONE_NEWNET)

    def forget_paths(self) -> None:
        """Make client and server forget what they learned of the path's MTU."""
        for name in ("client", "server"):
            with self.inside(name), contextlib.suppress(OSError):
                Path("/proc/sys/net/ipv4/route/flush").write_text("1", encoding="ascii")

    def take_server_address(self, *, is_taken: bool) -> None:
        """Let the router before the server have the server's address, or give it back.

        Args:
            is_taken: The router has it.
        """
        far = self._networks["far"]
        if is_taken:
            far.add_address("lo", SERVER_ADDRESS, 32)
        else:
            far.remove_address("lo", SERVER_ADDRESS, 32)

    def open_packet_sockets(self) -> tuple[socket.socket, socket.socket]:
        """Return raw packet sockets on the box's two interfaces: the client's side, the server's side."""
        with step("packet socket"), self.inside("box"):
            return _packet_socket(NEAR_LINK), _packet_socket(FAR_LINK)


def _packet_socket(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: nothing until it is bound
    packets.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING: not what we send ourselves
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    packets.bind((interface, 0x0003))  # ETH_P_ALL
    packets.setblocking(False)
    return packets
