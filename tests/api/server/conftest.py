"""One real server for these tests; what a test makes lives in a namespace of its own."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.api.server.api import Api
from tests.api.server.audited import POLICY
from tests.api.server.hooks import World
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.tls import Authority, serving
from tests.support.webhooks import Webhooks

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Without controllers: nothing changes but what a test changes."""
    process = ServerProcess(tmp_path_factory.mktemp("server"), "--no-controllers")
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def space(api: Api) -> str:
    """A fresh namespace with the ServiceAccount that a controller would make."""
    name = f"t{next(_numbers)}"
    made = await api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    assert made.status == 201, made.raw
    made = await api.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    assert made.status == 201, made.raw
    return name


@pytest.fixture(params=["current", "debian"])
def kubectl(request: pytest.FixtureRequest, server: ServerProcess, space: str) -> Kubectl:
    """Both kubectl binaries, in the test's namespace."""
    binary = kubectls.current() if request.param == "current" else kubectls.debian()
    return Kubectl(binary, server.kubeconfig, space)


@pytest.fixture(scope="package")
def request_pem() -> str:
    """A certificate request as the API wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sample")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


@pytest.fixture
async def world(api: Api, space: str, tmp_path: Path) -> AsyncIterator[World]:
    authority, hooks = Authority(tmp_path), Webhooks()
    async with serving(hooks, authority.server_context("hooks", "127.0.0.1", "hooks.default.svc")) as port:
        one = World(api, space, authority, hooks, port)
        try:
            yield one
        finally:
            await one.clear()


@pytest.fixture(scope="package")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with an audit log, static tokens and short deadlines for those who ask for them."""
    directory = tmp_path_factory.mktemp("operation")
    tokens, policy = directory / "tokens", directory / "policy.yaml"
    tokens.write_text('noisy,noisy,1,"noise"\nnode,system:node:n1,2,"system:nodes"\nbob,bob,3,""\nquiet,quiet,4,""\n')
    policy.write_text(POLICY)
    process = ServerProcess(
        directory,
        "--no-controllers",
        f"--token-auth-file={tokens}",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={directory / 'audit.log'}",
        "--event-ttl=90s",
        "--api-audiences=busy,https://busy.example.com",
    )
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def admin(busy: ServerProcess) -> AsyncIterator[Api]:
    async with Api(busy.kubeconfig) as one:
        yield one
