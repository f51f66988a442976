"""Give socket errors under a newer OpenSSL the exception that this Python raises under its own.

Since 3.4, OpenSSL puts a failed read or write of a socket into its error queue. CPythons without the fix for
gh-127257 (before 3.12.9 and 3.13.2, by their dates) take it for an error of TLS: `ssl.SSLError: [SYS] unknown error`,
which nobody catches who waits for a ConnectionError or an end of file. Memory BIOs, so asyncio, are not affected.

What decides is behaviour, not a version: before the first connection of a process, one over a pair of sockets is cut
off. Where nothing is to be mended, nothing is changed. Otherwise the
methods of whatever class owns a connection are wrapped (SSLSocket, gevent's, a subclass), and act on errors of the
library "SYS" alone. Measured on 3.10 to 3.13, with OpenSSL 3.0.19 against 3.5.9:

    operation            own OpenSSL before 3.13    own OpenSSL, 3.13
    read                 SSLEOFError, so b""        b"" for what was left behind by an earlier failed write or read;
                                                    ConnectionError for a failure of its own
    write                SSLEOFError                ConnectionError
    handshake, unwrap    ConnectionError            ConnectionError

The error number is lost in `_ssl`, so which ConnectionError it is, is inferred: BrokenPipeError on a Unix socket,
ConnectionResetError otherwise. (Seen to differ: writing on after the peer closed is BrokenPipeError on TCP.)

One file of the standard library, loaded by path into other people's programs, with no import that `ssl` has not made
already.
"""

from __future__ import annotations

import errno
import os
import socket
import sys

# Not from `typing`: no import that the program did not ask for.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

READING, WRITING, OTHER = "reading", "writing", "other"
METHODS = {
    "read": READING,
    "write": WRITING,
    "send": WRITING,
    "do_handshake": OTHER,
    "unwrap": OTHER,
    "verify_client_post_handshake": OTHER,
}
_MARK = "is_of_pqtls_socket_errors"


def install(ssl: Any, settings: dict[str, Any] | None = None) -> None:
    """Mend the errors of connections that are made from now on, if they need it.

    Args:
        ssl: The imported module.
        settings: Not used; every module of this kind gets them.

    Raises:
        AttributeError: This `ssl` is not CPython's: then nothing was changed.
    """
    del settings
    if getattr(ssl, "_pqtls_socket_errors", None) is not None:
        return
    import _ssl

    private: Any = _ssl
    kind: Any = next(each for each in ssl.SSLContext.__mro__ if private._SSLContext in each.__bases__)
    wrap_socket = kind._wrap_socket
    is_needed: list[bool] = []
    mended: set[type] = set()

    def _wrap_socket(context: Any, sock: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if not is_needed:
                is_needed.append(is_affected(ssl))
            owner: Any = kwargs.get("owner")
            if hasattr(owner, "_sslsock"):  # gevent's: the socket below its own SSLSocket, with a weak link to it
                owner = owner._sslsock()
            if is_needed[0] and type(owner) not in mended:
                mended.add(type(owner))
                _mend(ssl, type(owner))
        except Exception:  # noqa: BLE001, S110 - then its errors stay as they are
            pass
        return wrap_socket(context, sock, *args, **kwargs)

    kind._wrap_socket = _wrap_socket
    ssl._pqtls_socket_errors = mended


def is_affected(ssl: Any) -> bool:
    """Tell whether this interpreter takes a failed read or write of a socket for an error of TLS.

    A connection in TLS 1.2 without certificates (nothing has to be read from a file for it) is made over a pair of
    sockets, its far end is closed, and the near one writes. No recorder and no guard sees these contexts.

    Args:
        ssl: The imported module.

    Returns:
        True as well where it cannot be told, such as under a policy that forbids such a connection: what is wrapped
        then does nothing unless such an error comes.
    """
    is_finished = False
    try:
        near, far = socket.socketpair()
    except OSError:  # a service may have no Unix sockets: systemd's RestrictAddressFamilies
        return True
    try:
        for sock in (near, far):
            sock.setblocking(False)
        client, server = _connection(ssl, near, False), _connection(ssl, far, True)
        for step in (client, server, client, server, client):
            try:
                step.do_handshake()
            except ssl.SSLWantReadError:
                pass
        far.close()
        is_finished = client.version() is not None
        client.write(b"x")
    except OSError as error:
        return not is_finished or _is_system_error(ssl, error)
    except Exception:  # noqa: BLE001
        return True
    finally:
        near.close()
        far.close()
    return True


def _connection(ssl: Any, sock: Any, server_side: bool) -> Any:
    import _ssl

    private: Any = _ssl
    context = private._SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # there is no peer but ourselves
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context._wrap_socket(sock, server_side, None, owner=None, session=None)


def _is_system_error(ssl: Any, error: Exception) -> bool:
    return type(error) is ssl.SSLError and getattr(error, "library", None) == "SYS"


def _mend(ssl: Any, kind: type) -> None:
    """Wrap the methods of a class that owns connections, where it or a base of it defines them."""
    for each in kind.__mro__:
        if each in (socket.socket, object) or not each.__module__ or "_socket" in each.__module__:
            continue
        for name, purpose in METHODS.items():
            method = each.__dict__.get(name)
            if callable(method) and not getattr(method, _MARK, False):
                setattr(each, name, _mended(ssl, method, purpose))


def _mended(ssl: Any, method: Callable[..., Any], purpose: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except ssl.SSLError as error:
            if not _is_system_error(ssl, error):
                raise
            mended = translate(ssl, error, purpose, self)
        if purpose == READING and isinstance(mended, ssl.SSLEOFError) and getattr(self, "suppress_ragged_eofs", False):
            buffer = args[1] if len(args) > 1 else kwargs.get("buffer")
            return b"" if buffer is None else 0
        raise mended

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(call, name, getattr(method, name, None))
    call.__wrapped__ = method  # type: ignore[attr-defined]
    setattr(call, _MARK, True)
    return call


def translate(ssl: Any, error: Any, purpose: str, sock: Any) -> Any:
    """Return what this Python raises under an OpenSSL before 3.4 in the place of an error of the library SYS.

    Args:
        ssl: The imported module.
        error: The error; its first argument is what SSL_get_error said: 1 for a stale entry of the error queue, 5
            for a call that failed.
        purpose: What the method does.
        sock: The socket.
    """
    is_stale = error.args[0] == ssl.SSL_ERROR_SSL
    if purpose == READING and (is_stale or sys.version_info < (3, 13)):
        is_end = True
    else:
        is_end = purpose == WRITING and sys.version_info < (3, 13)
    if is_end:
        end = ssl.SSLEOFError(int(ssl.SSL_ERROR_EOF), "EOF occurred in violation of protocol")
        end.library = end.reason = None
        return end
    number = errno.EPIPE if getattr(sock, "family", None) == socket.AF_UNIX else errno.ECONNRESET
    return OSError(number, os.strerror(number))
