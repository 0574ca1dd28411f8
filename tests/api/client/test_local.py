"""The in-process client passes the same contract as the HTTPS client and the fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from orca.api.builtin import PODS, SERVICEACCOUNTS, VALIDATINGWEBHOOKCONFIGURATIONS
from orca.api.errors import ApiError
from orca.auth.pki import ensure_pki
from orca.client.base import Client
from orca.client.clock import SystemClock
from orca.client.events import EventRecorder
from orca.server.assembly import ApiServer, ServerConfig
from orca.store import Store
from tests.support.client_contract import ClientContract, pod
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

    async def test_what_was_said_too_late_is_left_unsaid(self, client: Client, namespace: str) -> None:
        waiting = await client.create(PODS, pod("late", namespace))
        target = {"apiVersion": "v1", "kind": "Node", "name": "somewhere"}
        metadata = {"name": "late", "namespace": namespace}
        await client.bind({"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target})
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
        said = EventRecorder(client, "scheduler-of-the-test").new(waiting, "Warning", "FailedScheduling", "no node")
        assert not await client.mark(waiting, condition, nominated="elsewhere", event=said)
        status = (await client.get(PODS, "late", namespace))["status"]
        assert "nominatedNodeName" not in status
        assert [one["status"] for one in status["conditions"] if one["type"] == "PodScheduled"] == ["True"]

    async def test_a_binding_does_not_wait_for_webhooks_of_events(self, client: Client, namespace: str) -> None:
        """Else one that hangs would keep pods, its own among them, from their nodes."""
        asked: list[asyncio.StreamWriter] = []
        silent = await asyncio.start_server(lambda _, writer: asked.append(writer), "127.0.0.1", 0)
        hook = {
            "name": "hangs.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["events"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,
        }
        kind = VALIDATINGWEBHOOKCONFIGURATIONS
        configuration = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "hangs"}}
        await client.create(kind, {**configuration, "webhooks": [hook]})
        await client.list(kind)
        try:
            bare = await client.create(PODS, pod("prompt", namespace))
            event = EventRecorder(client, "scheduler-of-the-test").new(bare, "Normal", "Scheduled", "it has a node")
            target = {"apiVersion": "v1", "kind": "Node", "name": "somewhere"}
            metadata = {"name": "prompt", "namespace": namespace}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
            async with asyncio.timeout(25):  # the webhook's time is longer
                assert not await client.bind(binding, event), "told without asking the webhook"
            assert (await client.get(PODS, "prompt", namespace))["spec"]["nodeName"] == "somewhere"
        finally:
            await client.delete(kind, "hangs")
            silent.close()
            for writer in asked:
                writer.close()
