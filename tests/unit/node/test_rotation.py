"""Certificates an agent asks for, keeps and renews, and what it joins with."""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.node import certificates, keys
from agents.node.join import JoinError, JoinToken, ca_of_cluster_info, ca_of_kubeconfig
from agents.node.keyring import CLIENT, SERVING, Keyring
from agents.node.requesting import Prepared
from agents.node.signing import CertificateRefused, Rotation
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + datetime.timedelta(days=3650))
    return key, builder.sign(key, hashes.SHA256())


async def sign_all(client: FakeClient, clock: VirtualClock) -> None:
    """A signer: what `orca.controllers` does."""
    key, ca = authority()
    async with client.watch(CERTIFICATESIGNINGREQUESTS) as events:
        async for event in events:
            if event.type != "ADDED":
                continue
            request = x509.load_pem_x509_csr(base64.b64decode(event.obj["spec"]["request"]))
            builder = x509.CertificateBuilder().subject_name(request.subject).issuer_name(ca.subject)
            builder = builder.public_key(request.public_key()).serial_number(x509.random_serial_number())
            builder = builder.not_valid_before(clock.now()).not_valid_after(clock.now() + datetime.timedelta(days=10))
            for extension in request.extensions:
                builder = builder.add_extension(extension.value, extension.critical)
            issued = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            await client.patch(
                CERTIFICATESIGNINGREQUESTS,
                event.obj["metadata"]["name"],
                {"status": {"certificate": base64.b64encode(issued).decode()}},
                subresource="status",
            )


async def prepare(key: bytes, node_name: str, names: Sequence[str]) -> Prepared:
    """What another process does, here: virtual time waits for none."""
    key = key or keys.new_key()
    return Prepared(key, keys.new_request(key, node_name, names), keys.public_key(key))


async def test_a_certificate_is_asked_for_kept_and_renewed(tmp_path: Path) -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    signer = asyncio.create_task(sign_all(client, clock))
    keyring = Keyring(tmp_path / "pki")
    renewals: list[int] = []
    names = ("host-1", "172.30.0.11")
    rotation = Rotation(
        client,
        keyring,
        kind=SERVING,
        node_name="host-1",
        clock=clock,
        names=names,
        on_renewed=lambda: renewals.append(1),
        prepare=prepare,
    )
    running = asyncio.create_task(rotation.run())
    await clock.advance(5)
    facts = keyring.certificate(SERVING)
    assert facts
    assert facts.names == set(names)
    assert keyring.pair(SERVING).stat().st_mode & 0o777 == 0o600
    request = client.objects(CERTIFICATESIGNINGREQUESTS)[0]
    assert request["spec"]["usages"] == ["digital signature", "server auth"]
    await clock.advance(6.9 * 86400)
    assert len(renewals) == 1
    await clock.advance(2.2 * 86400)
    assert len(renewals) == 2
    # Another name needs another certificate, at once.
    rotation.rename(("host-1", "172.30.0.99"))
    assert rotation.due_in() == 0
    await clock.advance(5)
    assert len(renewals) == 3
    facts = keyring.certificate(SERVING)
    assert facts
    assert facts.names == {"host-1", "172.30.0.99"}
    running.cancel()
    signer.cancel()


async def test_a_denied_request_is_told_and_asked_anew_with_another_key(tmp_path: Path) -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    keyring = Keyring(tmp_path / "pki")
    rotation = Rotation(client, keyring, kind=CLIENT, node_name="host-1", clock=clock, prepare=prepare)
    asking = asyncio.create_task(rotation.ensure())
    await clock.settle()
    first = client.objects(CERTIFICATESIGNINGREQUESTS)[0]["metadata"]["name"]
    denied = {"status": {"conditions": [{"type": "Denied", "status": "True", "message": "not you"}]}}
    await client.patch(CERTIFICATESIGNINGREQUESTS, first, denied, subresource="status")
    with pytest.raises(CertificateRefused, match="not you"):
        await asking
    again = asyncio.create_task(rotation.ensure())
    await clock.settle()
    assert len(client.objects(CERTIFICATESIGNINGREQUESTS)) == 2
    again.cancel()


def test_join_tokens() -> None:
    text = f"abcdef.0123456789abcdef.{'a' * 64}"
    assert JoinToken.parse(text + "\n").bearer == "abcdef.0123456789abcdef"
    for bad in ("", "abcdef.0123456789abcdef", text[:-1], text.upper()):
        with pytest.raises(JoinError):
            JoinToken.parse(bad)


def test_the_ca_is_found_in_both_forms_of_cluster_info() -> None:
    _, certificate = authority()
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    encoded = base64.b64encode(pem).decode()
    kubeconfig = f"clusters: [{{name: '', cluster: {{certificate-authority-data: {encoded}}}}}]"
    assert ca_of_cluster_info({"data": {"kubeconfig": kubeconfig}}) == pem
    assert ca_of_cluster_info({"data": {"ca.crt": pem.decode()}}) == pem
    assert list(certificates.certificates_by_key(pem).values()) == [pem]
    with pytest.raises(JoinError):
        ca_of_cluster_info({"data": {}})


@pytest.mark.parametrize("content", ["{", "[]", "kind: Config", "clusters: [{cluster: {certificate-authority: none}}]"])
def test_a_kubeconfig_without_a_ca_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    with pytest.raises(JoinError, match=str(path)):
        ca_of_kubeconfig(path)
    path.write_text(content)
    with pytest.raises(JoinError, match=str(path)):
        ca_of_kubeconfig(path)
