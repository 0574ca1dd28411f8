"""Private keys and certificate requests of a node, made with `cryptography` (8 MB): see ``requesting``. Pure.

Subjects and usages are those that the signers `kubernetes.io/kube-apiserver-client-kubelet` and
`kubernetes.io/kubelet-serving` accept: O=system:nodes, CN=system:node:<name>, no CA bit, and for serving at least one
DNS or IP name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def new_key() -> bytes:
    """A fresh P-256 private key as PEM (PKCS#8)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def usable(key_pem: bytes) -> bool:
    """Whether it is an elliptic curve key, and not what a crash or somebody else left in its file."""
    try:
        _private_key(key_pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        return False
    return True


def new_request(key_pem: bytes, node_name: str, names: Sequence[str] = ()) -> bytes:
    """A certificate request (PEM) for the node; `names` are DNS names and IP addresses for a serving certificate."""
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
    return builder.sign(_private_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def public_key(key_pem: bytes) -> bytes:
    """The SubjectPublicKeyInfo (DER) of a private key."""
    return (
        _private_key(key_pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
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
