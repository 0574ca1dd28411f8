"""One server for the security tests, and clients with credentials of every kind."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import pytest

from tests.api.security.authority import Authority, client_tls
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess

_numbers = itertools.count(1)
Connect = Callable[..., Awaitable[Api]]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Without controllers, with one static token."""
    directory = tmp_path_factory.mktemp("guarded")
    tokens = directory / "tokens.csv"
    tokens.write_text('static-secret,steve,uid-7,"crew,ops"\n')
    process = ServerProcess(directory, "--no-controllers", f"--token-auth-file={tokens}")
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="package")
def authority(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The cluster's CA."""
    return Authority.of_cluster(server.directory / "data" / "pki", tmp_path_factory.mktemp("issued"))


@pytest.fixture
async def connect(server: ServerProcess, authority: Authority) -> AsyncIterator[Connect]:
    """``await connect(user, groups)`` by certificate, ``await connect(token=…)`` by token."""
    async with AsyncExitStack() as stack:

        async def one(user: str = "", groups: Sequence[str] = (), *, token: str = "") -> Api:
            client = Api(server.kubeconfig, token=token, anonymous=True)
            if user:
                client.tls = client_tls(authority.issue(user, groups))
            return await stack.enter_async_context(client)

        yield one


@pytest.fixture
async def space(api: Api) -> str:
    """A fresh namespace with its default ServiceAccount."""
    name = f"s{next(_numbers)}"
    assert (await api.post("/api/v1/namespaces", {"metadata": {"name": name}})).status == 201
    made = await api.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    assert made.status == 201, made.raw
    return name


async def token_of(api: Api, space: str, account: str = "default", **spec: object) -> str:
    """A token by TokenRequest."""
    path = f"/api/v1/namespaces/{space}/serviceaccounts/{account}/token"
    answer = await api.post(path, {"spec": spec})
    assert answer.status == 201, answer.raw
    return str(answer.json["status"]["token"])


async def grant(api: Api, role: str, subject: dict[str, str], space: str = "") -> None:
    """Bind a ClusterRole, in one namespace or everywhere."""
    root = "/apis/rbac.authorization.k8s.io/v1"
    kind = "rolebindings" if space else "clusterrolebindings"
    path = f"{root}/namespaces/{space}/{kind}" if space else f"{root}/{kind}"
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    body = {"metadata": {"generateName": "test-"}, "roleRef": reference, "subjects": [subject]}
    made = await api.post(path, body)
    assert made.status == 201, made.raw


def as_user(name: str) -> dict[str, str]:
    """A subject for :func:`grant`."""
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}


def encoded(data: bytes) -> str:
    """Base64, as the API has bytes."""
    return base64.b64encode(data).decode()
