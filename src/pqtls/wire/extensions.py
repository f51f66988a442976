"""Extensions: kept as they came, in order, known or not; and readers of those that pqtls looks into.

Each reader consumes its extension exactly (RFC 9846 section 4.2, RFC 6066 section 3, RFC 7301).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pqtls.wire.buffer import Reader, push_int, push_vector


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension: its type and its raw content.

    Attributes:
        extension_type: ExtensionType.
        data: extension_data, untouched.
        offset: Where the data starts in the message's body; not compared.
    """

    extension_type: int
    data: bytes
    offset: int = field(default=0, compare=False)

    def build(self) -> bytes:
        """Return the extension's bytes."""
        return push_int(self.extension_type, 2) + push_vector(self.data, 2)

    def reader(self, path: str) -> Reader:
        """Return a reader of the content.

        Args:
            path: Name of the extension, for errors.
        """
        return Reader(self.data, self.offset, path)


@dataclass(frozen=True, slots=True)
class KeyShareEntry:
    """One KeyShareEntry (RFC 9846 section 4.2.9).

    Attributes:
        group: NamedGroup.
        key_exchange: The share itself, public by nature.
    """

    group: int
    key_exchange: bytes

    def build(self) -> bytes:
        """Return the entry's bytes."""
        return push_int(self.group, 2) + push_vector(self.key_exchange, 2)


def pull_extensions(reader: Reader) -> tuple[Extension, ...] | None:
    """Read the block of extensions that ends a hello.

    Args:
        reader: At the block, or at the end.

    Returns:
        The extensions in order; None if there is no block at all, as TLS 1.2 allows.

    Raises:
        MalformedError: The block does not fit, or an extension comes twice.
    """
    if reader.is_empty:
        return None
    extensions: list[Extension] = []
    seen: set[int] = set()
    with reader.scope(2, "extensions") as inner:
        while not inner.is_empty:
            extension_type = inner.pull_int(2)
            if extension_type in seen:
                raise inner.fail(f"extension {extension_type} comes twice")
            seen.add(extension_type)
            data = inner.pull_vector(2)
            extensions.append(Extension(extension_type, data, inner.offset - len(data)))
    return tuple(extensions)


def push_extensions(extensions: tuple[Extension, ...] | None) -> bytes:
    """Write the block of extensions.

    Args:
        extensions: The extensions; None writes no block at all.
    """
    if extensions is None:
        return b""
    return push_vector(b"".join(extension.build() for extension in extensions), 2)


def find_extension(extensions: tuple[Extension, ...] | None, extension_type: int) -> Extension | None:
    """Return the extension of a type, or None.

    Args:
        extensions: The extensions.
        extension_type: ExtensionType.
    """
    return next((each for each in extensions or () if each.extension_type == extension_type), None)


def pull_server_name(reader: Reader) -> str | None:
    """Read a client's server_name; return its host_name, None if it has none.

    Args:
        reader: At the extension's content.
    """
    name: str | None = None
    with reader.scope(2, "server_name_list", least=1) as inner:
        while not inner.is_empty:
            kind = inner.pull_int(1)
            value = inner.pull_vector(2, least=1)
            if kind == 0:
                if name is not None:
                    raise inner.fail("two host names")
                name = value.decode("ascii", "backslashreplace")
    reader.expect_end()
    return name


def pull_alpn(reader: Reader) -> tuple[str, ...]:
    """Read a list of application protocols.

    Args:
        reader: At the extension's content.
    """
    protocols = []
    with reader.scope(2, "protocol_name_list", least=2) as inner:
        while not inner.is_empty:
            protocols.append(inner.pull_vector(1, least=1).decode("ascii", "backslashreplace"))
    reader.expect_end()
    return tuple(protocols)


def pull_key_share_entry(reader: Reader) -> KeyShareEntry:
    """Read one KeyShareEntry.

    Args:
        reader: At the entry.
    """
    return KeyShareEntry(reader.pull_int(2), reader.pull_vector(2, least=1))


def pull_client_shares(reader: Reader) -> tuple[KeyShareEntry, ...]:
    """Read a client's key_share; the list may be empty (RFC 9846 section 4.2.9).

    Args:
        reader: At the extension's content.
    """
    shares: list[KeyShareEntry] = []
    with reader.scope(2, "client_shares") as inner:
        while not inner.is_empty:
            share = pull_key_share_entry(inner)
            if any(share.group == other.group for other in shares):
                raise inner.fail(f"two shares for group 0x{share.group:04x}")
            shares.append(share)
    reader.expect_end()
    return tuple(shares)


def count_psk_identities(reader: Reader) -> int:
    """Read a client's pre_shared_key; return how many identities it offers (RFC 9846 section 4.2.11).

    The identities are tickets: they are counted, never kept.

    Args:
        reader: At the extension's content.
    """
    count = binders = 0
    with reader.scope(2, "identities", least=7) as inner:
        while not inner.is_empty:
            inner.pull_vector(2, least=1)
            inner.pull_int(4)
            count += 1
    with reader.scope(2, "binders", least=33) as inner:
        while not inner.is_empty:
            inner.pull_vector(1, least=32)
            binders += 1
    if binders != count:
        raise reader.fail(f"{count} identities with {binders} binders")
    return count
