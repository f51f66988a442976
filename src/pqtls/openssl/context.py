"""An ordinary `ssl.SSLContext`, on request one whose connections are post-quantum or refused."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

from pqtls.errors import CannotProveError
from pqtls.evidence import is_post_quantum_group
from pqtls.inject.guard import prepare
from pqtls.openssl.group_presets import PRESETS
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.errors import MalformedError
from pqtls.wire.groups import group_name, is_grease

if TYPE_CHECKING:
    import os

REQUIRED_GROUPS = PRESETS["hybrid-only"].groups
"""The hybrids of RFC 10024; a key share is sent of the first."""

_TLS13 = 0x0304
_RECORD_AND_MESSAGE_HEADERS = 5 + 4


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: str | os.PathLike[str] | None = None,
    capath: str | os.PathLike[str] | None = None,
    cadata: str | bytes | None = None,
    require_pq: bool = False,
) -> ssl.SSLContext:
    """Make the context that `ssl.create_default_context` makes, whose connections `pqtls.group` can tell of.

    With `require_pq` its connections are TLS 1.3 with a group that has ML-KEM in it, or end in NotPostQuantum before
    application data passes. Since Python 3.15 a context has groups of its own, and the classical ones are not even
    offered. Before, groups can be set for a whole process only (`pqtls enable --require-pq`, `pqtls run --groups`):
    unless that was done, the ClientHello still offers classical groups, and a server that chooses one is refused by
    the guard when its ServerHello comes: it gets no certificate and no application data.

    Args:
        purpose: As for `ssl.create_default_context`.
        cafile: As there.
        capath: As there.
        cadata: As there.
        require_pq: Refuse what is not post-quantum.

    Returns:
        An ordinary `ssl.SSLContext`. No check is weaker than before.

    Raises:
        CannotProveError: With `require_pq`, where this process's OpenSSL offers no group with ML-KEM in it, or this
            Python cannot be guarded.
    """
    context = ssl.create_default_context(purpose, cafile=cafile, capath=capath, cadata=cadata)
    try:
        guard = prepare(ssl)
    except AttributeError as error:
        if require_pq:
            raise CannotProveError(f"This Python's `ssl` cannot be guarded ({error}).", "Use CPython.") from error
        return context
    if not require_pq:
        guard.watch(context)
        return context
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    set_groups: Any = getattr(context, "set_groups", None)  # since Python 3.15
    if set_groups is not None:
        try:
            set_groups(REQUIRED_GROUPS)
        except ssl.SSLError as error:
            raise _unable(f"does not know {REQUIRED_GROUPS} ({error.reason})") from error
    _check_offer(context, has_own_groups=set_groups is not None)
    guard.require(context)
    return context


def _check_offer(context: ssl.SSLContext, *, has_own_groups: bool) -> None:
    """Make sure, by a ClientHello of its own, that a context can do what is required of it."""
    hello = _client_hello(context)
    offered = [code for code in hello.supported_groups if not is_grease(code)] if hello is not None else []
    useful = [code for code in offered if is_post_quantum_group(code)]
    names = " ".join(group_name(code) for code in offered) or "nothing"
    if hello is None or not useful:
        raise _unable(f"offers no group with ML-KEM in it, but {names}")
    if set(hello.supported_versions) != {_TLS13}:
        raise _unable("offers other versions than TLS 1.3")
    if has_own_groups and len(useful) != len(offered):
        raise _unable(f"still offers classical groups ({names})")


def _client_hello(context: ssl.SSLContext) -> ClientHello | None:
    """Make a ClientHello with this context's settings that goes nowhere; no recorder takes it for a connection."""
    import _ssl

    private: Any = _ssl._SSLContext
    before = private._msg_callback.__get__(context)
    private._msg_callback.__set__(context, None)
    try:
        outgoing = ssl.MemoryBIO()
        connection = private._wrap_bio(
            context, ssl.MemoryBIO(), outgoing, False, "pqtls.invalid", owner=None, session=None
        )
        with contextlib.suppress(ssl.SSLWantReadError):
            connection.do_handshake()
        return ClientHello.parse(outgoing.read()[_RECORD_AND_MESSAGE_HEADERS:])
    except (ssl.SSLError, MalformedError):
        return None
    finally:
        private._msg_callback.__set__(context, before)


def _unable(what: str) -> CannotProveError:
    return CannotProveError(
        f"Post-quantum TLS is required, but this process's {ssl.OPENSSL_VERSION} {what}.",
        "Run `pqtls doctor`; then start the program by `pqtls run -- ...`.",
    )
