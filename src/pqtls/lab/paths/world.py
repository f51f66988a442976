"""The lab's process for one path: `pqtls.lab.paths.path_lab` starts it, and nobody else.

It makes the namespaces, carries the packets, is the routers by name, the inspecting box and the servers. It is there
for as long as whoever holds the other end of the socket that is its standard input; with it everything goes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

from pqtls.lab.leftovers import end_processes, namespace_id
from pqtls.lab.messages import encode_line
from pqtls.lab.names import LOOPBACK
from pqtls.lab.namespace_child import SetUpError
from pqtls.lab.paths import topology

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pqtls.lab.names import Address
    from pqtls.lab.paths.scenario import Scenario
    from pqtls.lab.paths.serving import Listener
    from pqtls.lab.paths.topology import Topology

PORT = 443
_MAX_REQUEST_BYTES = 262_144
_SWITCH_S = 0.0005


def main(arguments: list[str]) -> int:
    """Be the path until the parent lets go of it.

    Args:
        arguments: "--loopback" for no namespaces; then the process ID of the parent.

    Returns:
        Exit code: 0 after an orderly end, 1 if the system refuses.
    """
    is_loopback = arguments[0] == "--loopback"
    with socket.socket(fileno=0) as control, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            # Before anything starts a thread: a process with several cannot enter a user namespace.
            ground = None if is_loopback else topology.Topology()
            packets = None if ground is None else ground.open_packet_sockets()
        except SetUpError as error:
            reason = error.error.strerror or str(error.error)
            control.sendall(encode_line({"refused": error.step, "errno": error.error.errno, "reason": reason}))
            return 1
        sys.setswitchinterval(_SWITCH_S)  # the carrier's thread is a network: it must not wait for others
        _hold(control, int(arguments[-1]), World(ground, packets))
    return 0


class World:
    """The far end and the box, as the last scenario has them.

    Args:
        ground: The namespaces, None on loopback.
        packets: The box's packet sockets, None on loopback.
    """

    def __init__(self, ground: Topology | None, packets: tuple[socket.socket, socket.socket] | None) -> None:
        self.ground = ground
        self._carrier = None
        if packets is not None:
            from pqtls.lab.paths.carrier import Carrier

            self._carrier = Carrier(*packets)
        self._listeners: list[Listener] = []
        self._is_inspected = False

    def apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Become another path.

        Args:
            request: "fault" and "seed", "is_removed" to take the fault out, and certificates in PEM: "server",
                "default", "gateway" (an authority), each a chain and a key; "ca" for the box to trust.

        Returns:
            "address" and "port" where clients go.
        """
        from pqtls.lab.paths.draws import draw

        scenario = draw(request["fault"], request["seed"])
        if request["is_removed"]:
            scenario = scenario.without_fault()
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        if self.ground is not None and self._carrier is not None:
            if self._is_inspected != scenario.is_inspected:
                self.ground.take_server_address(is_taken=scenario.is_inspected)
                self._is_inspected = scenario.is_inspected
            self.ground.forget_paths()
            self._carrier.apply(scenario, request["seed"])
        return self._listen(scenario, request)

    def _listen(self, scenario: Scenario, request: dict[str, Any]) -> dict[str, Any]:
        from pqtls.lab.paths.scenario import Front, Tls
        from pqtls.lab.paths.serving import inspect_as, route_as, serve_as, take_turns

        identity = _identity(*request["server"])
        place = topology.SERVER_ADDRESS
        if scenario.is_inspected:
            upstream = self._open("server", topology.UPSTREAM_ADDRESS, serve_as(Front(), scenario.tls, identity))
            handle = inspect_as(_minter(*request["gateway"]), upstream, request["ca"])
            where = self._open("far", place, handle)
        elif scenario.front.is_router:
            upstream = self._open("server", topology.UPSTREAM_ADDRESS, serve_as(Front(), scenario.tls, identity))
            other = serve_as(Front(), Tls(), _identity(*request["default"]))
            default = self._open("server", topology.DEFAULT_ADDRESS, other)
            where = self._open("server", place, route_as(scenario.front, upstream, default))
        else:
            is_tiny = scenario.front.reading == "window"
            odd = serve_as(scenario.front, scenario.tls, identity)
            even = serve_as(Front(), scenario.without_fault().tls, identity)
            where = self._open("server", place, take_turns([odd, *[even] * (scenario.pool - 1)]), is_tiny=is_tiny)
        return {"address": where[0], "port": where[1]}

    def _open(self, namespace: str, address: str, handle: Any, *, is_tiny: bool = False) -> Address:
        from pqtls.lab.paths.serving import Listener

        place = (LOOPBACK, 0) if self.ground is None else (address, PORT)
        with self.inside(namespace):
            listener = Listener(place, handle, has_tiny_buffer=is_tiny)
        self._listeners.append(listener)
        return place[0], listener.port

    @contextlib.contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """Be in one of the namespaces for a while; nowhere else on loopback.

        Args:
            namespace: Its name.
        """
        if self.ground is None:
            yield
        else:
            with self.ground.inside(namespace):
                yield


def _identity(chain: str, key: str) -> Any:
    from pqtls.lab.paths.tls_server import load_identity

    return load_identity(chain.encode(), key.encode())


def _minter(certificate: str, key: str) -> Any:
    import trustme

    from pqtls.lab.paths.tls_server import load_identity

    authority = trustme.CA.from_pem(certificate.encode(), key.encode())

    def mint(name: str) -> Any:
        leaf = authority.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return load_identity(chain, leaf.private_key_pem.bytes())

    return mint


def _hold(control: socket.socket, parent: int, world: World) -> None:
    ground = world.ground
    descriptors: dict[str, int | None] = {} if ground is None else {"user": ground.user, **ground.descriptors}
    names = [] if ground is None else topology.NAMES
    networks = {name: namespace_id(f"/proc/self/fd/{descriptors[name]}") for name in names}
    control.sendall(encode_line({"descriptors": descriptors, "networks": networks}))
    exit_code = 0
    try:
        _answer_until_the_end(control, parent, world)
    except OSError:
        pass  # the parent has gone
    except Exception:  # noqa: BLE001 - whatever it was, the namespaces are ended in order
        traceback.print_exc()  # to the log, whose last line the parent tells
        exit_code = 1
    finally:
        for descriptor in descriptors.values():  # first of all, so that nothing more enters
            if descriptor is not None:
                os.close(descriptor)
        if networks:
            end_processes(frozenset(networks.values()))
        os._exit(exit_code)  # threads that wait for clients have nothing to wait for any more


def _answer_until_the_end(control: socket.socket, parent: int, world: World) -> None:
    watched = [control.fileno()]
    with contextlib.suppress(OSError, AttributeError):  # without Linux 5.3 the end of the socket must do
        watched.append(os.pidfd_open(parent))  # a fork of the parent may hold the other end open after it is gone
    if os.getppid() != parent:
        return
    data = b""
    while select.select(watched, [], [])[0] == [control.fileno()]:
        chunk = control.recv(_MAX_REQUEST_BYTES)
        data += chunk
        if not chunk or len(data) > _MAX_REQUEST_BYTES:
            return
        if data.endswith(b"\n"):
            _answer(control, json.loads(data), world)
            data = b""


def _answer(control: socket.socket, request: dict[str, Any], world: World) -> None:
    if request["do"] == "apply":
        control.sendall(encode_line(world.apply(request)))
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as plain:  # in the clients' namespace, as this thread is
        socket.send_fds(control, [encode_line({})], [plain.fileno()])
