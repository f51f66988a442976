"""The holder of the lab's namespaces: a process of its own, started by `pqtls.lab.namespace` and by nobody else.

It makes the namespaces and is there for as long as whoever holds the other end of the socket that is its standard
input; then it ends all that runs in them, and itself. Programs enter through its /proc folder. Its whole set-up is
in memory: with the last process in the namespaces nothing of them is left.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.lab.kernel import CLONE_NEWNET, CLONE_NEWUSER, has_network_and_mount_rights, unshare
from pqtls.lab.leftovers import end_processes, namespace_id
from pqtls.lab.messages import encode_line
from pqtls.lab.namespace_network import (
    CAPTURED_INTERFACES,
    CLIENT_ADDRESS,
    INTERFACE,
    LOOPBACK,
    MTU,
    PREFIX,
    SERVER_ADDRESSES,
    capture_request,
)
from pqtls.lab.netlink import NetworkConfigurator

if TYPE_CHECKING:
    from collections.abc import Iterator

_REQUESTS = {capture_request(interface): interface for interface in CAPTURED_INTERFACES}
_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33
# What waits for a reader that is late: the kernel counts about 2.3 KB for a full packet. An ordinary user gets no more
# than net.core.rmem_max, usually enough for 180.
_CAPTURE_BUFFER_BYTES = 8 << 20


class SetUpError(Exception):
    """A step of the set-up that was refused.

    Args:
        step: What it was to do.
        error: The kernel's answer.
    """

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.step = step
        self.error = error


@contextmanager
def step(name: str) -> Iterator[None]:
    """Tell what it was that the kernel refused.

    Args:
        name: The step, as `pqtls.lab.namespace_refusal` knows it.

    Raises:
        SetUpError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise SetUpError(name, error) from error


def main(arguments: list[str]) -> int:
    """Hold the namespaces until the parent lets go of them.

    Args:
        arguments: Process ID of the parent.

    Returns:
        Exit code: 0 after an orderly end, 1 if the system refuses.
    """
    with socket.socket(fileno=0) as control, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            descriptors = set_up()
        except SetUpError as error:
            reason = error.error.strerror or str(error.error)
            control.sendall(encode_line({"refused": error.step, "errno": error.error.errno, "reason": reason}))
            return 1
        _hold(control, int(arguments[0]), descriptors)
    return 0


def set_up() -> dict[str, int | None]:
    """Make the namespaces and the network between them, and see a packet cross it.

    Returns:
        The namespaces, opened: "user" (None if there is no new one), "client" and "server". This process is in the
        client's.

    Raises:
        SetUpError: A step was refused.
    """
    user = None
    needs_user = not has_network_and_mount_rights()
    if needs_user:
        make_user_namespace()
        user = os.open("/proc/self/ns/user", os.O_RDONLY)
    with step("network namespace"):
        unshare(CLONE_NEWNET)
        server = os.open("/proc/self/ns/net", os.O_RDONLY)
        server_network = NetworkConfigurator()
        server_probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if needs_user:
        with step("low ports"):
            Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0", encoding="ascii")
    with step("network namespace"):
        unshare(CLONE_NEWNET)
        client = os.open("/proc/self/ns/net", os.O_RDONLY)
    client_network = NetworkConfigurator()
    _join(client_network, server_network, server)
    with step("first packet"), server_probe:
        _see_a_packet_cross(server_probe)
    client_network.close()
    server_network.close()
    return {"user": user, "client": client, "server": server}


def make_user_namespace() -> None:
    """Enter a user namespace in which this user is who it was, so that no program takes itself for root.

    Raises:
        SetUpError: It was refused.
    """
    user, group = os.geteuid(), os.getegid()
    with step("user namespace"):
        unshare(CLONE_NEWUSER)
    with step("user mapping"):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")


def _join(client: NetworkConfigurator, server: NetworkConfigurator, server_namespace: int) -> None:
    with step("veth pair"):
        client.add_veth_pair(INTERFACE, MTU, server_namespace)
    for network, addresses in ((server, SERVER_ADDRESSES), (client, (CLIENT_ADDRESS,))):
        with step("offloads"):
            network.turn_offloads_off(INTERFACE)
        with step("addresses"):
            network.forbid_link_local(INTERFACE)
            for address in addresses:
                network.add_address(INTERFACE, address, PREFIX)
            network.set_up(LOOPBACK)
            network.set_up(INTERFACE)
    with step("addresses"):
        server.start_sending(INTERFACE)


def _see_a_packet_cross(server: socket.socket) -> None:
    server.bind((SERVER_ADDRESSES[0], 0))
    server.settimeout(0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(100):  # an interface that was just set up may drop the first
            client.sendto(b"pqtls", server.getsockname())
            with contextlib.suppress(TimeoutError):
                server.recv(16)
                return
    raise TimeoutError("nothing arrived in five seconds")


def _hold(control: socket.socket, parent: int, descriptors: dict[str, int | None]) -> None:
    names = ("client", "server")
    networks = {name: namespace_id(f"/proc/self/fd/{descriptors[name]}") for name in names}
    control.sendall(encode_line({"descriptors": descriptors, "networks": networks}))
    try:
        _answer_until_the_end(control, parent)
    finally:
        for descriptor in descriptors.values():  # first of all, so that nothing more enters
            if descriptor is not None:
                os.close(descriptor)
        end_processes(frozenset(networks.values()))


def _answer_until_the_end(control: socket.socket, parent: int) -> None:
    watched = [control.fileno()]
    with contextlib.suppress(OSError):  # before Linux 5.3 the end of the socket must do
        watched.append(os.pidfd_open(parent))  # a fork of the parent may hold the other end open after it is gone
    if os.getppid() != parent:
        return
    while select.select(watched, [], [])[0] == [control.fileno()]:
        interface = _REQUESTS.get(control.recv(64))
        if interface is None:
            return
        _send_capture_socket(control, interface)


def _send_capture_socket(control: socket.socket, interface: str) -> None:
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as capture:  # 0: nothing until it is bound
            with contextlib.suppress(OSError):
                capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CAPTURE_BUFFER_BYTES)
                capture.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _CAPTURE_BUFFER_BYTES)
            capture.bind((interface, _ETH_P_ALL))
            socket.send_fds(control, [encode_line({})], [capture.fileno()])
    except OSError as error:
        control.sendall(encode_line({"refused": "packet socket", "errno": error.errno, "reason": error.strerror}))
