"""The in-process client passes the same contract as the HTTPS client and the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from orca.api.builtin import SERVICEACCOUNTS
from orca.api.errors import ApiError
from orca.auth.pki import ensure_pki
from orca.client.base import Client
from orca.client.clock import SystemClock
from orca.server.assembly import ApiServer, ServerConfig
from orca.store import Store
from tests.support.client_contract import ClientContract
from tests.support.etcd import private_etcd
from tests.support.ports import free_port


@pytest.fixture(scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    directory: Path = tmp_path_factory.mktemp("local")
    clock = SystemClock()
    async with private_etcd() as etcd:
        store = Store(etcd.endpoint, clock=clock)
        await store.start()
        config = ServerConfig(bind_address="127.0.0.1", port=free_port())
        server = ApiServer(config, ensure_pki(directory / "pki", ["127.0.0.1"], clock=clock), store, clock)
        await server.start()
        metadata = {"name": "default", "namespace": "default"}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        with suppress(ApiError):
            await server.client.create(SERVICEACCOUNTS, account)
        yield server.client
        await server.stop()
        await store.close()


class TestLocal(ClientContract):
    @pytest.fixture
    def client(self, local: Client) -> Client:
        return local
