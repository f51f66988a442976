from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqtls.lab.connect_request import ProxyRequest, parse_head


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"CONNECT Host.Example:443 HTTP/1.1\r\nHost: other", ProxyRequest("CONNECT", "host.example", b"")),
        (b"CONNECT host.example HTTP/1.0", ProxyRequest("CONNECT", "host.example", b"")),
        (b"CONNECT [::1]:443 HTTP/1.1", ProxyRequest("CONNECT", "::1", b"")),
        (b"GET http://host.example:80/path HTTP/1.1", ProxyRequest("GET", "host.example", b"")),
        (b"CONNECT  HTTP/1.1", ProxyRequest("CONNECT", "", b"")),
        (b"", ProxyRequest("", "", b"")),
    ],
)
def test_the_host_that_is_asked_for(head: bytes, expected: ProxyRequest) -> None:
    assert parse_head(head) == expected


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_give_a_request(head: bytes, early: bytes) -> None:
    assert parse_head(head, early).early == early
    assert parse_head(b"CONNECT " + head + b" HTTP/1.1").early == b""
