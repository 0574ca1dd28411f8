"""Certificates of the test server's CA, and of others."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_numbers = itertools.count(1)


def subject(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    """O=…,CN=…"""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    return x509.Name([*parts, *([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])])


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key, PKCS 8."""
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


@dataclass(frozen=True)
class Authority:
    """A CA. ``issue`` writes files for :func:`client_tls`."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    directory: Path

    @classmethod
    def of_cluster(cls, pki: Path, directory: Path) -> Authority:
        """The server's own."""
        key = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes()), key, directory)

    @classmethod
    def foreign(cls, directory: Path, name: str = "kubernetes") -> Authority:
        """Another one, which may even have the same name."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject(name))
            .issuer_name(subject(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        return cls(built.sign(key, hashes.SHA256()), key, directory)

    def issue(
        self,
        common_name: str,
        organizations: Sequence[str] = (),
        *,
        starts: timedelta = timedelta(minutes=-5),
        ends: timedelta = timedelta(hours=1),
        usages: Sequence[x509.ObjectIdentifier] = (CLIENT,),
    ) -> Path:
        """One file with certificate and key; ``starts`` and ``ends`` count from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(common_name, organizations))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        signed = builder.sign(self.key, hashes.SHA256())
        path = self.directory / f"client-{next(_numbers)}.pem"
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + pem(key))
        return path


def client_tls(identity: Path | None = None) -> ssl.SSLContext:
    """For a client that trusts any server, with a certificate or without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(identity)
    return context


def signing_request(common_name: str, organizations: Sequence[str] = (), hosts: Sequence[str] = ()) -> bytes:
    """A certificate signing request, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(common_name, organizations))
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in hosts]), critical=False
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
