"""Certificates for nodes: requests that are what they should be are approved, approved ones signed, old ones removed.

Approved without a person are only the two a node needs: its client certificate, asked for by a holder of a bootstrap
token or by the node itself, and its serving certificate, asked for by the node itself for names and addresses nobody
else has.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from orca.api.builtin import CERTIFICATESIGNINGREQUESTS, NODES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, key, name
from orca.api.times import parse_time
from orca.controllers import conditions, podstate
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter

CLIENT = "kubernetes.io/kube-apiserver-client"
NODE_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
NODE_SERVING = "kubernetes.io/kubelet-serving"
SIGNED_HERE = frozenset({CLIENT, NODE_CLIENT, NODE_SERVING})
NODE_USER = "system:node:"
NODES_GROUP = "system:nodes"
BOOTSTRAPPERS = "system:bootstrappers"
BACKDATED = timedelta(minutes=5)
"""Certificates are valid from a little earlier, for hosts whose clocks are behind."""

_USAGES: dict[str, x509.ObjectIdentifier] = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
}
_KEEP = timedelta(hours=1)
_KEEP_PENDING = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Request:
    """What a CSR's PEM asks for."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    others: int
    """Further alternative names (mail, URI), which no node has."""


def read_request(text: str) -> Request:
    """From `spec.request` (base64 of PEM). ValueError when it is none or its signature is wrong."""
    parsed = x509.load_pem_x509_csr(base64.b64decode(text))
    if not parsed.is_signature_valid:
        raise ValueError("the signature of the certificate request is invalid")
    names: list[x509.GeneralName] = []
    try:
        names = list(parsed.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value)  # type: ignore[call-overload]
    except x509.ExtensionNotFound:
        pass
    dns = tuple(found.value for found in names if isinstance(found, x509.DNSName))
    addresses = tuple(str(found.value) for found in names if isinstance(found, x509.IPAddress))
    return Request(
        common_name="".join(str(a.value) for a in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)),
        organizations=tuple(str(a.value) for a in parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)),
        dns_names=dns,
        addresses=addresses,
        others=len(names) - len(dns) - len(addresses),
    )


def unsignable(signer: str, request: Request, usages: Sequence[str]) -> str | None:
    """Why a signer does not sign a request, whoever approved it; None when it does."""
    asked = set(usages)
    auth = "server auth" if signer == NODE_SERVING else "client auth"
    if not {auth} <= asked <= {auth, "digital signature", "key encipherment"}:
        return f"usages did not match [{' '.join(sorted({auth, 'digital signature', 'key encipherment'}))}]"
    if signer == CLIENT:
        return None
    if request.organizations != (NODES_GROUP,):
        return f"subject organization is not {NODES_GROUP}"
    if not request.common_name.startswith(NODE_USER):
        return f"subject common name does not begin with {NODE_USER}"
    if request.others:
        return "email and URI subjectAltNames are not allowed"
    if signer == NODE_CLIENT and (request.dns_names or request.addresses):
        return "DNS and IP subjectAltNames are not allowed"
    if signer == NODE_SERVING and not (request.dns_names or request.addresses):
        return "DNS or IP subjectAltName is required"
    return None


def refusal(csr: Obj, request: Request, nodes: Sequence[Obj], reserved: Sequence[str] = ()) -> str | None:
    """Why a request is left to a person; None when it may be approved.

    `reserved` are networks no node can have an address of: a node with a certificate for the API's service address
    could pose as the API server.
    """
    spec = csr["spec"]
    usages = set(spec.get("usages") or ())
    user, groups = spec.get("username", ""), set(spec.get("groups") or ())
    if request.organizations != (NODES_GROUP,):
        return f"the organization is not {NODES_GROUP}"
    if not request.common_name.startswith(NODE_USER) or request.common_name == NODE_USER:
        return f"the common name does not start with {NODE_USER}"
    if request.others:
        return "a node has neither mail addresses nor URIs"
    itself = user == request.common_name and NODES_GROUP in groups
    if spec["signerName"] == NODE_CLIENT:
        if request.dns_names or request.addresses:
            return "a client certificate has no alternative names"
        if not {"client auth"} <= usages <= {"client auth", "digital signature", "key encipherment"}:
            return "the usages are not those of a client certificate"
        return None if itself or BOOTSTRAPPERS in groups else f"{user} may not ask for {request.common_name}"
    if not {"server auth"} <= usages <= {"server auth", "digital signature", "key encipherment"}:
        return "the usages are not those of a serving certificate"
    if not itself:
        return f"{user} may not ask for {request.common_name}"
    if not request.dns_names and not request.addresses:
        return "a serving certificate needs a name or an address"
    for address in request.addresses:
        for network in map(ip_network, reserved):
            if ip_address(address) in network:
                return f"{address} belongs to {network}, which is not for hosts"
    return _foreign_name(request, nodes)


def _foreign_name(request: Request, nodes: Iterable[Obj]) -> str | None:
    """A node may be known by its own name and addresses, and by addresses nobody else has: it asks before or while it
    registers."""
    mine = request.common_name.removeprefix(NODE_USER)
    own: set[str] = {mine, "localhost"}
    taken: dict[str, str] = {}
    for node in nodes:
        known = {entry["address"] for entry in (node.get("status") or {}).get("addresses") or ()}
        if name(node) == mine:
            own |= known
        else:
            taken |= dict.fromkeys({name(node), *known}, name(node))
    for asked in (*request.dns_names, *request.addresses):
        if asked in taken:
            return f"{asked} belongs to node {taken[asked]}"
    for asked in request.dns_names:
        if asked not in own:
            return f"{asked} is not a name of node {mine}"
    return None


def lifetime(csr: Obj, longest: float) -> timedelta:
    """What was asked for, but not more than `longest` seconds."""
    asked = csr["spec"].get("expirationSeconds")
    return timedelta(seconds=min(longest, asked) if asked else longest)


def leftover(csr: Obj, now: datetime) -> timedelta | None:
    """How long the request is still kept; zero or less: remove it. None: as long as it is as it is, for one that was
    approved waits for its signer however long that takes.

    Reference: k8s.io/kubernetes ``pkg/controller/certificates/cleaner``.
    """
    status = csr.get("status") or {}
    found = status.get("conditions") or ()
    if not found:
        return podstate.created_at(csr) + _KEEP_PENDING - now
    issued = status.get("certificate")
    over = {"Denied", "Failed", *(("Approved",) if issued else ())}
    ends = [parse_time(c["lastUpdateTime"]) + _KEEP for c in found if c["type"] in over and c.get("lastUpdateTime")]
    if issued and any(c["type"] == "Approved" for c in found):
        ends += [end] if (end := _end_of(issued)) is not None else []
    return min(ends) - now if ends else None


def _end_of(certificate: str) -> datetime | None:
    """When an issued certificate (base64 of PEM) ends; None for what cannot be read."""
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc
    except ValueError:
        return None


class Signer:
    """The cluster's CA."""

    def __init__(self, cert_path: Path, key_path: Path) -> None:
        self._cert = x509.load_pem_x509_certificate(cert_path.read_bytes())
        loaded = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(loaded, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
            raise ValueError(f"{key_path} is not a key that can sign certificates")
        self._key = loaded

    def sign(self, text: str, usages: Sequence[str], valid: timedelta, now: datetime) -> str:
        """`status.certificate` (base64 of PEM) for a CSR's `spec.request`; never outlives the CA."""
        request = x509.load_pem_x509_csr(base64.b64decode(text))
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._cert.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(min(now + valid, self._cert.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._cert.public_key()), critical=False)  # type: ignore[arg-type]
        )
        if not _KEY_USAGES.isdisjoint(usages):  # the extension without a bit makes a certificate nobody loads
            builder = builder.add_extension(_key_usage(usages), critical=True)
        extended = [_USAGES[usage] for usage in usages if usage in _USAGES]
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        try:
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=names.critical)
        except x509.ExtensionNotFound:
            pass
        algorithm = None if isinstance(self._key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        signed = builder.sign(self._key, algorithm)
        return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


_KEY_USAGES = frozenset({"digital signature", "key encipherment"})


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digital signature" in usages,
        key_encipherment="key encipherment" in usages,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


class CertificatesController(Controller):
    """Keys are names of CertificateSigningRequests."""

    name = "certificates-controller"
    resource = CERTIFICATESIGNINGREQUESTS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = self.caches.of(CERTIFICATESIGNINGREQUESTS)
        self._nodes = self.caches.of(NODES)
        config = context.config
        self._reserved = (*config.service_cidr.split(","), *config.cluster_cidr.split(","))
        self._signer: Signer | None = None
        if config.ca_cert_path is not None and config.ca_key_path is not None:
            self._signer = Signer(config.ca_cert_path, config.ca_key_path)
        self._requests.informer.on_add(self.enqueue)
        self._requests.informer.on_update(lambda _, new: self.enqueue(new))
        self._requests.informer.on_delete(lambda gone: self.queue.forget(key(gone)))

    async def sync(self, key: str) -> Outcome:
        """One request."""
        csr = self._requests.get(key)
        if csr is None:
            return DONE
        now = self.clock.now()
        kept = leftover(csr, now)
        left = kept.total_seconds() if kept is not None else None
        if left is not None and left <= 0:
            await self._requests.delete(csr)
            return DONE
        status = csr.get("status") or {}
        decided = status.get("conditions") or ()
        if not decided:
            csr = await self._approve(csr, now)
        elif self._may_sign(csr):
            await self._sign(csr, now)
        return RetryAfter(left) if left is not None else DONE

    def _may_sign(self, csr: Obj) -> bool:
        status = csr.get("status") or {}
        kinds = {condition["type"] for condition in status.get("conditions") or ()}
        signable = self._signer is not None and csr["spec"]["signerName"] in SIGNED_HERE
        return signable and kinds == {"Approved"} and not status.get("certificate")

    async def _approve(self, csr: Obj, now: datetime) -> Obj:
        if csr["spec"]["signerName"] not in (NODE_CLIENT, NODE_SERVING):
            return csr
        try:
            why = refusal(csr, read_request(csr["spec"]["request"]), self._nodes.all(), self._reserved)
        except ValueError as error:
            why = str(error)
        if why is not None:
            self.recorder.event(csr, "Warning", "NotApproved", f"Left to a person: {why}.")
            return csr
        approved = conditions.build(
            "Approved", "True", "AutoApproved", "Auto approving after checking the node's identity.", now, updated=True
        )
        status = {**(csr.get("status") or {}), "conditions": [approved]}
        return await self._requests.update({**csr, "status": status}, subresource="approval")

    async def _sign(self, csr: Obj, now: datetime) -> None:
        assert self._signer is not None
        spec = csr["spec"]
        status = dict(csr["status"])
        try:
            usages = spec.get("usages") or ()
            why = unsignable(spec["signerName"], read_request(spec["request"]), usages)
            if why is not None:
                raise ValueError(why)
            valid = lifetime(csr, self.context.config.certificate_duration)
            status["certificate"] = self._signer.sign(spec["request"], usages, valid, now)
        except ValueError as error:
            failed = conditions.build("Failed", "True", "SignerValidationFailure", str(error), now, updated=True)
            status["conditions"] = conditions.put(status.get("conditions"), failed)
        try:
            await self._requests.update({**csr, "status": status}, subresource="status")
        except ApiError as error:
            if not is_not_found(error):
                raise
