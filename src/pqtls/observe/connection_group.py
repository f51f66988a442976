"""Which group one live connection negotiated: told by who saw it, never guessed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pqtls.errors import CannotProveError
from pqtls.wire.errors import MalformedError
from pqtls.wire.groups import group_code, group_name
from pqtls.wire.server_hello import ServerHello

if TYPE_CHECKING:
    from collections.abc import Callable

_HANDSHAKE_HEADER_BYTES = 4
_TLS13 = 0x0304
_ALLOW_NO_DHE_KEX = 0x400
"""SSL_OP_ALLOW_NO_DHE_KEX of openssl/ssl.h: unless it is set on this end, a resumption has a key exchange too."""


def group(connection: object) -> str:
    """Return the group that a connection's finished handshake negotiated.

    Asked in this order: the connection itself (Python 3.15 and newer); the guard, for contexts of
    `pqtls.create_default_context` and where post-quantum is required; the recorder, if this process is recorded.

    Args:
        connection: An `ssl.SSLSocket`, an `ssl.SSLObject`, or what has one: an asyncio transport or StreamWriter.

    Returns:
        IANA's name, such as "X25519MLKEM768" or "x25519".

    Raises:
        CannotProveError: Nobody saw its handshake, it has not finished, or it had no group: TLS 1.2, or a session
            resumed without a key exchange.
        TypeError: It is no TLS connection.
    """
    end = _tls_end(connection)
    native = getattr(end, "group", None)
    if callable(native):
        return _native_group(end, native)
    if hasattr(end, "_pqtls_group"):
        return _named(end._pqtls_group, end)
    recorder = getattr(sys.modules.get("_pqtls_recorder"), "recorder", None)
    hello = recorder.server_hello_of(end) if recorder is not None else None
    if hello is None:
        raise CannotProveError(
            "Nobody saw this connection's handshake, or it has not finished.",
            "Make its context by pqtls.create_default_context(), or use Python 3.15 or newer.",
        )
    try:
        parsed = ServerHello.parse(hello[_HANDSHAKE_HEADER_BYTES:])
    except MalformedError as error:
        raise CannotProveError(f"Its ServerHello cannot be read: {error}") from error
    return _named(parsed.key_share.group if parsed.version == _TLS13 and parsed.key_share else None, end)


def _native_group(end: Any, ask: Callable[[], object]) -> str:
    """Take the group that OpenSSL names, where it can only be this handshake's.

    For TLS 1.2, and for a session resumed without a key exchange (RFC 8446 4.2.9, psk_ke), it names the group that
    the session was once made with. Before a handshake it must not be asked: Python 3.15.0 on OpenSSL 3.6.5 then
    crashes (there is no session to look into).
    """
    version = end.version()  # None until the handshake has finished
    options = getattr(getattr(end, "context", None), "options", 0)
    is_of_a_session = getattr(end, "session_reused", False) and options & _ALLOW_NO_DHE_KEX
    if version is not None and (version != "TLSv1.3" or is_of_a_session):
        return _named(None, end)
    name = ask() if version is not None else None
    if not name:
        raise CannotProveError(f"This connection ({_version(end)}) has negotiated no group.", "Finish a handshake.")
    return _iana(str(name))


def _tls_end(connection: object) -> Any:
    inner = connection
    ask = getattr(connection, "get_extra_info", None)
    if callable(ask):
        inner = ask("ssl_object")
    if inner is None or not hasattr(inner, "selected_alpn_protocol"):
        raise TypeError(f"{connection!r} is no TLS connection")
    return inner


def _version(end: Any) -> str:
    return str(end.version() or "no version yet")


def _named(code: int | None, end: Any) -> str:
    if code is None:
        raise CannotProveError(
            f"This connection's handshake ({_version(end)}) chose no group of TLS 1.3.",
            "It is TLS 1.2, or resumed a session without a key exchange; neither is post-quantum.",
        )
    return group_name(code)


def _iana(name: str) -> str:
    try:
        return group_name(group_code(name))
    except KeyError:
        return name
