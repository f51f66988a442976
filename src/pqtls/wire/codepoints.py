"""Names for code points: versions, alerts, signature schemes, cipher suites, extensions, message types.

Sources: the IANA TLS registries; RFC 9846 (TLS 1.3) appendix B, RFC 5246 (TLS 1.2), RFC 8701 (GREASE).
"""

from __future__ import annotations

from typing import Literal

from pqtls.wire.cipher_suites import CIPHER_SUITES
from pqtls.wire.groups import is_grease

TLS10, TLS11, TLS12, TLS13 = 0x0301, 0x0302, 0x0303, 0x0304

# Record content types.
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23

# Handshake message types.
CLIENT_HELLO, SERVER_HELLO = 1, 2
END_OF_EARLY_DATA, ENCRYPTED_EXTENSIONS = 5, 8
SERVER_KEY_EXCHANGE, FINISHED = 12, 20

# Extension types.
SERVER_NAME, SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS, ALPN = 0, 10, 13, 16
PRE_SHARED_KEY, EARLY_DATA, SUPPORTED_VERSIONS, COOKIE = 41, 42, 43, 44
KEY_SHARE, ENCRYPTED_CLIENT_HELLO = 51, 0xFE0D

# SHA-256 of "HelloRetryRequest": the ServerHello.random of a HelloRetryRequest (RFC 9846 section 4.1.3).
HELLO_RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

_VERSIONS = {0x0300: "SSLv3", TLS10: "TLSv1", TLS11: "TLSv1.1", TLS12: "TLSv1.2", TLS13: "TLSv1.3"}

_ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    117: "general_error",
    120: "no_application_protocol",
    121: "ech_required",
}

_SIGNATURE_SCHEMES = {
    0x0201: "rsa_pkcs1_sha1",
    0x0202: "dsa_sha1",
    0x0203: "ecdsa_sha1",
    0x0301: "rsa_pkcs1_sha224",
    0x0302: "dsa_sha224",
    0x0303: "ecdsa_sha224",
    0x0401: "rsa_pkcs1_sha256",
    0x0402: "dsa_sha256",
    0x0403: "ecdsa_secp256r1_sha256",
    0x0501: "rsa_pkcs1_sha384",
    0x0502: "dsa_sha384",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0601: "rsa_pkcs1_sha512",
    0x0602: "dsa_sha512",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0708: "sm2sig_sm3",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256",
    0x080A: "rsa_pss_pss_sha384",
    0x080B: "rsa_pss_pss_sha512",
    0x081A: "ecdsa_brainpoolP256r1tls13_sha256",
    0x081B: "ecdsa_brainpoolP384r1tls13_sha384",
    0x081C: "ecdsa_brainpoolP512r1tls13_sha512",
    0x0904: "mldsa44",
    0x0905: "mldsa65",
    0x0906: "mldsa87",
    0x0911: "slhdsa_sha2_128s",
    0x0912: "slhdsa_sha2_128f",
    0x0913: "slhdsa_sha2_192s",
    0x0914: "slhdsa_sha2_192f",
    0x0915: "slhdsa_sha2_256s",
    0x0916: "slhdsa_sha2_256f",
    0x0917: "slhdsa_shake_128s",
    0x0918: "slhdsa_shake_128f",
    0x0919: "slhdsa_shake_192s",
    0x091A: "slhdsa_shake_192f",
    0x091B: "slhdsa_shake_256s",
    0x091C: "slhdsa_shake_256f",
}


def _name(table: dict[int, str], code: int) -> str:
    if code in table:
        return table[code]
    return f"GREASE-0x{code:04x}" if is_grease(code) else f"0x{code:04x}"


def version_name(code: int) -> str:
    """Return a protocol version's name, such as TLSv1.3.

    Args:
        code: ProtocolVersion, 0x0304 for TLS 1.3.
    """
    return _name(_VERSIONS, code)


def alert_name(code: int) -> str:
    """Return an alert's name, such as handshake_failure.

    Args:
        code: AlertDescription, 0 to 255.
    """
    return _ALERTS.get(code, f"alert-{code}")


def signature_scheme_name(code: int) -> str:
    """Return a signature scheme's name, such as mldsa65.

    Args:
        code: SignatureScheme.
    """
    return _name(_SIGNATURE_SCHEMES, code)


def cipher_suite_name(code: int) -> str:
    """Return a cipher suite's name, such as TLS_AES_256_GCM_SHA384.

    Args:
        code: CipherSuite.
    """
    return _name(CIPHER_SUITES, code)


def legacy_kind(code: int) -> Literal["ecdhe", "dhe", "rsa", "psk", "other"]:
    """Return the key exchange of a TLS 1.2 or older cipher suite, from its registered name.

    Args:
        code: CipherSuite.
    """
    name = cipher_suite_name(code)
    if name.startswith(("TLS_ECDHE_", "TLS_ECDH_anon_")):
        return "ecdhe"
    if name.startswith(("TLS_DHE_", "TLS_DH_anon_", "TLS_PSK_DHE_")):
        return "dhe"
    if name.startswith("TLS_RSA_WITH_"):
        return "rsa"
    return "psk" if name.startswith(("TLS_PSK_", "TLS_RSA_PSK_")) else "other"


def has_psk_hint(code: int) -> bool:
    """Tell whether a suite's ServerKeyExchange starts with a psk_identity_hint (RFC 4279, RFC 5489).

    Args:
        code: CipherSuite.
    """
    return "PSK_" in cipher_suite_name(code)
