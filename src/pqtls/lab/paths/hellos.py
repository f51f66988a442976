"""ClientHellos as boxes and servers see them: is it whole, and is there something in it that they do not bear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.wire.buffer import Reader
from pqtls.wire.client_hello import ClientHello
from pqtls.wire.errors import MalformedError
from pqtls.wire.extensions import find_extension
from pqtls.wire.groups import group_kind, is_grease
from pqtls.wire.hello_builder import SIGNATURE_ALGORITHMS_CERT
from pqtls.wire.records import HEADER_BYTES

if TYPE_CHECKING:
    from pqtls.lab.paths.scenario import Dislike, HelloField

_MAX_STREAM_BYTES = 65_536
_HANDSHAKE = 22


@dataclass(frozen=True, slots=True)
class WholeHello:
    """A ClientHello that has come whole.

    Attributes:
        hello: What is in it.
        first_record_bytes: Size of its first record, header included.
        size_bytes: Size of all its records.
    """

    hello: ClientHello
    first_record_bytes: int
    size_bytes: int


def find_hello(stream: bytes) -> WholeHello | None:
    """Return the ClientHello at the start of a stream; None while it is not whole.

    Args:
        stream: What has come.

    Raises:
        MalformedError: This is no ClientHello.
    """
    message = b""
    position = first_bytes = 0
    while position + HEADER_BYTES <= len(stream):
        if stream[position] != _HANDSHAKE or len(stream) > _MAX_STREAM_BYTES:
            raise MalformedError("no ClientHello", position, "record")
        size = int.from_bytes(stream[position + 3 : position + 5], "big")
        end = position + HEADER_BYTES + size
        if end > len(stream):
            return None
        message += stream[position + HEADER_BYTES : end]
        position = end
        first_bytes = first_bytes or position
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            return WholeHello(ClientHello.parse(message[4:]), first_bytes, position)
    return None


def is_disliked(hello: ClientHello, dislike: Dislike) -> bool:
    """Tell whether something in a hello is not borne.

    Args:
        hello: The hello.
        dislike: What is not.
    """
    return any(_is_bad(_codes(hello, name), dislike) for name in dislike.fields)


def _is_bad(codes: tuple[int, ...], dislike: Dislike) -> bool:
    if dislike.count is not None and len(codes) > dislike.count:
        return True
    if dislike.known is not None and set(codes) - set(dislike.known):
        return True
    return bool(set(codes) & set(dislike.codes)) or (dislike.has_grease and any(map(is_grease, codes)))


def _codes(hello: ClientHello, name: HelloField) -> tuple[int, ...]:
    shares = tuple(share.group for share in hello.key_shares or ())
    found: dict[HelloField, tuple[int, ...]] = {
        "groups": hello.supported_groups,
        "shares": shares,
        "hybrid-shares": tuple(group for group in shares if group_kind(group) == "hybrid"),
        "ciphers": hello.cipher_suites,
        "extensions": tuple(each.extension_type for each in hello.extensions or ()),
        "versions": hello.supported_versions,
        "signatures": hello.signature_algorithms,
        "certificate-signatures": _certificate_schemes(hello),
    }
    return found[name]


def _certificate_schemes(hello: ClientHello) -> tuple[int, ...]:
    extension = find_extension(hello.extensions, SIGNATURE_ALGORITHMS_CERT)
    if extension is None:
        return ()
    return Reader(extension.data, 0, "signature_algorithms_cert").pull_int_list(2, "schemes")
