"""ClientHello: parse, look into, and build back byte for byte (RFC 9846 section 4.1.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pqtls.wire import codepoints as cp
from pqtls.wire.buffer import Reader, push_int, push_vector
from pqtls.wire.extensions import (
    Extension,
    KeyShareEntry,
    count_psk_identities,
    find_extension,
    pull_alpn,
    pull_client_shares,
    pull_extensions,
    pull_server_name,
    push_extensions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = "ClientHello"


@dataclass(frozen=True, slots=True)
class ClientHello:
    """A ClientHello. What is known of its extensions is read at `parse`, so that a bad one fails there.

    Attributes:
        legacy_version: Its version field, 0x0303 in TLS 1.3.
        random: 32 bytes.
        session_id: legacy_session_id, up to 32 bytes.
        cipher_suites: In the order offered, GREASE included.
        compression_methods: As bytes, one method each.
        extensions: In order, untouched; None without a block of extensions.
        server_name: host_name, or None.
        supported_groups: In the order offered; empty without the extension.
        key_shares: In the order sent; None without the extension, empty where the list is.
        supported_versions: In the order offered; empty without the extension.
        signature_algorithms: In the order offered.
        alpn: Protocols in the order offered.
        psk_identities: How many pre-shared keys are offered.

    The views of extensions are filled by `parse`; of a hello put together by hand, parse what it builds.
    """

    legacy_version: int
    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    compression_methods: bytes
    extensions: tuple[Extension, ...] | None
    server_name: str | None = field(default=None, compare=False)
    supported_groups: tuple[int, ...] = field(default=(), compare=False)
    key_shares: tuple[KeyShareEntry, ...] | None = field(default=None, compare=False)
    supported_versions: tuple[int, ...] = field(default=(), compare=False)
    signature_algorithms: tuple[int, ...] = field(default=(), compare=False)
    alpn: tuple[str, ...] = field(default=(), compare=False)
    psk_identities: int = field(default=0, compare=False)

    @classmethod
    def parse(cls, body: bytes) -> ClientHello:
        """Read a ClientHello.

        Args:
            body: The message without its 4-byte header.

        Raises:
            MalformedError: It breaks the rules.
        """
        reader = Reader(body, 0, _PATH)
        version = reader.pull_int(2)
        random = reader.pull_bytes(32)
        session_id = reader.pull_vector(1)
        if len(session_id) > 32:
            raise reader.fail(f"a session id of {len(session_id)} bytes")
        ciphers = reader.pull_int_list(2, "cipher_suites")
        compression = reader.pull_vector(1, least=1)
        extensions = pull_extensions(reader)
        reader.expect_end()
        return cls(version, random, session_id, ciphers, compression, extensions, **_look_into(extensions))

    def build(self) -> bytes:
        """Return the body; of a parsed hello the very bytes that it was parsed from."""
        return (
            push_int(self.legacy_version, 2)
            + self.random
            + push_vector(self.session_id, 1)
            + push_vector(b"".join(push_int(cipher, 2) for cipher in self.cipher_suites), 2)
            + push_vector(self.compression_methods, 1)
            + push_extensions(self.extensions)
        )

    def has_extension(self, extension_type: int) -> bool:
        """Tell whether an extension is there.

        Args:
            extension_type: ExtensionType.
        """
        return find_extension(self.extensions, extension_type) is not None


def _look_into(extensions: tuple[Extension, ...] | None) -> dict[str, Any]:
    """Read the extensions that pqtls knows; each must be consumed exactly."""
    found: dict[str, Any] = {}
    for extension in extensions or ():
        read = _READERS.get(extension.extension_type)
        if read is None:
            continue
        name, pull = read
        reader = extension.reader(f"{_PATH}.{name}")
        found[name] = pull(reader)
        reader.expect_end()
    return found


_READERS: dict[int, tuple[str, Callable[[Reader], Any]]] = {
    cp.SERVER_NAME: ("server_name", pull_server_name),
    cp.SUPPORTED_GROUPS: ("supported_groups", lambda reader: reader.pull_int_list(2, "named_group_list")),
    cp.KEY_SHARE: ("key_shares", pull_client_shares),
    cp.SUPPORTED_VERSIONS: ("supported_versions", lambda reader: reader.pull_int_list(1, "versions")),
    cp.SIGNATURE_ALGORITHMS: ("signature_algorithms", lambda reader: reader.pull_int_list(2, "schemes")),
    cp.ALPN: ("alpn", pull_alpn),
    cp.PRE_SHARED_KEY: ("psk_identities", count_psk_identities),
}
