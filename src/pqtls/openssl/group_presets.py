"""Group lists by name, for `--groups`: what people mean, in the words of OpenSSL 3.5.

In a list, `*` asks for a key share in the first ClientHello (without any, the first group alone gets one), and `/`
parts the groups that a server prefers from the next best. A preset without a classical group also leaves out TLS
1.2, in which there is no ML-KEM: a group list has no say over its RSA and finite-field key exchanges.

Source: OpenSSL's SSL_CTX_set1_groups_list(3) and SSL_CONF_cmd(3), 3.5; tests/openssl/test_group_presets.py reads
what each puts on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeldGroups:
    """What a process is held to.

    Attributes:
        groups: A list in OpenSSL's syntax.
        is_tls13_only: Older versions are left out too.
    """

    groups: str
    is_tls13_only: bool = False


PRESETS = {
    # OpenSSL 3.5's own list, without the marks that let an older one leave groups out in silence.
    "default": HeldGroups("*X25519MLKEM768 / *X25519:secp256r1 / X448:secp384r1:secp521r1 / ffdhe2048:ffdhe3072"),
    "hybrid-only": HeldGroups("X25519MLKEM768 / SecP256r1MLKEM768 / SecP384r1MLKEM1024", is_tls13_only=True),
    "level5": HeldGroups("SecP384r1MLKEM1024 / MLKEM1024", is_tls13_only=True),
    "mlkem1024": HeldGroups("MLKEM1024", is_tls13_only=True),
}
"""Name to what it stands for. X448MLKEM1024 is in none: OpenSSL 3.5 does not have it."""


def resolve_groups(value: str) -> HeldGroups:
    """Return what `--groups` stands for.

    Args:
        value: A preset's name, in any case, or a list in OpenSSL's syntax.

    Returns:
        The preset, or the list as it is.
    """
    return PRESETS.get(value.strip().lower(), HeldGroups(value))
