"""One server with all its controllers, and a host that claims to run pods."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.api.conformance.cases import eventually
from tests.api.conformance.host import Host, host
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("conformance"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[Api]:
    async with Api(server.kubeconfig) as one:
        yield one


@pytest.fixture
async def running(server: ServerProcess) -> AsyncIterator[Host]:
    """Pods run while the test does."""
    async with Api(server.kubeconfig) as one, host(one) as found:
        yield found


@pytest.fixture
async def space(api: Api) -> str:
    """A fresh namespace in which pods may be made."""
    name = f"k{next(_numbers)}"
    assert (await api.post("/api/v1/namespaces", {"metadata": {"name": name}})).status == 201
    await eventually(lambda: api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"), lambda a: a.status == 200)
    return name


@pytest.fixture
def kubectl(server: ServerProcess, space: str) -> Kubectl:
    return Kubectl(kubectls.current(), server.kubeconfig, space)


@pytest.fixture(scope="package")
def request_pem() -> str:
    """A certificate request as the API wants it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()
