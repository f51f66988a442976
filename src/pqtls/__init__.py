"""Post-quantum TLS for Python: turn it on, prove it on every connection, find what breaks it.

The Python API (docs/python-api.md): `openssl_info()`, `create_default_context()`, `group(connection)` and
`NotPostQuantum`. Each is loaded when it is first used; `import pqtls` costs nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["NotPostQuantum", "OpenSSLInfo", "create_default_context", "group", "openssl_info"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from pqtls.observe.connection_group import group
    from pqtls.openssl.context import create_default_context
    from pqtls.openssl.this_process import OpenSSLInfo, openssl_info

    class NotPostQuantum(ssl.SSLError):
        """A TLS connection was refused because its key exchange is not post-quantum; no application data passed.

        Attributes:
            host: Name that the client asked for; else the peer's address, "" if that is not known either.
            group: Name of the group that the server chose, "" if it chose none.
            version: Such as "TLS 1.2", "" if none was chosen.
            server_side: This end is the server.
        """

        host: str
        group: str
        version: str
        server_side: bool


_HOMES = {
    "OpenSSLInfo": "pqtls.openssl.this_process",
    "create_default_context": "pqtls.openssl.context",
    "group": "pqtls.observe.connection_group",
    "openssl_info": "pqtls.openssl.this_process",
}


if not TYPE_CHECKING:  # a type checker has the names above, and complains of others

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "NotPostQuantum":
            import ssl

            # The class that the guard of this process raises, whoever installed it.
            found: object = import_module("pqtls.inject.guard").prepare(ssl).error
        elif name in _HOMES:
            found = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
