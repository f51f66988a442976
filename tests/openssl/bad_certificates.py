"""Certificates that must be refused, each wrong in one way, and what is needed to see it; and good ones."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

HOST = "localhost"
NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
SHA256_WITH_RSA, SHA1_WITH_RSA = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Case:
    """What an end presents, and how it has to be refused.

    Attributes:
        name: Of the case, and of its file.
        verify_code: OpenSSL's X509_V_ERR_ number; 0 for one that must be accepted.
        with_crl: The other end checks the list of revoked certificates: "" for no check, else which list.
        roles: Who can present it: "server", "client".
    """

    name: str
    verify_code: int
    with_crl: str = ""
    roles: tuple[str, ...] = ("server",)


BOTH = ("server", "client")
CASES = (
    Case("good", 0, roles=BOTH),
    Case("good-by-intermediate", 0, roles=BOTH),
    Case("good-not-revoked", 0, "crl", BOTH),
    Case("good-rsa", 0, roles=BOTH),
    Case("expired", 10, roles=BOTH),
    Case("not-yet-valid", 9, roles=BOTH),
    Case("wrong-host", 62),
    Case("host-in-common-name-alone", 0),
    Case("self-signed", 18, roles=BOTH),
    Case("untrusted-root", 20, roles=BOTH),
    Case("untrusted-root-sent", 19, roles=BOTH),
    Case("missing-intermediate", 20, roles=BOTH),
    Case("expired-intermediate", 10, roles=BOTH),
    Case("wrong-purpose", 26, roles=BOTH),
    Case("revoked", 23, "crl", BOTH),
    Case("revocation-unknown", 3, "none", BOTH),
    Case("old-revocation-list", 12, "old", BOTH),
    Case("issuer-is-no-ca", 79, roles=BOTH),
    Case("issuer-may-not-sign", 79, roles=BOTH),
    Case("path-too-long", 25, roles=BOTH),
    Case("outside-name-constraints", 47, roles=BOTH),
    Case("unknown-critical-extension", 34, roles=BOTH),
    Case("tampered", 7, roles=BOTH),
    Case("short-key", 66, roles=BOTH),
    Case("sha1-signature", 68, roles=BOTH),
)


@dataclass
class Authority:
    """One that issues certificates, well-formed by the strict rules that Python 3.13 asks for."""

    name: x509.Name
    key: Key
    certificate: x509.Certificate | None = None
    chain: list[x509.Certificate] = field(default_factory=list)

    def sign(
        self,
        common_name: str,
        key: Key,
        *,
        is_ca: bool = False,
        path_length: int | None = None,
        days: tuple[int, int] = (-30, 30),
        hosts: tuple[str, ...] = (HOST,),
        purpose: x509.ObjectIdentifier | None = None,
        may_sign: bool | None = None,
        more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    ) -> x509.Certificate:
        may_sign = is_ca if may_sign is None else may_sign
        subject = make_name(common_name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_ca or not may_sign,
                    key_cert_sign=may_sign,
                    crl_sign=may_sign,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if not is_ca:
            purposes = [purpose] if purpose else [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            if hosts:
                names = [x509.DNSName(host) for host in hosts]
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        for extension, is_critical in more:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self.key, hashes.SHA256())

    def revoke(self, certificate: x509.Certificate, days: tuple[int, int] = (-10, 10)) -> bytes:
        revoked = (
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(NOW - 5 * DAY)
            .build()
        )
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(NOW + days[0] * DAY)
            .next_update(NOW + days[1] * DAY)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_revoked_certificate(revoked)
            .sign(self.key, hashes.SHA256())
        )
        return crl.public_bytes(serialization.Encoding.PEM)

    def subordinate(
        self,
        common_name: str,
        *,
        is_ca: bool = True,
        path_length: int | None = None,
        days: tuple[int, int] = (-30, 30),
        may_sign: bool | None = None,
        more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    ) -> Authority:
        key = make_key()
        certificate = self.sign(
            common_name, key, is_ca=is_ca, path_length=path_length, days=days, may_sign=may_sign, more=more
        )
        return Authority(make_name(common_name), key, certificate, [certificate, *self.chain])


def make_name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_root(common_name: str, key: Key | None = None) -> Authority:
    authority = Authority(make_name(common_name), key or make_key())
    authority.certificate = authority.sign(common_name, authority.key, is_ca=True)
    return authority


def make_all(folder: Path) -> None:
    """Write `NAME.pem` (key and chain) for each case, `ca.pem`, and the lists `crl.pem` and `old.pem`."""
    root = make_root("the root")
    rsa_root = make_root("the RSA root", rsa.generate_private_key(65537, 2048))
    assert root.certificate
    assert rsa_root.certificate
    write(folder / "ca.pem", root.certificate, rsa_root.certificate)
    intermediate = root.subordinate("intermediate")
    purposes = {"server": ExtendedKeyUsageOID.CLIENT_AUTH, "client": ExtendedKeyUsageOID.SERVER_AUTH}

    def put(name: str, issuer: Authority = root, key: Key | None = None, *, sends: bool = True, **how: object) -> None:
        key = key or make_key()
        leaf = issuer.sign(HOST, key, **how)  # type: ignore[arg-type]
        write(folder / f"{name}.pem", leaf, *(issuer.chain if sends else ()), key=key)

    put("good")
    put("good-by-intermediate", intermediate)
    put("good-not-revoked")
    put("good-rsa", rsa_root, rsa.generate_private_key(65537, 2048))
    put("expired", days=(-30, -1))
    put("not-yet-valid", days=(1, 30))
    put("wrong-host", hosts=("other.example",))
    put("host-in-common-name-alone", hosts=())
    alone = Authority(make_name(HOST), make_key())
    write(folder / "self-signed.pem", alone.sign(HOST, alone.key), key=alone.key)
    stranger = make_root("a root that nobody trusts")
    put("untrusted-root", stranger)
    assert stranger.certificate
    stranger.chain = [stranger.certificate]
    put("untrusted-root-sent", stranger)
    put("missing-intermediate", intermediate, sends=False)
    put("expired-intermediate", root.subordinate("expired intermediate", days=(-30, -1)))
    for role, purpose in purposes.items():
        put("wrong-purpose" if role == "server" else "wrong-purpose-client", purpose=purpose)
    revoked_key = make_key()
    revoked = root.sign(HOST, revoked_key)
    write(folder / "revoked.pem", revoked, key=revoked_key)
    (folder / "crl.pem").write_bytes(root.revoke(revoked))
    (folder / "old.pem").write_bytes(root.revoke(revoked, (-10, -1)))
    put("revocation-unknown")
    put("old-revocation-list")
    put("issuer-is-no-ca", root.subordinate("no authority", is_ca=False, may_sign=False))
    put("issuer-may-not-sign", root.subordinate("may not sign", may_sign=False))
    put("path-too-long", root.subordinate("last", path_length=0).subordinate("one too many"))
    elsewhere = x509.NameConstraints([x509.DNSName("example.com")], None)
    put("outside-name-constraints", root.subordinate("for example.com", more=((elsewhere, True),)))
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    put("unknown-critical-extension", more=((unknown, True),))
    key = make_key()
    der = root.sign(HOST, key).public_bytes(serialization.Encoding.DER)
    write(folder / "tampered.pem", x509.load_der_x509_certificate(der.replace(b"localhost", b"localhosT", 1)), key=key)
    put("short-key", rsa_root, rsa.generate_private_key(65537, 1024))  # noqa: S505 - that is the case
    key = make_key()
    write(folder / "sha1-signature.pem", with_sha1(rsa_root.sign(HOST, key), rsa_root.key), key=key)


def with_sha1(certificate: x509.Certificate, key: Key) -> x509.Certificate:
    """Sign a certificate anew, as was usual until 2015; `cryptography` would not."""
    assert isinstance(key, rsa.RSAPrivateKey)
    body = certificate.tbs_certificate_bytes.replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    signature = key.sign(body, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    der = certificate.public_bytes(serialization.Encoding.DER)
    der = der.replace(certificate.tbs_certificate_bytes, body).replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    return x509.load_der_x509_certificate(der.replace(certificate.signature, signature))


def write(path: Path, *certificates: x509.Certificate, key: Key | None = None) -> None:
    data = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)
    if key is not None:
        data = (
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + data
        )
    path.write_bytes(data)
