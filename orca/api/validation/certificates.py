"""CertificateSigningRequests.

Reference: k8s.io/kubernetes ``pkg/apis/certificates/validation``.
"""

from __future__ import annotations

import base64
import binascii
import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from orca.api import names
from orca.api.errors import FieldError, quote
from orca.api.validation import common
from orca.api.validation.comparison import differences
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "certificates.k8s.io"
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_MAX_SIGNER = 571
_APPROVAL = ("Approved", "Denied")
_LASTING = (*_APPROVAL, "Failed")
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s+(.*?)-----END \1-----", re.DOTALL)


def signer_name(name: str, path: str, out: Errors) -> None:
    """A signer: a domain of two labels at least, a slash, and a path of subdomains joined by dots."""
    if not name:
        out.append(FieldError.required(path))
        return
    segments = name.split("/")
    if len(segments) != 2:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        out.append(FieldError.invalid(path, name, text))
        return
    domain, rest = segments
    if len(domain) > names.SUBDOMAIN_MAX:
        out.append(FieldError.too_long(path, domain, names.SUBDOMAIN_MAX))
    labels = domain.split(".")
    for label in labels:
        for text in names.dns1123_label(label):
            out.append(FieldError.invalid(path, domain, f'validating label "{label}": {text}'))
    if len(labels) < 2:
        text = "should be a domain with at least two segments separated by dots"
        out.append(FieldError.invalid(path, domain, text))
    for label in rest.split("."):
        for text in names.dns1123_subdomain(label):
            out.append(FieldError.invalid(path, rest, f'validating label "{label}": {text}'))
    if len(name) > _MAX_SIGNER:
        out.append(FieldError.too_long(path, name, _MAX_SIGNER))


def _request(value: str, path: str, out: Errors) -> None:
    raw = _raw(value)
    if not _BLOCK.search(raw) or b"-----BEGIN CERTIFICATE REQUEST-----" not in raw:
        out.append(FieldError.invalid(path, value, "PEM block type must be CERTIFICATE REQUEST"))
        return
    try:
        request = x509.load_pem_x509_csr(raw)
        if not request.is_signature_valid:
            raise ValueError("signature does not match")
        list(request.subject)  # which is not read before
    except _UNREADABLE as error:
        out.append(FieldError.invalid(path, value, str(error)))


def _raw(value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""


def _issued(value: str, path: str, out: Errors) -> None:
    """What a signer gives: certificates in PEM, and nothing else."""
    blocks = [(kind.decode(), body) for kind, body in _BLOCK.findall(_raw(value))]
    text = ""
    other = next((kind for kind, _ in blocks if kind != "CERTIFICATE"), None)
    if other is not None:
        text = f"only CERTIFICATE PEM blocks are allowed, found {quote(other)}"
    elif any(b":" in body for _, body in blocks):
        text = "no PEM block headers are permitted"
    elif not blocks:
        text = "must contain at least one CERTIFICATE PEM block"
    else:
        try:
            for _, body in blocks:
                x509.load_der_x509_certificate(base64.b64decode(body))
        except _UNREADABLE as error:
            text = str(error)
    if text:
        out.append(FieldError.invalid(path, "<certificate data>", text))


@on_create(_GROUP, "CertificateSigningRequest")
def signing_request(obj: Obj) -> Errors:
    """A request: sound PEM, a signer, known usages."""
    out: Errors = []
    spec = obj.get("spec") or {}
    _request(spec.get("request") or "", "spec.request", out)
    usages = spec.get("usages") or []
    if not usages:
        out.append(FieldError.required("spec.usages"))
    for i, usage in enumerate(usages):
        if usage not in _USAGES:
            out.append(FieldError.not_supported(f"spec.usages[{i}]", usage, _USAGES))
    for i, again in enumerate(common.there_before(usages)):
        if again:
            out.append(FieldError.duplicate(f"spec.usages[{i}]", usages[i]))
    signer = spec.get("signerName") or ""
    if signer == "kubernetes.io/legacy-unknown":
        text = "the legacy signerName is not allowed via this API version"
        out.append(FieldError.invalid("spec.signerName", signer, text))
    else:
        signer_name(signer, "spec.signerName", out)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        out.append(FieldError.invalid("spec.expirationSeconds", seconds, text))
    return out


def _conditions(items: list[Obj], old: list[Obj], path: str, out: Errors) -> None:
    """Well-formed, one of each type, and one decision; what is stored twice may stay."""
    before = [one.get("type") or "" for one in old]
    kinds = [one.get("type") or "" for one in items]
    again, decided = common.there_before(kinds), set()
    unique, undecided = len(before) == len(set(before)), not set(_APPROVAL) <= set(before)
    for i, condition in enumerate(items):
        kind, state = kinds[i], condition.get("status") or ""
        at = f"{path}[{i}]"
        if not kind and "" not in before:
            out.append(FieldError.required(f"{at}.type"))
        allowed = ("True",) if kind in _LASTING else ("False", "True", "Unknown")
        common.choice(state, allowed, f"{at}.status", out, required=True)
        if kind in _APPROVAL:
            decided.add(kind)
        if kind in _APPROVAL and len(decided) > 1 and undecided:
            text = "Approved and Denied conditions are mutually exclusive"
            out.append(FieldError.invalid(path, kind, text))
        if again[i] and unique:
            out.append(FieldError.duplicate(f"{at}.type", kind))


def _of(obj: Obj, kind: str) -> list[Obj]:
    return [one for one in (obj.get("status") or {}).get("conditions") or () if one.get("type") == kind]


@on_update(_GROUP, "CertificateSigningRequest")
def signing_request_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed request: approved through ``approval`` only, signed through ``status`` only, both once."""
    out: Errors = []
    if subresource not in ("approval", "status"):
        return out
    state, before = new.get("status") or {}, old.get("status") or {}
    at = "status.conditions"
    _conditions(state.get("conditions") or [], before.get("conditions") or [], at, out)
    issued, had = state.get("certificate") or "", before.get("certificate") or ""
    if issued and issued != had:
        _issued(issued, "status.certificate", out)
    for kind in _LASTING:
        if len(_of(new, kind)) < len(_of(old, kind)):
            out.append(FieldError.forbidden(at, f"updates may not remove a condition of type {quote(kind)}"))
    if subresource == "status":
        for kind in _APPROVAL:
            now, was = _of(new, kind), _of(old, kind)
            if len(now) > len(was):
                out.append(FieldError.forbidden(at, f"updates may not add a condition of type {quote(kind)}"))
            elif len(now) == len(was) and now != was:
                lines = "\n".join(differences(now, was, at))
                text = f"updates may not modify a condition of type {quote(kind)}\n{lines}"
                out.append(FieldError.forbidden(at, text))
        if had and issued != had:
            text = "updates may not modify existing certificate content"
            out.append(FieldError.forbidden("status.certificate", text))
    elif issued != had:
        out.append(FieldError.forbidden("status.certificate", "updates may not set certificate content"))
    return out
