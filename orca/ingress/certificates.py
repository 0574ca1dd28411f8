"""TLS pairs and lists of users from Secrets, judged before nginx sees them: one bad Secret must not stop the others."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
from datetime import timedelta

from orca.api.objects import Obj
from orca.client.clock import Clock
from orca.client.kubeconfig import use_certificate
from orca.ingress.model import Certificate, Users

FAKE = "Kubernetes Ingress Controller Fake Certificate"
"""The name on the certificate for hosts that have none, as ingress-nginx's."""


def certificate(secret: Obj | None, name: str) -> Certificate | str:
    """The pair of Secret ``name``, or why it is of no use. What OpenSSL would not load is of no use."""
    if secret is None:
        return f"there is no Secret {name!r}"
    try:
        chain, private_key = (_content(secret, part) for part in ("tls.crt", "tls.key"))
    except ValueError as missing:
        return f"Secret {name!r} {missing}"
    try:
        use_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain, private_key)
        names, expires = _told(chain)
    except (ssl.SSLError, OSError, ValueError) as error:
        return f"Secret {name!r} has no usable certificate and key: {error}"
    pem = chain.rstrip() + b"\n" + private_key.rstrip() + b"\n"
    return Certificate(f"{hashlib.sha256(pem).hexdigest()[:32]}.pem", pem, names, expires)


def users(secret: Obj | None, name: str, by_user: bool) -> Users | str:
    """The users of Secret ``name``: its key ``auth`` as htpasswd writes files or, ``by_user``, a key a user."""
    if secret is None:
        return f"there is no Secret {name!r}"
    try:
        if by_user:
            lines = [user.encode() + b":" + _content(secret, user).strip() for user in sorted(secret.get("data") or {})]
            content = b"\n".join(lines) + b"\n"
        else:
            content = _content(secret, "auth")
    except ValueError as missing:
        return f"Secret {name!r} {missing}"
    if not content.strip():
        return f"Secret {name!r} has no users"
    return Users(hashlib.sha256(content).hexdigest()[:32], content)


def self_signed(clock: Clock) -> bytes:
    """A pair for `FAKE`, certificate first, good for a year."""
    # Heavy, and needed at the start only: callers do this in a process of its own.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme Co"), x509.NameAttribute(NameOID.COMMON_NAME, FAKE)]
    )
    now = clock.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ingress.local")]), critical=False)
        .sign(private_key, hashes.SHA256())
    )
    written = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM) + written


def _content(secret: Obj, part: str) -> bytes:
    value = (secret.get("data") or {}).get(part)
    if not value:
        raise ValueError(f"has no {part!r}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"has a {part!r} that is not base64") from None


def _told(chain: bytes) -> tuple[tuple[str, ...], float]:
    """The names a certificate is good for, and when it ends."""
    from cryptography import x509  # only who uses TLS pays for it
    from cryptography.x509.oid import NameOID

    found = x509.load_pem_x509_certificates(chain)[0]
    try:
        alternative = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternative.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = [str(one.value) for one in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(name.lower() for name in names), found.not_valid_after_utc.timestamp()


class Secrets:
    """What was read of Secrets, by version: reading a key takes a while."""

    def __init__(self) -> None:
        self._certificates: dict[str, tuple[str, Certificate | str]] = {}

    def certificate(self, secret: Obj | None, name: str) -> Certificate | str:
        """As `certificate`."""
        if secret is None:
            self._certificates.pop(name, None)
            return certificate(None, name)
        version = f"{secret['metadata'].get('uid')} {secret['metadata'].get('resourceVersion')}"
        known = self._certificates.get(name)
        if known is None or known[0] != version:
            known = self._certificates[name] = (version, certificate(secret, name))
        return known[1]

    def forget_all_but(self, names: set[str] | frozenset[str]) -> None:
        """What no Ingress names any more."""
        for gone in self._certificates.keys() - names:
            del self._certificates[gone]
