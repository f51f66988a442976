"""The guard: a TLS connection of this process that is not post-quantum carries no application data.

Enforcement proper is OpenSSL's: a process that offers only groups with ML-KEM, in TLS 1.3 alone, cannot agree on
anything else (openssl_settings.py). The guard says what happened, as NotPostQuantum, and stands behind: a program may
have chosen its own groups or versions for a context, or the process may offer classical groups on purpose.

It stands where all of Python's TLS passes: `SSLContext._wrap_socket` and `_wrap_bio`, below `SSLSocket`, `SSLObject`,
asyncio, uvloop, trio and gevent. What they get in place of `_ssl`'s connection first runs the handshake as a call of
its own, whatever the program calls first, and reads the ServerHello (by the message callback, before the recorder's or
the program's own). If its group has ML-KEM in it, `_ssl`'s connection takes its place again and the guard is gone from
it. If not, the TCP connection is shut down there and then, before the client's Finished or its certificate, and that
connection refuses for good. What cannot be seen is refused as well.

One file of the standard library, loaded by path into other people's programs, with no import that `ssl` has not made
already. A second copy of it in the same process takes over what the first one set up.

Sources: RFC 9846 sections 4.1.3 (ServerHello), 4.2.8 (key_share), 6.2 (protocol_version); RFC 10024.
"""

from __future__ import annotations

import _socket
import sys

# Not from `typing`: no import that the program did not ask for.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POST_QUANTUM = {
    0x0200: "MLKEM512",
    0x0201: "MLKEM768",
    0x0202: "MLKEM1024",
    0x11E9: "SecP256r1MLKEM512",
    0x11EA: "MLKEM512X25519",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
    0x11EE: "curveSM2MLKEM768",
}
OTHERS = {
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001D: "x25519",
    0x001E: "x448",
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
}
VERSIONS = {0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}

_HANDSHAKE, _ALERT = 22, 21
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_SUPPORTED_GROUPS, _SUPPORTED_VERSIONS, _KEY_SHARE = 10, 43, 51
_TLS13 = 0x0304
_PROTOCOL_VERSION = 70
_REFUSALS = {40: "handshake_failure", 71: "insufficient_security"}
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
# What only tells of a connection, and so may be asked before the handshake.
_TELLS = frozenset((
    "cipher", "client_sigalg", "compression", "get_channel_binding", "get_unverified_chain", "get_verified_chain",
    "getpeercert", "group", "pending", "selected_alpn_protocol", "server_hostname", "server_side", "server_sigalg",
    "session_reused", "shared_ciphers", "uses_ktls_for_recv", "uses_ktls_for_send", "version",
))  # fmt: skip
# OpenSSL's reasons on a server that finds nothing in a ClientHello that it may use.
_NOTHING_IN_COMMON = ("NO_SUITABLE_KEY_SHARE", "NO_SUITABLE_GROUPS")
_NO_COMMON_VERSION = ("UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW")


def install(ssl: Any, settings: dict[str, Any] | None = None) -> None:
    """Refuse every connection of this process that is not post-quantum, from now on.

    Args:
        ssl: The imported module.
        settings: "require" being False leaves the process as it is; None requires.

    Raises:
        AttributeError: This `ssl` lacks what the guard needs (PyPy's): whoever requires it must refuse to go on.
    """
    if settings is None or settings.get("require"):
        prepare(ssl).is_everywhere = True


def prepare(ssl: Any) -> Any:
    """Put the guard in place without requiring anything yet, once per process.

    Args:
        ssl: The imported module.

    Returns:
        The process's guard: `require(context)`, `watch(context)`, `error`, `is_everywhere`.

    Raises:
        AttributeError: This `ssl` lacks what the guard needs.
    """
    if getattr(ssl, "_pqtls_guard", None) is None:
        guard = Guard(ssl)
        guard.hook()
        ssl._pqtls_guard = guard
    return ssl._pqtls_guard


def _make_error(ssl: Any) -> Any:
    class NotPostQuantum(ssl.SSLError):  # type: ignore[misc]
        """A TLS connection was refused because its key exchange is not post-quantum; no application data passed.

        Attributes:
            host: Name that the client asked for; else the peer's address, "" if that is not known either.
            group: Name of the group that the server chose, "" if it chose none.
            version: Such as "TLS 1.2", "" if none was chosen.
            server_side: This end is the server.
        """

        host = group = version = ""
        server_side = False

        def __reduce__(self) -> Any:
            made: Any = super().__reduce__()
            # A program without pqtls can make nothing of this class, when a worker process sends it one.
            return made if "pqtls" in sys.modules else (ssl.SSLError, *made[1:])

    NotPostQuantum.__module__, NotPostQuantum.__qualname__ = "pqtls", "NotPostQuantum"
    return NotPostQuantum


class Guard:
    """What the guard keeps of a process.

    Args:
        ssl: The imported module.
    """

    def __init__(self, ssl: Any) -> None:
        import _ssl

        private: Any = _ssl  # typeshed knows none of its private parts
        self.ssl = ssl
        self.error: Any = _make_error(ssl)
        self.is_everywhere = False
        self._callback = private._SSLContext._msg_callback
        # gevent puts a subclass in the place of ssl.SSLContext; what it and all others derive from is meant.
        classes = [each for each in ssl.SSLContext.__mro__ if private._SSLContext in each.__bases__]
        self._context_class: Any = classes[0]
        self._states: dict[int, _State] = {}

    def require(self, context: Any) -> None:
        """Refuse what is not post-quantum on connections made with a context from now on."""
        context._pqtls_requires = True

    def watch(self, context: Any) -> None:
        """Note the group of connections made with a context from now on; refuse nothing."""
        context.__dict__.setdefault("_pqtls_requires", False)

    def hook(self) -> None:
        """Stand below every kind of TLS connection."""
        kind = self._context_class
        wrap_socket, wrap_bio, callback = kind._wrap_socket, kind._wrap_bio, kind._msg_callback

        def _wrap_socket(context: Any, sock: Any, *args: Any, **kwargs: Any) -> Any:
            is_required = self._requirement(context)
            if is_required is None:
                return wrap_socket(context, sock, *args, **kwargs)
            self._attach(context)
            raw = wrap_socket(context, sock, *args, **kwargs)
            return _Guarded(self, raw, _State(is_required), sock, None)

        def _wrap_bio(context: Any, incoming: Any, outgoing: Any, *args: Any, **kwargs: Any) -> Any:
            is_required = self._requirement(context)
            if is_required is None:
                return wrap_bio(context, incoming, outgoing, *args, **kwargs)
            self._attach(context)
            raw = wrap_bio(context, incoming, outgoing, *args, **kwargs)
            return _Guarded(self, raw, _State(is_required), None, outgoing)

        def set_callback(context: Any, theirs: Any) -> None:
            callback.fset(context, theirs)
            if self._requirement(context) is not None:
                self._attach(context)

        kind._wrap_socket, kind._wrap_bio = _wrap_socket, _wrap_bio
        kind._msg_callback = property(callback.fget, set_callback, doc=callback.__doc__)

    def _requirement(self, context: Any) -> bool | None:
        """Tell whether a context's connections must be post-quantum (True), are watched (False) or neither (None)."""
        if self.is_everywhere:
            return True
        found: bool | None = getattr(context, "_pqtls_requires", None)
        return found

    def _attach(self, context: Any) -> None:
        """Read a context's messages, before whoever reads them already (the recorder, the program)."""
        before = self._callback.__get__(context)
        if getattr(before, "is_of_pqtls_guard", False):
            return

        def see(conn: Any, direction: str, version: int, content: int, message: int, data: bytes) -> Any:
            state = self._states.get(id(conn))
            if state is not None:
                try:
                    state.see(direction, content, message, bytes(data))
                except Exception as error:  # noqa: BLE001 - never into the program; refused, since not understood
                    state.refuse(f"sent what the guard cannot read ({type(error).__name__})")
            return None if before is None else before(conn, direction, version, content, message, data)

        see.is_of_pqtls_guard = True  # type: ignore[attr-defined]
        see.user_function = getattr(before, "user_function", None)  # type: ignore[attr-defined]  # what ssl reports
        self._callback.__set__(context, see)

    def begin(self, key: int, state: _State) -> None:
        """Expect messages of a connection, by the id of what OpenSSL's callback will name."""
        self._states[key] = state

    def end(self, key: int, state: _State) -> None:
        """Expect no more; the id may be another connection's by now."""
        if self._states.get(key) is state:
            del self._states[key]


class _State:
    """What is known of one connection's handshake.

    Args:
        is_required: It must be post-quantum.
    """

    def __init__(self, is_required: bool) -> None:
        self.is_required = is_required
        self.is_proven = False
        self.offer: list[int] | None = None
        self.versions: list[int] = []
        self.version: int | None = None
        self.group: int | None = None
        self.retry_group: int | None = None
        self.alert: int | None = None
        self.why = ""
        self.on_refusal: Any = None

    def refuse(self, why: str) -> None:
        """Note the first reason to refuse, and act on it at once."""
        if self.is_required and not self.why:
            self.why = why
            if self.on_refusal is not None:
                self.on_refusal()

    def see(self, direction: str, content: int, message: int, data: bytes) -> None:
        """Take one message."""
        if content == _ALERT and direction == "read" and self.version is None:
            self.alert = data[1]
        elif content == _HANDSHAKE and message == _CLIENT_HELLO:
            found = _extensions(data, is_client=True)
            self.offer = _numbers(found.get(_SUPPORTED_GROUPS, b"")[2:])
            self.versions = _numbers(found.get(_SUPPORTED_VERSIONS, b"")[1:])
        elif content == _HANDSHAKE and message == _SERVER_HELLO:
            self._see_server_hello(data)

    def _see_server_hello(self, data: bytes) -> None:
        found = _extensions(data, is_client=False)
        share = found.get(_KEY_SHARE, b"")
        group = int.from_bytes(share[:2], "big") if len(share) >= 2 else None
        if data[6:38] == _RETRY:
            self.retry_group = group
            return
        selected = found.get(_SUPPORTED_VERSIONS, data[4:6])
        self.version, self.group = int.from_bytes(selected, "big"), group
        if self.version != _TLS13:
            self.group = None
            self.refuse(f"chose {VERSIONS.get(self.version, hex(self.version))}, which has no post-quantum groups")
        elif group is None:
            self.refuse("resumed a session without any key exchange")
        elif group not in POST_QUANTUM:
            self.refuse(f"chose {_name(group)}, which is not post-quantum")

    def explain(self, error: Exception, server_side: bool) -> str:
        """Say why a handshake that OpenSSL itself ended was not post-quantum; "" where it may well have been."""
        if self.retry_group is not None:
            is_post_quantum = self.retry_group in POST_QUANTUM
            return "" if is_post_quantum else f"asked for {_name(self.retry_group)}, which is not post-quantum"
        is_tls13_only = bool(self.versions) and set(self.versions) == {_TLS13}
        if not server_side:
            if self.alert == _PROTOCOL_VERSION and is_tls13_only:
                return "refused TLS 1.3 (alert protocol_version), which post-quantum groups need"
            if self.alert in _REFUSALS and self.offer and not set(self.offer) - set(POST_QUANTUM):
                # What a server does that has none of them. It may have another reason, which the alert does not tell.
                offered, alert = " ".join(map(_name, self.offer)), _REFUSALS[self.alert]
                return f"answered an offer of {offered} alone by alert {alert}: it has none of them, or another reason"
            return ""
        reason = getattr(error, "reason", None)
        if self.offer is None or self.version is not None:
            return ""
        if reason in _NOTHING_IN_COMMON and not set(self.offer) & set(POST_QUANTUM):
            return f"offers no post-quantum group ({' '.join(map(_name, self.offer)) or 'none at all'})"
        if reason in _NO_COMMON_VERSION and _TLS13 not in self.versions:
            return "does not offer TLS 1.3, which post-quantum groups need"
        return ""


class _Guarded:
    """Stands for `_ssl`'s connection until its handshake was seen to be post-quantum, or for good if it was not."""

    __slots__ = ("_guard", "_key", "_outgoing", "_raw", "_state")

    def __init__(self, guard: Guard, raw: Any, state: _State, sock: Any, outgoing: Any) -> None:
        self._guard, self._raw, self._state, self._outgoing = guard, raw, state, outgoing
        # Only the id of a socket is kept: it owns us.
        owner = raw.owner
        self._key = id(owner if owner is not None else sock if sock is not None else raw)
        guard.begin(self._key, state)
        if isinstance(sock, _socket.socket):
            state.on_refusal = _Shutdown(sock)

    def __del__(self) -> None:
        self._guard.end(self._key, self._state)

    def do_handshake(self) -> Any:
        """Run the handshake; end it here if it is not post-quantum."""
        state = self._state
        if not state.why:
            try:
                result = self._raw.do_handshake()
            except OSError as error:
                if not state.why:
                    self._explain(error)
                    raise
                raise self._refusal() from error
            if state.is_required and not state.why and state.group not in POST_QUANTUM:
                state.refuse("was not seen to choose a post-quantum group")
            if not state.why:
                self._step_aside()
                return result
        raise self._refusal()

    def _explain(self, error: Exception) -> None:
        """Raise NotPostQuantum in place of OpenSSL's error where that is the reason."""
        ssl, state = self._guard.ssl, self._state
        if not state.is_required or isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError)):
            return
        why = state.explain(error, self._raw.server_side)
        if why:
            state.refuse(why)
            raise self._refusal() from error

    def _step_aside(self) -> None:
        owner, group = self._raw.owner, self._state.group
        if hasattr(owner, "_sslsock"):  # gevent's: the socket below its own SSLSocket, with a weak link to it
            owner = owner._sslsock()
        self._state.is_proven = True
        self._guard.end(self._key, self._state)
        if owner is not None:
            try:
                owner._pqtls_group = group
                if owner._sslobj is self:
                    owner._sslobj = self._raw
            except AttributeError:
                pass

    def _refusal(self) -> Any:
        """Make the error; nothing that OpenSSL has prepared to send goes out any more."""
        if self._outgoing is not None:
            self._outgoing.read()
        raw, state = self._raw, self._state
        server_side = bool(raw.server_side)
        name = "" if server_side else raw.server_hostname or ""
        address = state.on_refusal.address if state.on_refusal is not None else ""
        where = address if address.startswith(name) else f"{name} ({address})" if address else name
        who = ("the client" if server_side else "the server") + (f" {where}" if where else "")
        error = self._guard.error(
            int(self._guard.ssl.SSL_ERROR_SSL),
            f"[NOT_POST_QUANTUM] {self._subject(who, server_side)} {state.why}; post-quantum TLS is required here, "
            "and no application data was sent or taken",
        )
        error.library, error.reason = "pqtls", "NOT_POST_QUANTUM"
        error.host, error.server_side = name or address, server_side
        error.group = _name(state.group) if state.group is not None else ""
        error.version = VERSIONS.get(state.version, "") if state.version is not None else ""
        return error

    def _subject(self, who: str, server_side: bool) -> str:
        """Name who did it: on a server, the choice between what a client offers is its own."""
        chosen = self._state.version is not None or self._state.retry_group is not None
        return f"the handshake with {who}" if server_side and chosen else who

    def _prove(self) -> None:
        if self._state.why:
            raise self._refusal()
        if not self._state.is_proven:
            self.do_handshake()

    def shutdown(self) -> Any:
        """End TLS, and go on in plain text if the program so wishes; not after a refusal."""
        if self._state.why:
            raise self._refusal()
        return self._raw.shutdown()

    @property
    def context(self) -> Any:
        """The context; a server may change it while it reads the ClientHello."""
        return self._raw.context

    @context.setter
    def context(self, context: Any) -> None:
        self._guard._attach(context)
        self._raw.context = context

    @property
    def session(self) -> Any:
        """The session."""
        return self._raw.session

    @session.setter
    def session(self, session: Any) -> None:
        self._raw.session = session

    @property
    def owner(self) -> Any:
        """The SSLSocket or SSLObject that it belongs to."""
        return self._raw.owner

    @owner.setter
    def owner(self, owner: Any) -> None:
        self._raw.owner = owner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._raw, name)
        if name in _TELLS or not callable(found):
            return found

        def proven(*args: Any) -> Any:  # read, write, 3.15's sendfile, and whatever later ones may have
            self._prove()
            return found(*args)

        return proven


class _Shutdown:
    """Shuts a TCP connection down without owning its socket."""

    __slots__ = ("_reference", "address")

    def __init__(self, sock: Any) -> None:
        from _weakref import ref

        self._reference = ref(sock)
        self.address = ""

    def __call__(self) -> None:
        sock = self._reference()
        if sock is not None:
            self.address = _peer_of(sock)  # afterwards it is not told any more
            try:
                # Below SSLSocket.shutdown, which would turn to plain text.
                _socket.socket.shutdown(sock, _socket.SHUT_RDWR)
            except OSError:
                pass


def _peer_of(sock: Any) -> str:
    try:
        host, port = _socket.socket.getpeername(sock)[:2]
    except (OSError, TypeError, ValueError):
        return ""  # it is gone, or has no such address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name(group: int) -> str:
    return POST_QUANTUM.get(group) or OTHERS.get(group) or f"0x{group:04x}"


def _extensions(message: bytes, *, is_client: bool) -> dict[int, bytes]:
    """Take apart a hello with its 4-byte header; OpenSSL has checked a received one before, or refuses it itself."""
    at = 38
    at += 1 + message[at]  # session id
    if is_client:
        at += 2 + int.from_bytes(message[at : at + 2], "big")  # cipher_suites
        at += 1 + message[at]  # compression_methods
    else:
        at += 3
    at += 2
    found = {}
    while at + 4 <= len(message):
        size = int.from_bytes(message[at + 2 : at + 4], "big")
        found[int.from_bytes(message[at : at + 2], "big")] = message[at + 4 : at + 4 + size]
        at += 4 + size
    return found


def _numbers(data: bytes) -> list[int]:
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]
    return [number for number in numbers if number & 0x0F0F != 0x0A0A]
