"""The cluster's keys and certificates: made once, renewed when they near their end or no longer fit.

Files are named as kubeadm names them. Keys are EC P-256 (service accounts: RSA 2048, as clients expect RS256) and
readable by their owner only; every file is replaced atomically.
"""

import ipaddress
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orca.client.clock import Clock, SystemClock

CA_YEARS = 10
LEAF_DAYS = 365
RENEW_DAYS = 60
_BACKDATE = timedelta(minutes=5)
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate's file and its key's."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class PkiPaths:
    """Where everything is."""

    ca: Pair
    apiserver: Pair
    kubelet_client: Pair
    admin: Pair
    front_proxy_ca: Pair
    front_proxy_client: Pair
    service_account_key: Path
    service_account_public: Path


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What a certificate must say."""

    common_name: str
    organization: str
    usages: tuple[x509.ObjectIdentifier, ...]
    hosts: tuple[str, ...] = ()


def service_names() -> list[str]:
    """Names under which pods and people reach the API server."""
    stem = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    return [*stem, "localhost", "127.0.0.1", "::1"]


def ensure_pki(directory: str | Path, hosts: Sequence[str], *, clock: Clock | None = None) -> PkiPaths:
    """Make what is missing, expiring within ``RENEW_DAYS`` or not fitting ``hosts``; harmless to repeat.

    ``hosts`` are further names and addresses of the API server's certificate besides :func:`service_names`.
    Raises OSError.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = (clock or SystemClock()).now()
    names = tuple(dict.fromkeys([*service_names(), *hosts]))

    def pair(name: str) -> Pair:
        return Pair(folder / f"{name}.crt", folder / f"{name}.key")

    paths = PkiPaths(
        ca=pair("ca"),
        apiserver=pair("apiserver"),
        kubelet_client=pair("apiserver-kubelet-client"),
        admin=pair("admin"),
        front_proxy_ca=pair("front-proxy-ca"),
        front_proxy_client=pair("front-proxy-client"),
        service_account_key=folder / "sa.key",
        service_account_public=folder / "sa.pub",
    )
    _ensure_ca(paths.ca, "kubernetes", now)
    _ensure_ca(paths.front_proxy_ca, "front-proxy-ca", now)
    _ensure_leaf(paths.apiserver, paths.ca, _Leaf("kube-apiserver", "", (_SERVER,), names), now)
    kubelet_client = _Leaf("kube-apiserver-kubelet-client", "system:masters", (_CLIENT,))
    _ensure_leaf(paths.kubelet_client, paths.ca, kubelet_client, now)
    _ensure_leaf(paths.admin, paths.ca, _Leaf("kubernetes-admin", "system:masters", (_CLIENT,)), now)
    _ensure_leaf(paths.front_proxy_client, paths.front_proxy_ca, _Leaf("front-proxy-client", "", (_CLIENT,)), now)
    _ensure_service_account_keys(paths.service_account_key, paths.service_account_public)
    return paths


def merged_bundle(held: str, ours: str, *, clock: Clock | None = None) -> str:
    """PEM of the certificates of both bundles, each once, without those that have expired.

    Who was trusted stays trusted until then: several servers may write one bundle while an authority is replaced.
    Bundles that cannot be read count as empty.
    """
    now = (clock or SystemClock()).now()
    found: dict[bytes, str] = {}
    for bundle in (held, ours):
        try:
            certificates = x509.load_pem_x509_certificates(bundle.encode())
        except ValueError:
            continue
        for one in certificates:
            if one.not_valid_after_utc > now:
                pem = one.public_bytes(serialization.Encoding.PEM).decode()
                found.setdefault(one.fingerprint(hashes.SHA256()), pem)
    return "".join(found.values())


def spki_hash(certificate_pem: bytes) -> str:
    """Hex SHA-256 of a certificate's public key info, as join tokens carry it."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    info = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(info)
    return digest.finalize().hex()


def issue(
    ca: Pair, common_name: str, organization: str, *, hosts: Sequence[str] = (), client: bool = True, now: datetime
) -> tuple[bytes, bytes]:
    """(certificate, key) in PEM, signed by ``ca`` for ``LEAF_DAYS``."""
    key = ec.generate_private_key(ec.SECP256R1())
    usages = (_CLIENT,) if client else (_SERVER,)
    certificate = _sign_leaf(ca, key.public_key(), _Leaf(common_name, organization, usages, tuple(hosts)), now)
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically; nobody ever sees half of it or may read it in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _ensure_ca(paths: Pair, common_name: str, now: datetime) -> None:
    if paths.cert.exists() and paths.key.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The key first: a certificate without its key would be taken for complete by nobody.
    write_private(paths.key, _key_pem(key))
    write_private(paths.cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _ensure_leaf(paths: Pair, ca: Pair, leaf: _Leaf, now: datetime) -> None:
    if _still_good(paths, ca, leaf, now):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign_leaf(ca, key.public_key(), leaf, now)
    write_private(paths.key, _key_pem(key))
    write_private(paths.cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _still_good(paths: Pair, ca: Pair, leaf: _Leaf, now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(paths.cert.read_bytes())
        key = serialization.load_pem_private_key(paths.key.read_bytes(), None)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.cert.read_bytes()))
    except (OSError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        # Missing, unreadable, of another CA: whatever it is, a new one is the cure.
        return False
    if certificate.public_key() != key.public_key() or certificate.subject != _subject(leaf):
        return False
    return certificate.not_valid_after_utc - now > timedelta(days=RENEW_DAYS) and set(leaf.hosts) <= _hosts(certificate)


def _hosts(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def _sign_leaf(ca: Pair, public: ec.EllipticCurvePublicKey, leaf: _Leaf, now: datetime) -> x509.Certificate:
    issuer = x509.load_pem_x509_certificate(ca.cert.read_bytes())
    issuer_key = serialization.load_pem_private_key(ca.key.read_bytes(), None)
    assert isinstance(issuer_key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey))
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(leaf))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(min(now + timedelta(days=LEAF_DAYS), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
        .add_extension(_authority(issuer_key), critical=False)
    )
    if leaf.hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(h) for h in leaf.hosts]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _authority(key: Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _subject(leaf: _Leaf) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization)] if leaf.organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _ensure_service_account_keys(private: Path, public: Path) -> None:
    if not private.exists():
        write_private(private, _key_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
        public.unlink(missing_ok=True)
    if not public.exists():
        key = serialization.load_pem_private_key(private.read_bytes(), None)
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_private(public, pem, 0o644)
