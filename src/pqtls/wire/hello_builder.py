"""ClientHellos put together field by field: what to offer, in which order, how long, over how many records.

Sans-IO: key shares, random and session id come in as bytes. What comes out parses back to what went in, and knows
where its server name lies and where its records end, since that is what networks break on.

Source: RFC 9846 sections 4.1.2, 4.2 and 5.1; RFC 7685 (padding); RFC 8701 (GREASE).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pqtls.wire import codepoints as cp
from pqtls.wire.buffer import push_int, push_vector
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.extensions import Extension, KeyShareEntry
from pqtls.wire.handshake import HandshakeMessage
from pqtls.wire.records import HEADER_BYTES, Record

# Extension types that only a hello under construction needs to name.
STATUS_REQUEST, EC_POINT_FORMATS, PADDING, EXTENDED_MASTER_SECRET = 5, 11, 21, 23
SESSION_TICKET, PSK_KEY_EXCHANGE_MODES, SIGNATURE_ALGORITHMS_CERT, RENEGOTIATION_INFO = 35, 45, 50, 0xFF01

COMPACT_CIPHERS = (0x1301, 0x1302, 0x1303)
USUAL_CIPHERS = (*COMPACT_CIPHERS, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8)
# Every kind of key that certificates are made of, also in the smallest hello: a server without one that is announced
# rightly refuses, and would look like a fault (P-384 and Ed25519 are common, RSA-PSS and Ed448 keys are not).
COMPACT_SCHEMES = (0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x0804, 0x0805, 0x0806)
USUAL_SCHEMES = (*COMPACT_SCHEMES, 0x0401, 0x0501, 0x0601)
ML_DSA_SCHEMES = (0x0904, 0x0905, 0x0906)

# Some old F5 load balancers hang on hellos of 256 to 511 bytes (RFC 7685): a measuring hello keeps clear of them.
_AVOIDED_BYTES = range(256, 512)
_PAST_AVOIDED_BYTES = 517
_EXTENSION_HEADER_BYTES = 4


@dataclass(frozen=True, slots=True)
class HelloRecipe:
    """What a ClientHello is to be made of.

    Attributes:
        random: 32 bytes.
        session_id: legacy_session_id, up to 32 bytes.
        server_name: host_name, None for none.
        versions: supported_versions in order; without TLS 1.3 the extension is left out.
        cipher_suites: In order.
        groups: supported_groups in order.
        shares: key_share entries in order, empty for an empty list, None for no extension.
        signature_algorithms: In order.
        signature_algorithms_cert: In order, None for no extension.
        cookie: Cookie of a HelloRetryRequest, None for none.
        extra_extensions: Put in after the server name, as GREASE is.
        has_usual_extensions: Also the small extensions of a browser (status_request, session_ticket, ...).
        is_name_last: server_name comes after key_share, else first of all.
        padded_to_bytes: Size of the record with its header that padding fills up to; None for no padding. One
            that would end between 256 and 511 bytes is filled up to 517.
    """

    random: bytes
    session_id: bytes
    server_name: str | None
    versions: tuple[int, ...]
    cipher_suites: tuple[int, ...]
    groups: tuple[int, ...]
    shares: tuple[KeyShareEntry, ...] | None
    signature_algorithms: tuple[int, ...]
    signature_algorithms_cert: tuple[int, ...] | None = None
    cookie: bytes | None = None
    extra_extensions: tuple[Extension, ...] = ()
    has_usual_extensions: bool = True
    is_name_last: bool = False
    padded_to_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BuiltHello:
    """A ClientHello in its records, ready to send.

    Attributes:
        message: The handshake message with its 4-byte header, for the transcript.
        stream: The records.
        record_ends: Where each record ends in the stream.
        name_start: Where the host name starts in the stream, None without one.
        name_end: Where it ends.
    """

    message: bytes
    stream: bytes
    record_ends: tuple[int, ...]
    name_start: int | None
    name_end: int | None


def build_message(recipe: HelloRecipe) -> bytes:
    """Return the handshake message with its 4-byte header.

    Args:
        recipe: What it is made of.
    """
    extensions = _build_extensions(recipe)
    message = _assemble(recipe, extensions)
    if recipe.padded_to_bytes is None:
        return message
    wanted = recipe.padded_to_bytes - HEADER_BYTES
    size_bytes = max(len(message) + HEADER_BYTES, recipe.padded_to_bytes)
    if size_bytes in _AVOIDED_BYTES:
        wanted = _PAST_AVOIDED_BYTES - HEADER_BYTES
    missing = wanted - len(message) - _EXTENSION_HEADER_BYTES
    if missing < 0:
        return message
    padding = Extension(PADDING, bytes(missing))
    # A name that is to come last comes after the padding too: at the very end of the hello.
    place = len(extensions) - (recipe.is_name_last and recipe.server_name is not None)
    return _assemble(recipe, (*extensions[:place], padding, *extensions[place:]))


def frame_message(message: bytes, cuts: tuple[int, ...] = (), version: int = cp.TLS10) -> BuiltHello:
    """Put a ClientHello into records.

    Args:
        message: The handshake message.
        cuts: Offsets in the message at which a new record starts; none for one record.
        version: legacy_record_version; 0x0301 for a first hello, 0x0303 for a second.

    Returns:
        The stream with its landmarks.
    """
    edges = [0, *(cut for cut in sorted(set(cuts)) if 0 < cut < len(message)), len(message)]
    stream = b""
    ends = []
    for start, end in pairwise(edges):
        stream += Record(cp.HANDSHAKE, version, message[start:end]).build()
        ends.append(len(stream))
    name = find_name(message)
    if name is None:
        return BuiltHello(message, stream, tuple(ends), None, None)
    # Each record's header moves what comes after it.
    start, end = (_to_stream(offset, edges) for offset in (name[0], name[1] - 1))
    return BuiltHello(message, stream, tuple(ends), start, end + 1)


def find_name(message: bytes) -> tuple[int, int] | None:
    """Return where the host name lies in a ClientHello, None if it has none.

    Args:
        message: The handshake message with its 4-byte header.
    """
    hello = ClientHello.parse(message[4:])
    for extension in hello.extensions or ():
        if extension.extension_type == cp.SERVER_NAME and hello.server_name is not None:
            # list length (2), name type (1), name length (2), name
            start = 4 + extension.offset + 5
            return start, start + len(hello.server_name)
    return None


def _to_stream(offset: int, edges: list[int]) -> int:
    return offset + HEADER_BYTES * sum(1 for edge in edges[:-1] if edge <= offset)


def _assemble(recipe: HelloRecipe, extensions: tuple[Extension, ...]) -> bytes:
    body = ClientHello(
        cp.TLS12, recipe.random, recipe.session_id, recipe.cipher_suites, b"\x00", extensions or None
    ).build()
    return HandshakeMessage(cp.CLIENT_HELLO, body, len(body), 1).build()


def _build_extensions(recipe: HelloRecipe) -> tuple[Extension, ...]:
    name = () if recipe.server_name is None else (_server_name(recipe.server_name),)
    parts: list[Extension] = [] if recipe.is_name_last else [*name]
    parts += recipe.extra_extensions
    if recipe.has_usual_extensions:
        parts += [
            Extension(EXTENDED_MASTER_SECRET, b""),
            Extension(RENEGOTIATION_INFO, b"\x00"),
            Extension(EC_POINT_FORMATS, b"\x01\x00"),
            Extension(SESSION_TICKET, b""),
        ]
    parts.append(Extension(cp.SUPPORTED_GROUPS, _int_list(recipe.groups)))
    parts.append(Extension(cp.SIGNATURE_ALGORITHMS, _int_list(recipe.signature_algorithms)))
    if recipe.signature_algorithms_cert is not None:
        parts.append(Extension(SIGNATURE_ALGORITHMS_CERT, _int_list(recipe.signature_algorithms_cert)))
    if cp.TLS13 in recipe.versions:
        versions = b"".join(push_int(version, 2) for version in recipe.versions)
        parts.append(Extension(cp.SUPPORTED_VERSIONS, push_vector(versions, 1)))
        parts.append(Extension(PSK_KEY_EXCHANGE_MODES, b"\x01\x01"))
    if recipe.cookie is not None:
        parts.append(Extension(cp.COOKIE, push_vector(recipe.cookie, 2)))
    if recipe.shares is not None:
        shares = b"".join(share.build() for share in recipe.shares)
        parts.append(Extension(cp.KEY_SHARE, push_vector(shares, 2)))
    if recipe.is_name_last:
        parts += name
    return tuple(parts)


def _server_name(name: str) -> Extension:
    entry = b"\x00" + push_vector(name.encode("ascii"), 2)
    return Extension(cp.SERVER_NAME, push_vector(entry, 2))


def _int_list(values: tuple[int, ...]) -> bytes:
    return push_vector(b"".join(push_int(value, 2) for value in values), 2)
