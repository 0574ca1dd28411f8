"""CertificateSigningRequests."""

from __future__ import annotations

import base64
import binascii

from cryptography import x509

from orca.api import names
from orca.api.errors import FieldError
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
    if not value:
        out.append(FieldError.required(path))
        return
    try:
        pem = base64.b64decode(value, validate=True)
        found = x509.load_pem_x509_csr(pem)
        if not found.is_signature_valid:
            raise ValueError("signature does not match")
    except (binascii.Error, ValueError) as error:
        text = "PEM block type must be CERTIFICATE REQUEST" if b"CERTIFICATE REQUEST" not in _raw(value) else str(error)
        out.append(FieldError.invalid(path, value, text))


def _raw(value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""


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
        if usage in usages[:i]:
            out.append(FieldError.duplicate(f"spec.usages[{i}]", usage))
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


def _conditions(items: list[Obj], path: str, out: Errors) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(items):
        kind, state = condition.get("type"), condition.get("status")
        at = f"{path}[{i}]"
        if not kind:
            out.append(FieldError.required(f"{at}.type"))
        if kind in (*_APPROVAL, "Failed") and state not in (None, "", "True"):
            text = f"status must be True for type {kind}"
            out.append(FieldError.not_supported(f"{at}.status", state, ("True",)) if state else
                       FieldError.required(f"{at}.status", text))  # fmt: skip
        elif not state:
            out.append(FieldError.required(f"{at}.status"))
        if kind in seen:
            out.append(FieldError.duplicate(f"{at}.type", kind))
        if kind in _APPROVAL and seen & set(_APPROVAL):
            text = "Approved and Denied conditions are mutually exclusive"
            out.append(FieldError.invalid(f"{at}.type", kind, text))
        seen.add(kind or "")


def _decisions(obj: Obj) -> list[tuple[str, str]]:
    items = (obj.get("status") or {}).get("conditions") or ()
    return sorted((c.get("type", ""), c.get("status", "")) for c in items if c.get("type") in _APPROVAL)


@on_update(_GROUP, "CertificateSigningRequest")
def signing_request_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed request: approved through ``approval`` only, signed through ``status`` only, both once."""
    out: Errors = []
    if subresource not in ("approval", "status"):
        return out
    conditions = (new.get("status") or {}).get("conditions") or []
    _conditions(conditions, "status.conditions", out)
    gone = {kind for kind, _ in _decisions(old)} - {kind for kind, _ in _decisions(new)}
    for kind in sorted(gone):
        text = f'updates may not remove a condition of type "{kind}"'
        out.append(FieldError.forbidden("status.conditions", text))
    if subresource == "status":
        for kind in sorted({k for k, _ in _decisions(new)} - {k for k, _ in _decisions(old)}):
            text = f'updates may not add a condition of type "{kind}"'
            out.append(FieldError.forbidden("status.conditions", text))
        before = (old.get("status") or {}).get("certificate")
        if before:
            certificate = (new.get("status") or {}).get("certificate")
            if certificate != before:
                text = "updates may not change certificate after it has been set"
                out.append(FieldError.forbidden("status.certificate", text))
    return out
