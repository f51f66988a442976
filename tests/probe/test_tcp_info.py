"""TCP_INFO: real values from a real connection, and nothing invented where the struct is shorter."""

from __future__ import annotations

import socket
import struct
import sys
from typing import cast

import pytest

from pqtls.probe.tcp_info import parse_tcp_info, read_tcp_facts


def test_every_length_of_the_struct() -> None:
    whole = bytearray(240)
    struct.pack_into("=I", whole, 16, 1448)
    struct.pack_into("=I", whole, 60, 1500)
    struct.pack_into("=Q", whole, 120, 1701)
    struct.pack_into("=I", whole, 224, 7)
    struct.pack_into("=I", whole, 228, 512)
    full = parse_tcp_info(bytes(whole))
    assert (full.snd_mss, full.pmtu, full.bytes_acked, full.rcv_ooopack, full.snd_wnd) == (1448, 1500, 1700, 7, 512)
    for length in range(len(whole) + 1):
        facts = parse_tcp_info(bytes(whole[:length]))
        assert (facts.snd_mss is None) == (length < 20)
        assert (facts.bytes_acked is None) == (length < 128)
        assert (facts.snd_wnd is None) == (length < 232)


def test_no_round_trip_is_none() -> None:
    data = bytearray(240)
    struct.pack_into("=I", data, 148, 0xFFFFFFFF)
    facts = parse_tcp_info(bytes(data))
    assert (facts.rtt_s, facts.min_rtt_s) == (None, None)
    assert facts.bytes_acked == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms say nothing")
def test_a_real_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            client.sendall(bytes(1000))
            assert len(server.recv(2000)) == 1000
            server.sendall(bytes(10))
            assert client.recv(100) == bytes(10)
            facts = read_tcp_facts(client)
    assert facts is not None
    assert (facts.bytes_acked, facts.bytes_received, facts.total_retrans) == (1000, 10, 0)
    assert facts.rtt_s is None or 0 < facts.rtt_s < 1


class FewFields:
    """A socket under gVisor, whose kernel has the struct's size and fills in six fields of it (google/gvisor, 2026)."""

    def __init__(self, snd_mss: int) -> None:
        self._data = bytearray(248)
        struct.pack_into("=I", self._data, 16, snd_mss)
        struct.pack_into("=II", self._data, 68, 21_000, 4_000)  # round trip and its variation
        struct.pack_into("=I", self._data, 80, 10)  # congestion window

    def getsockopt(self, _level: int, _option: int, size_bytes: int) -> bytes:
        return bytes(self._data[:size_bytes])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms say nothing")
def test_a_struct_of_noughts_is_no_facts() -> None:
    """Else nothing would ever have been acknowledged, nor sent again: every silence a closed window (F06)."""
    assert read_tcp_facts(cast("socket.socket", FewFields(snd_mss=0))) is None
    assert read_tcp_facts(cast("socket.socket", FewFields(snd_mss=1448))) is not None
