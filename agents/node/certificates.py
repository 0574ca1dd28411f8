"""Certificates of a node and of its cluster as the agent reads them, and what it asks for. Pure: bytes in, facts out.

Read with the few lines of ``der``: the library that can make keys and requests would cost the agent a tenth of its
memory, and works elsewhere, in ``requesting``.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agents.node import der
from agents.node.der import Element

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
CLIENT_USAGES = ("digital signature", "client auth")
SERVING_USAGES = ("digital signature", "server auth")

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_COMMON_NAME = bytes((0x55, 4, 3))  # 2.5.4.3
_ALTERNATIVE_NAMES = bytes((0x55, 29, 17))  # 2.5.29.17
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87


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


def request_name(public_key: bytes, node_name: str, signer: str, names: Sequence[str] = ()) -> str:
    """Name of the CertificateSigningRequest: the same key (its SubjectPublicKeyInfo) and purpose give the same name, so
    asking twice is one."""
    digest = hashlib.sha256(b"\0".join([public_key, node_name.encode(), signer.encode(), ",".join(names).encode()]))
    return f"node-csr-{digest.hexdigest()[:40]}"


def read_certificate(pem: bytes) -> CertificateFacts:
    """Facts of the first certificate in `pem`; raises ValueError when there is none."""
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("no certificate")
    parts = _parts(base64.b64decode(match[1]))
    not_before, not_after = parts[3].expect(der.SEQUENCE).children()
    extensions = next((part for part in parts[6:] if part.tag == _EXTENSIONS), None)
    return CertificateFacts(
        common_name=_common_name(parts[4]),
        names=frozenset(_alternative_names(extensions)) if extensions is not None else frozenset(),
        not_before=not_before.time(),
        not_after=not_after.time(),
    )


def certificates_by_key(ca_pem: bytes) -> dict[str, bytes]:
    """Every certificate in a CA bundle (PEM) by the SHA-256 (hex) of its SubjectPublicKeyInfo: what a join token pins.

    Raises ValueError."""
    found: dict[str, bytes] = {}
    for match in _PEM.finditer(ca_pem):
        certificate = base64.b64decode(match[1])
        key = _parts(certificate)[5].expect(der.SEQUENCE)
        # Written anew: whoever trusts it must not read something else out of what was only skimmed here.
        found[hashlib.sha256(key.raw).hexdigest()] = ssl.DER_cert_to_PEM_cert(certificate).encode()
    return found


def _parts(certificate: bytes) -> list[Element]:
    """Serial number, algorithm, issuer, validity, subject, public key and what follows (RFC 5280, 4.1)."""
    parts = der.parse(certificate).expect(der.SEQUENCE).children()
    if len(parts) != 3:
        raise ValueError("not a certificate")
    fields = parts[0].expect(der.SEQUENCE).children()
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    if len(fields) < 6:
        raise ValueError("not a certificate")
    fields[0].expect(der.INTEGER)
    return fields


def _common_name(subject: Element) -> str:
    for relative in subject.expect(der.SEQUENCE).children():
        for attribute in relative.expect(der.SET).children():
            kind, value = attribute.expect(der.SEQUENCE).children()
            if kind.expect(der.OID).content == _COMMON_NAME:
                return value.text()
    return ""


def _alternative_names(extensions: Element) -> list[str]:
    """DNS names and addresses; there may be others, which no certificate of a node is for."""
    found: list[str] = []
    for extension in der.parse(extensions.content).expect(der.SEQUENCE).children():
        parts = extension.expect(der.SEQUENCE).children()  # type, whether critical unless not, value
        if len(parts) < 2:
            raise ValueError("not an extension")
        if parts[0].expect(der.OID).content != _ALTERNATIVE_NAMES:
            continue
        for one in der.parse(parts[-1].expect(der.OCTETS).content).expect(der.SEQUENCE).children():
            if one.tag == _DNS_NAME:
                found.append(one.content.decode("ascii"))
            elif one.tag == _IP_ADDRESS:
                found.append(str(ipaddress.ip_address(one.content)))
    return found
