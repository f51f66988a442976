"""TLS in MySQL's and MariaDB's protocol: the server's handshake packet, our SSLRequest, and TLS begins.

Source: MySQL's source documentation, "Protocol::HandshakeV10" and "Protocol::SSLRequest"; MariaDB's "Connection".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.probe.dialogue import BeforeTlsError

if TYPE_CHECKING:
    from pqtls.probe.dialogue import Dialogue

CLIENT_SSL = 0x0800
# Protocol 4.1, its authentication, and authentication by plugins: what every client of this century says.
_CAPABILITIES = 0x0000_0001 | 0x0000_0200 | CLIENT_SSL | 0x0000_8000 | 0x0008_0000
_MAX_PACKET_BYTES = 1 << 24
_UTF8MB4 = 45
# Real ones have about 100 bytes.
_MAX_GREETING_BYTES = 4096
_PROTOCOL, _ERROR = 10, 0xFF
# Thread id, the first part of a nonce, and a filler stand between the version and the capabilities.
_BEFORE_CAPABILITIES_BYTES = 4 + 8 + 1
_TURNED_AWAY = {
    1040: "it has too many connections; try again later",
    1129: "it has blocked this machine for connections that broke off; `FLUSH HOSTS` there lifts that",
    1130: "its users may not come from this machine",
}
_FINAL = (1129, 1130)


def ask_mysql(dialogue: Dialogue) -> None:
    """Read the server's handshake packet and ask for TLS, to which there is no answer but TLS.

    Args:
        dialogue: With the server.

    Raises:
        BeforeTlsError: It does not offer TLS.
    """
    dialogue.speaker = "The MySQL server"
    header = dialogue.read_exactly(4)
    size_bytes = int.from_bytes(header[:3], "little")
    if header[3] or not 0 < size_bytes <= _MAX_GREETING_BYTES:
        raise _no_mysql()
    packet = dialogue.read_exactly(size_bytes)
    if packet[0] == _ERROR:
        code = int.from_bytes(packet[1:3], "little")
        why = _TURNED_AWAY.get(code, "its log says why")
        raise BeforeTlsError(f"The MySQL server turns this client away (error {code}): {why}.", is_final=code in _FINAL)
    version_end = packet.find(b"\0", 1)
    place = version_end + 1 + _BEFORE_CAPABILITIES_BYTES
    if packet[0] != _PROTOCOL or version_end < 0 or len(packet) < place + 2:
        raise _no_mysql()
    if not int.from_bytes(packet[place : place + 2], "little") & CLIENT_SSL:
        raise BeforeTlsError(
            "The MySQL server has no TLS (its handshake does not offer it): give it a certificate (ssl_cert, ssl_key).",
            is_final=True,
        )
    dialogue.expect_nothing_more()
    dialogue.say(ssl_request())


def ssl_request() -> bytes:
    """Return the packet that asks for TLS; it is the second of the connection, so its number is 1."""
    body = (
        _CAPABILITIES.to_bytes(4, "little") + _MAX_PACKET_BYTES.to_bytes(4, "little") + bytes((_UTF8MB4,)) + bytes(23)
    )
    return len(body).to_bytes(3, "little") + b"\x01" + body


def _no_mysql() -> BeforeTlsError:
    return BeforeTlsError("What answers there is no MySQL or MariaDB server: is the port right?", is_final=True)
