"""Who may use the agent's server: clients with a certificate of the cluster's CA that administrators or the API server
hold. Everybody else is told 401 (no certificate) or 403 (a certificate for something else, e.g. another node's)."""

from __future__ import annotations

import ssl
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography import x509
from cryptography.x509.oid import NameOID

MASTERS = "system:masters"
API_SERVER = "kube-apiserver-kubelet-client"


def server_context(pair: Path, ca: Path) -> ssl.SSLContext:
    """TLS as the agent serves it: its serving certificate, and client certificates checked against the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pair)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def refusal(certificate_der: bytes | None) -> tuple[int, str] | None:
    """(code, text) for a client that may not, None for one that may."""
    if certificate_der is None:
        return 401, "Unauthorized"
    subject = x509.load_der_x509_certificate(certificate_der).subject
    names = {attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    groups = {attribute.value for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    if MASTERS in groups or API_SERVER in names:
        return None
    return 403, f"Forbidden (user={', '.join(sorted(map(str, names)))}, resource=nodes, subresource(s)=[proxy])"


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets only those through who may; the check costs little beside the TLS handshake that went before."""
    tls = request.get_extra_info("ssl_object")
    refused = refusal(tls.getpeercert(binary_form=True) if tls is not None else None)
    if refused:
        code, text = refused
        return web.Response(status=code, text=text)
    return await handler(request)
