"""What a server's certificate says. It is read, not verified, unless roots are given: an issuer is a claim here."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import warnings
from typing import TYPE_CHECKING

from pqtls.probe.model import CertificateFacts

if TYPE_CHECKING:
    from cryptography import x509

_MAX_TEXT = 200
_MAX_NAMES = 20


def read_certificates(
    chain: list[bytes], server_name: str | None, store: x509.verification.Store | None = None
) -> CertificateFacts | None:
    """Return what the certificates say, None if there are none.

    Args:
        chain: DER certificates as sent, the leaf first; may be anything.
        server_name: The name that was asked for.
        store: Roots to verify against; None to verify nothing.
    """
    if not chain:
        return None
    from cryptography import x509

    digest = hashlib.sha256(chain[0]).hexdigest()
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        subject, issuer = (part.rfc4514_string()[:_MAX_TEXT] for part in (leaf.subject, leaf.issuer))
        names = _names(leaf)
    except (ValueError, TypeError):
        return CertificateFacts(digest, "unreadable", "unreadable", (), None, None, len(chain))
    covers = None if server_name is None else any(_matches(name, server_name) for name in names)
    is_trusted = None if store is None else _verify(chain, server_name, store)
    return CertificateFacts(digest, subject, issuer, names[:_MAX_NAMES], covers, is_trusted, len(chain))


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = [name[:_MAX_TEXT] for name in found.get_values_for_type(x509.DNSName)]
    return (*names, *map(str, found.get_values_for_type(x509.IPAddress)))


def _matches(pattern: str, name: str) -> bool:
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:] and bool(name.partition(".")[0])
    return pattern == name


def _verify(chain: list[bytes], server_name: str | None, store: x509.verification.Store) -> bool:
    from cryptography import x509
    from cryptography.x509 import verification

    if server_name is None:
        return False
    try:
        subject: x509.GeneralName
        try:
            subject = x509.IPAddress(ipaddress.ip_address(server_name))
        except ValueError:
            subject = x509.DNSName(server_name)
        verifier = verification.PolicyBuilder().store(store).build_server_verifier(subject)
        certificates = [x509.load_der_x509_certificate(each) for each in chain]
        verifier.verify(certificates[0], certificates[1:])
    except (verification.VerificationError, ValueError, TypeError):
        return False
    return True


def load_system_roots() -> x509.verification.Store | None:
    """Return the roots that Python's ssl would use by default; None if there are none."""
    import ssl
    from pathlib import Path

    from cryptography import x509
    from cryptography.x509 import verification

    path = ssl.get_default_verify_paths().cafile
    if not path:
        return None
    roots = []
    for block in Path(path).read_bytes().split(b"-----END CERTIFICATE-----"):
        start = block.find(b"-----BEGIN CERTIFICATE-----")
        if start < 0:
            continue
        # Old roots break rules that the library warns of; one that it cannot read is no reason to have none.
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")
            roots.append(x509.load_pem_x509_certificate(block[start:] + b"-----END CERTIFICATE-----\n"))
    return verification.Store(roots) if roots else None
