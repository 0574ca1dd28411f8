"""Certificates and requests for them whose bytes no library makes, as ``spec.request`` and ``status.certificate``."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_KEY = ec.generate_private_key(ec.SECP256R1())
_NOBODY = x509.Name([])
_ENDS = b"21500101000000Z"
_P256 = bytes.fromhex("06082a8648ce3d030107")


def _field(der: bytes, kind: str) -> str:
    text = f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n"
    return base64.b64encode(text.encode()).decode()


def certificate(*, version: int = 3, ends: bytes = _ENDS) -> str:
    """A certificate that ends (as the bytes of a GeneralizedTime say) when nothing does."""
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    ending = datetime(2150, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(_NOBODY, _NOBODY, _KEY.public_key(), 1, begins, ending).sign(_KEY, hashes.SHA256())
    der = made.public_bytes(serialization.Encoding.DER)
    der = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01%c" % (version - 1), 1).replace(_ENDS, ends)
    return _field(der, "CERTIFICATE")


def signing_request(*, version: int = 1, curve: int = 7) -> str:
    """A request; the curves of X9.62 have numbers, 7 is P-256."""
    made = x509.CertificateSigningRequestBuilder(_NOBODY).sign(_KEY, hashes.SHA256())
    der = made.public_bytes(serialization.Encoding.DER)
    der = der.replace(b"\x02\x01\x00", b"\x02\x01%c" % (version - 1), 1).replace(_P256, _P256[:-1] + bytes([curve]))
    return _field(der, "CERTIFICATE REQUEST")


def request_of_no_text() -> str:
    """A request, properly signed, whose organization is no UTF-8."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "text")])
    made = x509.CertificateSigningRequestBuilder(subject).sign(_KEY, hashes.SHA256())
    told = made.tbs_certrequest_bytes.replace(b"text", b"\xff\xfe\xff\xfe")
    signature = _KEY.sign(told, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    parts = told + algorithm + b"\x03%c\x00" % (len(signature) + 1) + signature
    return _field(b"\x30\x81%c" % len(parts) + parts, "CERTIFICATE REQUEST")
