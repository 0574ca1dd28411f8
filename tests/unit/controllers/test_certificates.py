"""Certificate requests of nodes: what is approved, what a signed certificate says, what is cleaned up."""

import base64
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orca.api.builtin import CERTIFICATESIGNINGREQUESTS, NODES, SECRETS
from orca.api.objects import Obj
from orca.api.times import format_time
from orca.client.clock import VirtualClock
from orca.controllers import ControllersConfig, certificates, conditions
from orca.controllers.bootstraptokens import BootstrapTokenCleaner
from orca.controllers.certificates import NODE_CLIENT, NODE_SERVING, CertificatesController, read_request, refusal
from tests.unit.controllers.support import NOW, Cluster, running_one

BOOTSTRAP = {"username": "system:bootstrap:abcdef", "groups": ["system:bootstrappers", "system:authenticated"]}
NODE = {"username": "system:node:host-1", "groups": ["system:nodes", "system:authenticated"]}


def pem_request(
    common_name: str = "system:node:host-1",
    organization: str = "system:nodes",
    names: list[str] | None = None,
    addresses: list[str] | None = None,
) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    found: list[x509.GeneralName] = [x509.DNSName(one) for one in names or []]
    found += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses or []]
    if found:
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def csr(signer: str, asker: Obj, **request: object) -> Obj:
    usage = "client auth" if signer == NODE_CLIENT else "server auth"
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "csr-1"},
        "spec": {
            "signerName": signer,
            "usages": ["digital signature", usage],
            "request": pem_request(**request),  # type: ignore[arg-type]
            **asker,
        },
    }


def node(name: str, *addresses: str) -> Obj:
    found = [{"type": "InternalIP", "address": one} for one in addresses]
    return {"metadata": {"name": name}, "status": {"addresses": found}}


def _refused(found: Obj, *nodes: Obj) -> str | None:
    return refusal(found, read_request(found["spec"]["request"]), nodes)


def test_client_certificates() -> None:
    assert _refused(csr(NODE_CLIENT, BOOTSTRAP)) is None
    assert _refused(csr(NODE_CLIENT, NODE)) is None
    assert _refused(csr(NODE_CLIENT, NODE, common_name="system:node:host-2")) is not None
    assert _refused(csr(NODE_CLIENT, {"username": "eve", "groups": []})) is not None
    assert _refused(csr(NODE_CLIENT, BOOTSTRAP, organization="system:masters")) is not None
    assert _refused(csr(NODE_CLIENT, BOOTSTRAP, common_name="admin")) is not None
    assert _refused(csr(NODE_CLIENT, BOOTSTRAP, names=["host-1"])) is not None
    greedy = csr(NODE_CLIENT, BOOTSTRAP)
    greedy["spec"]["usages"].append("server auth")
    assert _refused(greedy) is not None


def test_serving_certificates() -> None:
    known = [node("host-1", "172.30.0.11"), node("host-2", "172.30.0.12")]
    fine = csr(NODE_SERVING, NODE, names=["host-1"], addresses=["172.30.0.11"])
    assert _refused(fine, *known) is None
    assert _refused(fine) is None  # before it has registered
    assert _refused(csr(NODE_SERVING, BOOTSTRAP, names=["host-1"])) is not None
    assert _refused(csr(NODE_SERVING, NODE), *known) is not None
    assert _refused(csr(NODE_SERVING, NODE, names=["host-1"], addresses=["172.30.0.12"]), *known) is not None
    assert _refused(csr(NODE_SERVING, NODE, names=["host-2"]), *known) is not None
    assert _refused(csr(NODE_SERVING, NODE, names=["kubernetes.default"]), *known) is not None
    api = csr(NODE_SERVING, NODE, names=["host-1"], addresses=["10.96.0.1"])
    assert refusal(api, read_request(api["spec"]["request"]), known, ["10.96.0.0/16"]) is not None


def ca(path: Path) -> tuple[x509.Certificate, ControllersConfig]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    start = datetime(2025, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (path / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (path / "ca.key").write_bytes(secret)
    return made, ControllersConfig(ca_cert_path=path / "ca.crt", ca_key_path=path / "ca.key")


async def test_a_joining_node_gets_its_certificate(tmp_path: Path) -> None:
    authority, config = ca(tmp_path)
    async with running_one(CertificatesController, config=config) as (cluster, _):
        cluster.api.seed(CERTIFICATESIGNINGREQUESTS, csr(NODE_CLIENT, BOOTSTRAP))
        await cluster.settle(1)
        found = await cluster.api.get(CERTIFICATESIGNINGREQUESTS, "csr-1")
        approved = conditions.find(found["status"]["conditions"], "Approved")
        assert approved is not None
        assert approved["reason"] == "AutoApproved"
        certificate = x509.load_pem_x509_certificate(base64.b64decode(found["status"]["certificate"]))
        certificate.verify_directly_issued_by(authority)
        assert certificate.subject.rfc4514_string() == "CN=system:node:host-1,O=system:nodes"
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(extended) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        left = certificate.not_valid_after_utc - cluster.clock.now()
        assert timedelta(days=365) - timedelta(seconds=2) < left <= timedelta(days=365)
        await cluster.settle(3601)
        assert cluster.api.objects(CERTIFICATESIGNINGREQUESTS) == []


async def test_serving_certificates_keep_their_names(tmp_path: Path) -> None:
    _, config = ca(tmp_path)
    async with running_one(CertificatesController, config=config) as (cluster, _):
        cluster.api.seed(NODES, node("host-1", "172.30.0.11"))
        made = csr(NODE_SERVING, NODE, names=["host-1"], addresses=["172.30.0.11"])
        made["spec"]["expirationSeconds"] = 3600
        cluster.api.seed(CERTIFICATESIGNINGREQUESTS, made)
        await cluster.settle(1)
        found = await cluster.api.get(CERTIFICATESIGNINGREQUESTS, "csr-1")
        certificate = x509.load_pem_x509_certificate(base64.b64decode(found["status"]["certificate"]))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["host-1"]
        assert certificate.not_valid_after_utc - cluster.clock.now() <= timedelta(hours=1)


@pytest.mark.parametrize("usages", [("client auth",), ("client auth", "digital signature")])
async def test_a_certificate_for_a_person_can_be_loaded(tmp_path: Path, usages: tuple[str, ...]) -> None:
    """Upstream's tutorial asks for nothing but client auth: no key usage, which must not be an empty extension."""
    authority, config = ca(tmp_path)
    signer = certificates.Signer(config.ca_cert_path, config.ca_key_path)  # type: ignore[arg-type]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "myuser")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    text = base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode()
    signed = signer.sign(text, usages, timedelta(days=1), datetime.now(UTC))
    pem = base64.b64decode(signed)
    x509.load_pem_x509_certificate(pem).verify_directly_issued_by(authority)
    pair = tmp_path / "pair.pem"
    no_password = serialization.NoEncryption()
    plain = serialization.PrivateFormat.PKCS8
    pair.write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, plain, no_password))
    ssl.create_default_context().load_cert_chain(pair)


async def test_doubtful_requests_wait_for_a_person_and_end_after_a_day(tmp_path: Path) -> None:
    _, config = ca(tmp_path)
    async with running_one(CertificatesController, config=config) as (cluster, _):
        cluster.api.seed(CERTIFICATESIGNINGREQUESTS, csr(NODE_CLIENT, {"username": "eve", "groups": []}))
        await cluster.settle(3600)
        found = await cluster.api.get(CERTIFICATESIGNINGREQUESTS, "csr-1")
        assert not (found.get("status") or {}).get("conditions")
        stamp = "2026-01-01T01:00:00Z"
        person = {"type": "Approved", "status": "True", "reason": "x", "lastUpdateTime": stamp}
        await cluster.api.update(
            CERTIFICATESIGNINGREQUESTS, {**found, "status": {"conditions": [person]}}, subresource="status"
        )
        await cluster.settle(1)
        found = await cluster.api.get(CERTIFICATESIGNINGREQUESTS, "csr-1")
        assert found["status"]["certificate"]
        await cluster.settle(86400)
        assert cluster.api.objects(CERTIFICATESIGNINGREQUESTS) == []


def test_how_long_requests_are_kept(tmp_path: Path) -> None:
    _, config = ca(tmp_path)
    assert config.ca_cert_path is not None
    ends = x509.load_pem_x509_certificate(config.ca_cert_path.read_bytes()).not_valid_after_utc
    certificate = base64.b64encode(config.ca_cert_path.read_bytes()).decode()

    def kept(*kinds: str, now: datetime = NOW, **status: str) -> timedelta | None:
        stamp = format_time(now)
        found = [{"type": kind, "status": "True", "lastUpdateTime": stamp} for kind in kinds]
        made = {"metadata": {"creationTimestamp": stamp}, "status": {"conditions": found, **status}}
        return certificates.leftover(made, now)

    hour = timedelta(hours=1)
    assert kept() == timedelta(hours=24)
    assert kept("Denied") == kept("Failed") == kept("Approved", "Failed") == hour
    assert kept("Approved", certificate=certificate) == hour
    assert kept("Approved", certificate=certificate, now=ends - hour / 2) == hour / 2
    # Whoever signs for it may take its time, and others may add conditions of their own.
    assert kept("Approved") is None
    assert kept("example.com/Checked") is None


@pytest.mark.parametrize("request_text", ["", "bm9uc2Vuc2U="])
async def test_nonsense_is_left_alone(tmp_path: Path, request_text: str) -> None:
    _, config = ca(tmp_path)
    async with running_one(CertificatesController, config=config) as (cluster, _):
        made = csr(NODE_CLIENT, BOOTSTRAP)
        made["spec"]["request"] = request_text
        cluster.api.seed(CERTIFICATESIGNINGREQUESTS, made)
        await cluster.settle(10)
        found = await cluster.api.get(CERTIFICATESIGNINGREQUESTS, "csr-1")
        assert "status" not in found


async def test_expired_join_tokens_go() -> None:
    cluster = Cluster()
    assert isinstance(cluster.clock, VirtualClock)

    def token(name: str, expiration: str) -> Obj:
        data = {"expiration": base64.b64encode(expiration.encode()).decode()} if expiration else {}
        kind = "bootstrap.kubernetes.io/token"
        return {"metadata": {"name": name, "namespace": "kube-system"}, "type": kind, "data": data}

    cluster.api.seed(SECRETS, token("bootstrap-token-aaaaaa", "2026-01-01T00:10:00Z"))
    cluster.api.seed(SECRETS, token("bootstrap-token-bbbbbb", ""))
    cluster.api.seed(SECRETS, token("bootstrap-token-cccccc", "soon"))
    async with running_one(BootstrapTokenCleaner, cluster=cluster):
        await cluster.settle(599)
        assert len(cluster.api.objects(SECRETS)) == 2
        await cluster.settle(2)
        assert [one["metadata"]["name"] for one in cluster.api.objects(SECRETS)] == ["bootstrap-token-bbbbbb"]


def test_what_signers_do_not_sign() -> None:
    """Whoever approved it."""
    node = certificates.Request("system:node:n", ("system:nodes",), (), (), 0)
    kubelet = ("client auth", "digital signature")
    assert certificates.unsignable(certificates.NODE_CLIENT, node, kubelet) is None
    for wrong, usages in (
        (certificates.Request("admin", ("system:nodes",), (), (), 0), kubelet),
        (certificates.Request("system:node:n", ("system:masters",), (), (), 0), kubelet),
        (certificates.Request("system:node:n", ("system:nodes",), ("n",), (), 0), kubelet),
        (node, (*kubelet, "server auth")),
        (node, ("digital signature",)),
    ):
        assert certificates.unsignable(certificates.NODE_CLIENT, wrong, usages)
    assert certificates.unsignable(certificates.NODE_SERVING, node, ("server auth",))
    assert certificates.unsignable(certificates.CLIENT, node, ("server auth",))
