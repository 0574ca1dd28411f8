"""Keys that verify tokens of service accounts, as files have them.

Reference: k8s.io/client-go ``util/keyutil`` (ParsePublicKeysPEM), k8s.io/kubernetes ``pkg/serviceaccount``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from orca.api.objects import Obj

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)
_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def public_keys(path: Path) -> list[PublicKey]:
    """All of a PEM file: of public and private keys and certificates, RSA's and those of elliptic curves. Raises
    OSError, ValueError for a file without any."""
    found = [key for block in _BLOCK.finditer(path.read_bytes()) if (key := _public(block[1], block[0])) is not None]
    if not found:
        raise ValueError(f"{path}: data does not contain any valid RSA or ECDSA public keys")
    return found


def _public(kind: bytes, block: bytes) -> PublicKey | None:
    """What is of another kind is passed over."""
    try:
        key: Any
        if kind.endswith(b"PRIVATE KEY"):
            key = serialization.load_pem_private_key(block, None).public_key()
        elif kind == b"CERTIFICATE":
            key = x509.load_pem_x509_certificate(block).public_key()
        else:
            key = serialization.load_pem_public_key(block)
    except (TypeError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None
    return key if isinstance(key, rsa.RSAPublicKey) or (_is_curve(key) and key.curve.name in _BY_CURVE) else None


def _is_curve(key: Any) -> bool:
    return isinstance(key, ec.EllipticCurvePublicKey)


def key_id_of(key: PublicKey) -> str:
    """Hash of the public key, as upstream derives it."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(info).digest()).rstrip(b"=").decode()


def algorithm_of(key: PublicKey) -> str:
    """How it signs."""
    return "RS256" if isinstance(key, rsa.RSAPublicKey) else _BY_CURVE[key.curve.name]


def jwk(key: PublicKey) -> Obj:
    """As a key set has it."""
    if isinstance(key, rsa.RSAPublicKey):
        entry: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
    else:
        entry = jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
    entry.pop("key_ops", None)
    return {**entry, "use": "sig", "alg": algorithm_of(key), "kid": key_id_of(key)}
