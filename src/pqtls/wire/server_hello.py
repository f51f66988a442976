"""ServerHello and HelloRetryRequest: parse, look into, build back byte for byte (RFC 9846, 4.1.3 and 4.1.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pqtls.wire import codepoints as cp
from pqtls.wire.buffer import Reader, push_int, push_vector
from pqtls.wire.extensions import (
    Extension,
    KeyShareEntry,
    find_extension,
    pull_extensions,
    pull_key_share_entry,
    push_extensions,
)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """A ServerHello, or a HelloRetryRequest, which is one with a fixed random.

    Attributes:
        legacy_version: Its version field, 0x0303 in TLS 1.3.
        random: 32 bytes.
        session_id_echo: legacy_session_id_echo.
        cipher_suite: The one chosen.
        compression_method: 0 in all that is sane.
        extensions: In order, untouched; None without a block of extensions.
        selected_version: Version of supported_versions, None without the extension.
        key_share: The server's share; None without one, and in a HelloRetryRequest.
        retry_group: The group that a HelloRetryRequest asks for, None if it names none.
        selected_psk: Index of the pre-shared key, None without one.
        has_cookie: A HelloRetryRequest carries a cookie.
    """

    legacy_version: int
    random: bytes
    session_id_echo: bytes
    cipher_suite: int
    compression_method: int
    extensions: tuple[Extension, ...] | None
    selected_version: int | None = field(default=None, compare=False)
    key_share: KeyShareEntry | None = field(default=None, compare=False)
    retry_group: int | None = field(default=None, compare=False)
    selected_psk: int | None = field(default=None, compare=False)
    has_cookie: bool = field(default=False, compare=False)

    @property
    def is_hello_retry_request(self) -> bool:
        """Its random is the one that marks a HelloRetryRequest."""
        return self.random == cp.HELLO_RETRY_RANDOM

    @property
    def version(self) -> int:
        """The version chosen: supported_versions where it is there, else the version field."""
        return self.legacy_version if self.selected_version is None else self.selected_version

    @classmethod
    def parse(cls, body: bytes) -> ServerHello:
        """Read a ServerHello or HelloRetryRequest.

        Args:
            body: The message without its 4-byte header.

        Raises:
            MalformedError: It breaks the rules.
        """
        path = "HelloRetryRequest" if body[2:34] == cp.HELLO_RETRY_RANDOM else "ServerHello"
        reader = Reader(body, 0, path)
        version = reader.pull_int(2)
        random = reader.pull_bytes(32)
        session_id = reader.pull_vector(1)
        if len(session_id) > 32:
            raise reader.fail(f"a session id of {len(session_id)} bytes")
        cipher = reader.pull_int(2)
        compression = reader.pull_int(1)
        extensions = pull_extensions(reader)
        reader.expect_end()
        hello = cls(version, random, session_id, cipher, compression, extensions)
        return hello._with_known(path)

    def _with_known(self, path: str) -> ServerHello:
        known: dict[str, Any] = {
            "selected_version": self._pull_int(cp.SUPPORTED_VERSIONS, path),
            "selected_psk": self._pull_int(cp.PRE_SHARED_KEY, path),
            "has_cookie": self._has_cookie(path),
            "key_share": None,
            "retry_group": None,
        }
        if self.is_hello_retry_request:
            known["retry_group"] = self._pull_int(cp.KEY_SHARE, path)
        else:
            known["key_share"] = self._pull_share(path)
        return ServerHello(
            self.legacy_version,
            self.random,
            self.session_id_echo,
            self.cipher_suite,
            self.compression_method,
            self.extensions,
            **known,
        )

    def _pull_int(self, extension_type: int, path: str) -> int | None:
        extension = find_extension(self.extensions, extension_type)
        if extension is None:
            return None
        reader = extension.reader(f"{path}.extension-{extension_type}")
        value = reader.pull_int(2)
        reader.expect_end()
        return value

    def _pull_share(self, path: str) -> KeyShareEntry | None:
        extension = find_extension(self.extensions, cp.KEY_SHARE)
        if extension is None:
            return None
        reader = extension.reader(f"{path}.key_share")
        share = pull_key_share_entry(reader)
        reader.expect_end()
        return share

    def _has_cookie(self, path: str) -> bool:
        extension = find_extension(self.extensions, cp.COOKIE)
        if extension is None:
            return False
        reader = extension.reader(f"{path}.cookie")
        reader.pull_vector(2, least=1)
        reader.expect_end()
        return True

    def build(self) -> bytes:
        """Return the body; of a parsed hello the very bytes that it was parsed from."""
        return (
            push_int(self.legacy_version, 2)
            + self.random
            + push_vector(self.session_id_echo, 1)
            + push_int(self.cipher_suite, 2)
            + push_int(self.compression_method, 1)
            + push_extensions(self.extensions)
        )
