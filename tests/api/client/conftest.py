"""A real server a module, without controllers, and clients on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from orca.client.http import HttpsClient
from tests.api.server.process import ServerProcess
from tests.support.server import running_server


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[ServerProcess]:
    async with running_server() as running:
        yield running


@pytest.fixture
async def connect(server: ServerProcess) -> AsyncIterator[Callable[[], HttpsClient]]:
    made: list[HttpsClient] = []

    def client() -> HttpsClient:
        made.append(HttpsClient.from_kubeconfig(server.kubeconfig))
        return made[-1]

    yield client
    for one in made:
        await one.aclose()


@pytest.fixture
def client(connect: Callable[[], HttpsClient]) -> HttpsClient:
    return connect()
