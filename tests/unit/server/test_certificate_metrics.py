"""Certificates by whether they live as long as they were asked for."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orca.server.metrics.certificates import Lifetimes
from tests.support import strange_certificates as strange

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(seconds: float) -> str:
    begins, nobody = datetime(2026, 1, 1, tzinfo=UTC), x509.Name([])
    ends = begins + timedelta(seconds=seconds)
    made = x509.CertificateBuilder(nobody, nobody, KEY.public_key(), x509.random_serial_number(), begins, ends)
    pem = made.sign(KEY, hashes.SHA256())
    return base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()


def request(wanted: int | None, signer: str, issued: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {"signerName": signer}
    if wanted is not None:
        spec["expirationSeconds"] = wanted
    return {"metadata": {"name": "r"}, "spec": spec, "status": {"certificate": issued} if issued else {}}


def test_lifetimes_that_were_asked_for_are_counted_once() -> None:
    counted = Lifetimes()
    client, hour = "kubernetes.io/kube-apiserver-client", certificate(3600)
    for wanted, signer, issued in (
        (3600, client, hour),
        (3600 + 400, client, hour),  # within five minutes and a twentieth
        (7200, client, hour),
        (3600, "example.com/own", hour),
        (3600, client, base64.b64encode(b"no certificate").decode()),
        (3600, client, strange.certificate(ends=b"00000101000000Z")),  # before Python's first year
        (3600, client, strange.certificate(version=5)),
        (None, client, hour),
        (3600, client, ""),
    ):
        counted.written(request(wanted, signer), request(wanted, signer, issued))
    counted.written(request(3600, client, hour), request(3600, client, hour))
    samples = (sample for metric in counted.collect() for sample in metric.samples)
    shown = {(one.name, tuple(one.labels.values())): one.value for one in samples}
    stem = "apiserver_certificates_registry_csr"
    assert shown == {
        (f"{stem}_requested_duration_total", (client,)): 6,
        (f"{stem}_honored_duration_total", (client,)): 2,
        (f"{stem}_requested_duration_total", ("other",)): 1,
        (f"{stem}_honored_duration_total", ("other",)): 1,
    }
