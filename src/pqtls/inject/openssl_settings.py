"""Hold this process's OpenSSL to a list of groups, and to TLS 1.3 alone, without touching its environment.

An OPENSSL_CONF in the environment would reach every child, also those on an OpenSSL 3.0, which drop its Groups line
in silence. So OpenSSL is handed the settings by its own calls. They go on top of the configuration that is in force
(OPENSSL_CONF of whoever started the program, else openssl.cnf), which is loaded first and as always: providers,
MinProtocol, CipherString and the rest stay as they were. The order does not matter: it works whatever of OpenSSL was
used before, since each new TLS context asks for the settings again.

Not MinProtocol but Protocol: a Python from python.org's source sets its own minimum afterwards, which wins.
OpenSSL drops the whole Groups line in silence if it does not know one name: so a real ClientHello is made and read.

One file of the standard library, loaded by path into other people's programs, with no import that `ssl` has not made
already, but `_ctypes`.

Sources: OpenSSL's CONF_modules_load(3), NCONF_new_ex(3), OPENSSL_init_crypto(3), SSL_CONF_cmd(3), config(5).
"""

from __future__ import annotations

import os
import re

# Not from `typing`: no import that the program did not ask for.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TLS13_ONLY = "-TLSv1, -TLSv1.1, -TLSv1.2"
POST_QUANTUM = frozenset((0x0200, 0x0201, 0x0202, 0x11E9, 0x11EA, 0x11EB, 0x11EC, 0x11ED, 0x11EE))
"""Code points of groups with ML-KEM in them, as in pqtls.wire.groups."""

_NAME = "pqtls_conf"
_OWN_SECTIONS = ("pqtls_openssl", "pqtls_ssl", "pqtls_system_default")
_NOTHING = ["RecordPadding = 0"]
"""What is so anyway: OpenSSL takes a section without any line for one that is missing."""
_CALLS = ("OPENSSL_init_crypto", "CONF_get1_default_config_file", "NCONF_new", "NCONF_load_bio", "CONF_modules_load")
_LOAD_CONFIG = 0x40  # OPENSSL_INIT_LOAD_CONFIG
_ALLOWED = re.compile(r"[A-Za-z0-9_.:/*?\- ]+")
_SUPPORTED_GROUPS, _SUPPORTED_VERSIONS, _TLS13 = 10, 43, 0x0304


def install(ssl: Any, settings: dict[str, Any]) -> None:
    """Hold every TLS context of this process that is made from now on; contexts made before are not reached.

    Args:
        ssl: The imported module.
        settings: "groups", in OpenSSL's syntax, or "" for its own list; "require" for TLS 1.3 alone and groups with
            ML-KEM alone; "codes", if known, the code points that must then be offered, neither more nor fewer;
            "must", those that must be offered, and "may", where no others but these may be.

    Raises:
        RuntimeError: OpenSSL did not take the settings, or does not follow them. They are taken back, and the program
            is as able as before; whoever requires them must refuse to go on.
    """
    groups, is_required = str(settings.get("groups") or ""), bool(settings.get("require"))
    wanted = (groups, is_required)
    if not (groups or is_required) or getattr(ssl, "_pqtls_openssl_settings", None) == wanted:
        return
    lines = []
    if groups:
        if not _ALLOWED.fullmatch(groups):
            raise RuntimeError(f"{groups!r} is not a list of groups")
        lines.append(f"Groups = {groups}")
    if is_required:
        lines.append(f"Protocol = {TLS13_ONLY}")
    try:
        apply_settings(lines)
        _check(ssl, groups, is_required, settings)
    except RuntimeError:
        # With `config_diagnostics = 1` (Debian's openssl.cnf) no context at all could be made with a refused line.
        apply_settings(_NOTHING)
        raise
    ssl._pqtls_openssl_settings = wanted


def find_obstacle() -> str:
    """Say why this process's OpenSSL cannot be handed settings; "" if it can. Nothing is changed.

    It can't where OpenSSL is linked into the interpreter and its names are not exported.
    """
    try:
        crypto = _Libcrypto()
        for name in _CALLS:
            crypto.address(name)
    except (ImportError, OSError, RuntimeError) as error:
        return str(error)
    return ""


def _check(ssl: Any, groups: str, is_required: bool, settings: dict[str, Any]) -> None:
    offered, versions = read_offer(ssl)
    names = ":".join(f"0x{code:04x}" for code in offered)
    if is_required and not (offered and POST_QUANTUM.issuperset(offered) and set(versions) == {_TLS13}):
        raise RuntimeError(f"{ssl.OPENSSL_VERSION} would still offer groups {names} in versions {versions}")
    codes, must, may = settings.get("codes"), settings.get("must") or (), settings.get("may")
    is_followed = set(must).issubset(offered) and (may is None or set(may).issuperset(offered))
    if (codes and set(codes) != set(offered)) or not is_followed:
        raise RuntimeError(f"{ssl.OPENSSL_VERSION} does not follow the group list {groups!r}: it offers {names}")


def apply_settings(lines: list[str]) -> None:
    """Set defaults of TLS contexts in the libcrypto that `_ssl` uses.

    Args:
        lines: SSL_CONF commands, such as "Groups = X25519MLKEM768".

    Raises:
        RuntimeError: It has no such calls, or refused them.
    """
    crypto = _Libcrypto()
    if crypto.number("OPENSSL_init_crypto", crypto.uint64(_LOAD_CONFIG), None) != 1:
        raise RuntimeError("OpenSSL could not load its own configuration")
    base = crypto.default_conf()
    sections = crypto.chain(base) if base else []
    crypto.load(_overlay(base, sections, lines))


def _overlay(base: bytes, sections: list[bytes], lines: list[str]) -> bytes:
    """Write a configuration that adds lines to the sections where the one in force keeps its own, or to new ones.

    It is entered by a name of ours and leads to the TLS settings alone: providers are not loaded a second time.
    """
    found = sections[1:]
    names = [_OWN_SECTIONS[0].encode(), *found, *(name.encode() for name in _OWN_SECTIONS[1 + len(found) :])]
    text = [b".include " + re.sub(rb"([^A-Za-z0-9/._+@,-])", rb"\\\1", base)] if base else []
    text += [b"[default]", _NAME.encode() + b" = " + names[0]]
    text += [b"[" + names[0] + b"]", b"ssl_conf = " + names[1]]
    text += [b"[" + names[1] + b"]", b"system_default = " + names[2]]
    text += [b"[" + names[2] + b"]", *(line.encode() for line in lines), b""]
    return b"\n".join(text)


class _Libcrypto:
    """The few calls that are needed, of the very libcrypto that `_ssl` is bound to; by `_ctypes` alone."""

    def __init__(self) -> None:
        import _ctypes
        import _ssl

        part: Any = _ctypes  # typeshed knows none of its private parts
        simple: Any = part._SimpleCData
        self.pointer: Any = type("_Pointer", (simple,), {"_type_": "P"})
        self.uint64: Any = type("_UInt64", (simple,), {"_type_": "Q"})
        self.long: Any = type("_Long", (simple,), {"_type_": "l"})
        self._text: Any = type("_Text", (simple,), {"_type_": "z"})
        self._int: Any = type("_Int", (simple,), {"_type_": "i"})
        self._function: Any = type("_Function", (part.CFuncPtr,), {"_flags_": 1, "_restype_": self._int})
        self._find: Any = part.dlsym
        # A symbol is looked for in `_ssl` and in what it was linked to: not in another libcrypto of this process.
        file = getattr(_ssl, "__file__", None)
        self._handle = part.dlopen(None if file is None else os.fspath(file), os.RTLD_NOW | os.RTLD_LOCAL)

    def address(self, name: str) -> Any:
        """Return where a function is."""
        try:
            return self._find(self._handle, name)
        except OSError as error:
            raise RuntimeError(f"this Python's OpenSSL cannot be told its groups: {error}") from error

    def _call(self, name: str, result: Any, arguments: tuple[Any, ...]) -> Any:
        function = self._function(self.address(name))
        function.restype = result
        return function(*arguments)

    def number(self, name: str, *arguments: Any) -> int:
        """Call a function that returns an int."""
        return int(self._call(name, self._int, arguments))

    def default_conf(self) -> bytes:
        """Return the configuration file in force, b"" if it is not there."""
        found: bytes = self._call("CONF_get1_default_config_file", self._text, ()) or b""
        return os.path.abspath(found) if found and os.path.isfile(found) else b""

    def chain(self, base: bytes) -> list[bytes]:
        """Return the sections that lead to the defaults of TLS contexts, as OpenSSL itself reads the file."""
        conf = self._conf()
        try:
            if self.number("NCONF_load", conf, base, None) != 1:
                raise RuntimeError(f"OpenSSL cannot read {os.fsdecode(base)}")
            names: list[bytes] = []
            for key in (b"openssl_conf", b"ssl_conf", b"system_default"):
                arguments = (conf, names[-1] if names else None, key)
                found: bytes | None = self._call("NCONF_get_string", self._text, arguments)
                if not found:
                    break
                names.append(found)
            return names
        finally:
            self._call("NCONF_free", None, (conf,))
            self._call("ERR_clear_error", None, ())

    def load(self, text: bytes) -> None:
        """Load a configuration from memory."""
        conf = self._conf()
        memory = self.pointer(self._call("BIO_new_mem_buf", self.pointer, (text, len(text))))
        try:
            if self.number("NCONF_load_bio", conf, memory, None) != 1:
                raise RuntimeError("OpenSSL cannot read its configuration with these groups")
            if self.number("CONF_modules_load", conf, _NAME.encode(), self.long(0)) != 1:
                raise RuntimeError("OpenSSL refused its configuration with these groups")
        finally:
            self.number("BIO_free", memory)
            self._call("NCONF_free", None, (conf,))
            self._call("ERR_clear_error", None, ())

    def _conf(self) -> Any:
        return self.pointer(self._call("NCONF_new", self.pointer, (None,)))


def read_offer(ssl: Any) -> tuple[list[int], list[int]]:
    """Make a ClientHello that goes nowhere and read it. No recorder sees it: it is no connection.

    Args:
        ssl: The imported module.

    Returns:
        supported_groups and supported_versions, in order, without GREASE.

    Raises:
        RuntimeError: No ClientHello was made.
    """
    import _ssl

    private: Any = _ssl
    try:
        context = private._SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        outgoing = ssl.MemoryBIO()
        connection = context._wrap_bio(ssl.MemoryBIO(), outgoing, False, "pqtls.invalid", owner=None, session=None)
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            pass
        extensions = _extensions(outgoing.read()[9:])
    except (OSError, IndexError) as error:
        raise RuntimeError(f"no ClientHello could be made: {error}") from error
    groups = _numbers(extensions.get(_SUPPORTED_GROUPS, b"")[2:])
    return groups, _numbers(extensions.get(_SUPPORTED_VERSIONS, b"")[1:])


def _extensions(hello: bytes) -> dict[int, bytes]:
    """Take apart a ClientHello without its 4-byte header; RFC 9846 section 4.1.2."""
    at = 34
    at += 1 + hello[at]  # legacy_session_id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher_suites
    at += 1 + hello[at]  # legacy_compression_methods
    at += 2
    found = {}
    while at + 4 <= len(hello):
        size = int.from_bytes(hello[at + 2 : at + 4], "big")
        found[int.from_bytes(hello[at : at + 2], "big")] = hello[at + 4 : at + 4 + size]
        at += 4 + size
    return found


def _numbers(data: bytes) -> list[int]:
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]
    return [number for number in numbers if number & 0x0F0F != 0x0A0A]
