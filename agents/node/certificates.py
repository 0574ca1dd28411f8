"""Keys, certificate requests and certificates of a node. Pure: bytes in, bytes and facts out.

Subjects and usages are those that the signers `kubernetes.io/kube-apiserver-client-kubelet` and
`kubernetes.io/kubelet-serving` accept: O=system:nodes, CN=system:node:<name>, no CA bit, and for serving at least one
DNS or IP name.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
CLIENT_USAGES = ("digital signature", "client auth")
SERVING_USAGES = ("digital signature", "server auth")


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What the agent decides by: whose certificate, for which names, and from when until when (UTC) it is good."""

    common_name: str
    names: frozenset[str]
    not_before: datetime
    not_after: datetime

    def renew_at(self) -> datetime:
        """Between 70 % and 90 % of the lifetime, as client-go spreads renewals; the same moment at every call."""
        spread = hashlib.sha256(f"{self.common_name}{self.not_after}".encode()).digest()[0] / 255
        return self.not_before + (self.not_after - self.not_before) * (0.7 + 0.2 * spread)


def new_key() -> bytes:
    """A fresh P-256 private key as PEM (PKCS#8)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_request(key_pem: bytes, node_name: str, names: Sequence[str] = ()) -> bytes:
    """A certificate request (PEM) for the node; `names` are DNS names and IP addresses for a serving certificate."""
    key = _private_key(key_pem)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node_name}"),
            ]
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def request_name(key_pem: bytes, node_name: str, signer: str, names: Sequence[str] = ()) -> str:
    """Name of the CertificateSigningRequest: the same key and purpose give the same name, so asking twice is one."""
    public = (
        _private_key(key_pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    digest = hashlib.sha256(b"\0".join([public, node_name.encode(), signer.encode(), ",".join(names).encode()]))
    return f"node-csr-{digest.hexdigest()[:40]}"


def read_certificate(pem: bytes) -> CertificateFacts:
    """Facts of the first certificate in `pem`; raises ValueError when there is none."""
    certificate = x509.load_pem_x509_certificate(pem)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    names: set[str] = set()
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names.update(alternative.get_values_for_type(x509.DNSName))
        names.update(str(ip) for ip in alternative.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        pass
    return CertificateFacts(
        common_name=str(common[0].value) if common else "",
        names=frozenset(names),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def key_fits(certificate_pem: bytes, key_pem: bytes) -> bool:
    """True when the certificate was issued for this key."""
    return x509.load_pem_x509_certificate(certificate_pem).public_key() == _private_key(key_pem).public_key()


def public_key_hashes(ca_pem: bytes) -> frozenset[str]:
    """SHA-256 (hex) of the SubjectPublicKeyInfo of every certificate in a CA bundle: what a join token pins."""
    return frozenset(
        hashlib.sha256(
            certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        ).hexdigest()
        for certificate in x509.load_pem_x509_certificates(ca_pem)
    )


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"an elliptic curve key is needed, not {type(key).__name__}")
    return key


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
