"""Named groups: code points, names, sizes and kinds. The one table that everything else asks.

Sources: the IANA TLS Supported Groups registry; RFC 9846 section 4.2.8; RFC 10024 (hybrids with ML-KEM);
draft-ietf-tls-mlkem-11 (pure ML-KEM); draft-rosomakho-tls-ecdhe-mlkem512; draft-yang-tls-hybrid-sm2-mlkem; and the
sources of OQS, wolfSSL, Cloudflare's Go fork and s2n for code points outside the registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["classical", "hybrid", "pure", "draft", "experimental"]


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """One named group.

    Attributes:
        code: Code point.
        name: IANA's name, or its implementers' where IANA has none.
        kind: "hybrid" and "pure" have ML-KEM in them and a registered code point; "draft" are obsolete
            pre-standard groups; "experimental" have ML-KEM but a private code point that others may use otherwise.
        client_share_bytes: Size of the client's key_exchange, None if it is not fixed or not known.
        server_share_bytes: Size of the server's.
        note: What a reader should know, "" if nothing.
    """

    code: int
    name: str
    kind: Kind
    client_share_bytes: int | None
    server_share_bytes: int | None
    note: str = ""


def _classical(code: int, name: str, size: int | None) -> NamedGroup:
    return NamedGroup(code, name, "classical", size, size)


_TABLE = (
    _classical(0x0013, "secp192r1", None),
    _classical(0x0015, "secp224r1", None),
    _classical(0x0016, "secp256k1", None),
    _classical(0x0017, "secp256r1", 65),
    _classical(0x0018, "secp384r1", 97),
    _classical(0x0019, "secp521r1", 133),
    _classical(0x001A, "brainpoolP256r1", None),
    _classical(0x001B, "brainpoolP384r1", None),
    _classical(0x001C, "brainpoolP512r1", None),
    _classical(0x001D, "x25519", 32),
    _classical(0x001E, "x448", 56),
    _classical(0x001F, "brainpoolP256r1tls13", 65),
    _classical(0x0020, "brainpoolP384r1tls13", 97),
    _classical(0x0021, "brainpoolP512r1tls13", 129),
    _classical(0x0022, "GC256A", None),
    _classical(0x0023, "GC256B", None),
    _classical(0x0024, "GC256C", None),
    _classical(0x0025, "GC256D", None),
    _classical(0x0026, "GC512A", None),
    _classical(0x0027, "GC512B", None),
    _classical(0x0028, "GC512C", None),
    _classical(0x0029, "curveSM2", 65),
    _classical(0x0100, "ffdhe2048", 256),
    _classical(0x0101, "ffdhe3072", 384),
    _classical(0x0102, "ffdhe4096", 512),
    _classical(0x0103, "ffdhe6144", 768),
    _classical(0x0104, "ffdhe8192", 1024),
    NamedGroup(0x0200, "MLKEM512", "pure", 800, 768, "draft-ietf-tls-mlkem"),
    NamedGroup(0x0201, "MLKEM768", "pure", 1184, 1088, "draft-ietf-tls-mlkem"),
    NamedGroup(0x0202, "MLKEM1024", "pure", 1568, 1568, "draft-ietf-tls-mlkem"),
    NamedGroup(0x11E9, "SecP256r1MLKEM512", "hybrid", 865, 833, "draft-rosomakho-tls-ecdhe-mlkem512"),
    NamedGroup(0x11EA, "MLKEM512X25519", "hybrid", 832, 800, "draft-rosomakho-tls-ecdhe-mlkem512"),
    NamedGroup(0x11EB, "SecP256r1MLKEM768", "hybrid", 1249, 1153, "RFC 10024; the ECDH part comes first"),
    NamedGroup(0x11EC, "X25519MLKEM768", "hybrid", 1216, 1120, "RFC 10024; the ML-KEM part comes first"),
    NamedGroup(0x11ED, "SecP384r1MLKEM1024", "hybrid", 1665, 1665, "RFC 10024; the ECDH part comes first"),
    NamedGroup(0x11EE, "curveSM2MLKEM768", "hybrid", 1249, 1153, "draft-yang-tls-hybrid-sm2-mlkem"),
    NamedGroup(0x6399, "X25519Kyber768Draft00", "draft", 1216, 1120, "obsolete; Chrome 116 to 130"),
    NamedGroup(0x639A, "SecP256r1Kyber768Draft00", "draft", 1249, 1153, "obsolete"),
    NamedGroup(0x4138, "CECPQ2", "draft", None, None, "obsolete experiment: X25519 with HRSS-701"),
    NamedGroup(
        0xFE30,
        "X25519Kyber512Draft00",
        "draft",
        None,
        None,
        "Cloudflare; the code point is also an OQS Frodo group's",
    ),
    NamedGroup(
        0xFE31,
        "X25519Kyber768Draft00Old",
        "draft",
        None,
        None,
        "Cloudflare; the code point is also an OQS Frodo group's",
    ),
    NamedGroup(
        0xFE32,
        "P256Kyber768Draft00",
        "draft",
        None,
        None,
        "Cloudflare; the code point is also an OQS Frodo group's",
    ),
    NamedGroup(0x2F0F, "SecP256r1Kyber512Round2", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F26, "X25519Kyber512Round2", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F39, "X25519Kyber512Round3", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F3A, "SecP256r1Kyber512Round3", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F1F, "SecP256r1SIKEp434", "draft", None, None, "obsolete and broken; s2n"),
    NamedGroup(0x2F27, "X25519SIKEp434", "draft", None, None, "obsolete and broken; s2n"),
    NamedGroup(0x2F23, "SecP256r1BIKE1", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F28, "X25519BIKE1", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F37, "X25519BIKE1Round3", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F38, "SecP256r1BIKE1Round3", "draft", None, None, "obsolete; s2n"),
    NamedGroup(0x2F4B, "p256_mlkem512", "experimental", 865, 833, "OQS and wolfSSL"),
    NamedGroup(0x2F4C, "p384_mlkem768", "experimental", 1281, 1185, "OQS and wolfSSL"),
    NamedGroup(0x2F4D, "p521_mlkem1024", "experimental", 1701, 1701, "OQS and wolfSSL"),
    NamedGroup(0x2FB6, "x25519_mlkem512", "experimental", 832, 800, "OQS and wolfSSL"),
    NamedGroup(0x2FB7, "x448_mlkem768", "experimental", 1240, 1144, "OQS and wolfSSL"),
    NamedGroup(0xFE20, "bp256_mlkem512", "experimental", None, None, "OQS"),
    NamedGroup(0xFE21, "bp384_mlkem768", "experimental", None, None, "OQS"),
    NamedGroup(0xFE22, "bp512_mlkem1024", "experimental", None, None, "OQS"),
)

GROUPS: dict[int, NamedGroup] = {group.code: group for group in _TABLE}

# OpenSSL's and NIST's names, taken as input only.
_ALIASES = {
    "p-256": 0x0017,
    "prime256v1": 0x0017,
    "p-384": 0x0018,
    "p-521": 0x0019,
    "k-256": 0x0016,
}
_CODES = {group.name.lower(): group.code for group in _TABLE} | _ALIASES


def is_grease(code: int) -> bool:
    """Tell whether a 16-bit code point is one of GREASE's (RFC 8701): 0x0a0a, 0x1a1a, ... 0xfafa.

    Args:
        code: Code point of a group, cipher suite, extension or version.
    """
    return code & 0x0F0F == 0x0A0A and code >> 8 == code & 0xFF


def group_name(code: int) -> str:
    """Return a group's name; `0x11ef` for one without a name and `GREASE-0x1a1a` for GREASE.

    Args:
        code: Code point.
    """
    group = GROUPS.get(code)
    if group is not None:
        return group.name
    return f"GREASE-0x{code:04x}" if is_grease(code) else f"0x{code:04x}"


def group_code(name: str) -> int:
    """Return a group's code point.

    Args:
        name: IANA's or OpenSSL's name in any case, or `0x11ec`.

    Raises:
        KeyError: The name is not known.
    """
    lowered = name.strip().lower()
    if lowered.startswith("0x"):
        try:
            code = int(lowered, 16)
        except ValueError:
            raise KeyError(name) from None
        if code <= 0xFFFF:
            return code
        raise KeyError(name)
    return _CODES[lowered]


def group_kind(code: int) -> Kind | Literal["grease", "unknown"]:
    """Return what kind of group a code point stands for.

    Args:
        code: Code point.
    """
    group = GROUPS.get(code)
    if group is not None:
        return group.kind
    return "grease" if is_grease(code) else "unknown"
