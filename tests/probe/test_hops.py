"""Limited hops on real sockets: what loopback can show of it; routers are in tests/path/test_findings.py."""

from __future__ import annotations

import errno
import socket

import pytest

from pqtls.probe.experiments import find_experiment
from pqtls.probe.network import HopsSpentError, SocketConnection, SocketNetwork
from pqtls.probe.run import Prober


def test_hops_are_limited_and_given_back() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listener = socket.create_server((host, 0), family=family)
        except OSError:
            continue  # without IPv6
        with listener, socket.create_connection(listener.getsockname()[:2]) as raw:
            level = socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6
            option = socket.IP_TTL if family == socket.AF_INET else socket.IPV6_UNICAST_HOPS
            usual = raw.getsockopt(level, option)
            connection = SocketConnection(raw)
            connection.limit_hops(3)
            assert raw.getsockopt(level, option) == 3
            connection.limit_hops(None)
            assert raw.getsockopt(level, option) == usual


class Unreachable(socket.socket):
    def recv(self, *_: int) -> bytes:
        raise OSError(errno.EHOSTUNREACH, "No route to host")


def test_a_routers_word_is_told_from_other_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, Unreachable() as raw:
        raw.connect(listener.getsockname())
        connection = SocketConnection(raw)
        with pytest.raises(OSError, match="No route") as caught:
            connection.receive(0.1)
        assert not isinstance(caught.value, HopsSpentError)
        connection.limit_hops(1)
        with pytest.raises(HopsSpentError):
            connection.receive(0.1)


class Unable(SocketConnection):
    def limit_hops(self, hops: int | None) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")


class UnableNetwork(SocketNetwork):
    def connect(self, max_segment_bytes: int | None, timeout_s: float) -> SocketConnection:
        made = super().connect(max_segment_bytes, timeout_s)
        made.__class__ = Unable
        return made


def test_where_hops_cannot_be_limited_nothing_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network = UnableNetwork(socket.AF_INET, listener.getsockname())
        attempt = Prober(network, "server.example").attempt(find_experiment("E21(E4@2)"), 0, 0.0, 0.5)
    assert attempt.ending == "timeout"
    assert "Nothing was sent" in attempt.detail
