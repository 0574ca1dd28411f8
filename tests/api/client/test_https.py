"""The HTTPS client passes the contract against a real server, and survives its death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from orca.api.builtin import CONFIGMAPS, SELFSUBJECTREVIEWS, SERVICEACCOUNTS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.base import Client
from orca.client.http import HttpsClient
from orca.client.informer import Informer
from orca.client.kubeconfig import Endpoint
from tests.api.server.process import ServerProcess
from tests.support.client_contract import ClientContract, config
from tests.support.patience import PATIENCE


class TestHttps(ClientContract):
    """All of the contract."""

    @pytest.fixture(autouse=True)
    async def account(self, client: HttpsClient) -> None:
        """Pods need their namespace's service account, which a controller makes elsewhere."""
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        with suppress(ApiError):
            await client.create(SERVICEACCOUNTS, account, "default")


async def test_pages_are_joined(client: Client) -> None:
    for number in range(7):
        await client.create(CONFIGMAPS, config(f"joined-{number}", "default", part="joined"))
    listed = await client.list(CONFIGMAPS, "default", labels="part=joined", limit=3)
    assert [obj["metadata"]["name"] for obj in listed.items] == [f"joined-{number}" for number in range(7)]


async def test_nobody_there_is_one_kind_of_error() -> None:
    client = HttpsClient(Endpoint("http://127.0.0.1:9", None))
    with pytest.raises(ApiError) as caught:
        await client.get(CONFIGMAPS, "any", "default")
    assert caught.value.code == 503
    await client.aclose()


async def test_a_program_is_asked_again_when_the_server_refuses_its_token(
    server: ServerProcess, client: HttpsClient, tmp_path: Path
) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    await client.create(SERVICEACCOUNTS, account, "default")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await client.create_sub(SERVICEACCOUNTS, "robot", "default", "token", request))["status"]["token"]
    login, config = tmp_path / "login", yaml.safe_load(server.kubeconfig.read_text())
    version = "client.authentication.k8s.io/v1"
    config["users"][0]["user"] = {"exec": {"apiVersion": version, "command": "./login", "interactiveMode": "Never"}}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))

    def gives(token: str, after: float = 0) -> None:
        printed = {"kind": "ExecCredential", "apiVersion": version, "status": {"token": token}}
        login.write_text(f"#!/bin/sh\nsleep {after}\necho '{json.dumps(printed)}'\n")
        login.chmod(0o755)

    gives("stale")
    robot = HttpsClient.from_kubeconfig(tmp_path / "kubeconfig")
    gives(token, after=0.3)  # others are refused while one waits for it
    found = await asyncio.gather(*(robot.create(SELFSUBJECTREVIEWS, {}) for _ in range(5)))
    await robot.aclose()
    assert {one["status"]["userInfo"]["username"] for one in found} == {"system:serviceaccount:default:robot"}


async def test_a_watch_of_a_client_that_was_closed_is_the_same_kind_of_error(client: HttpsClient) -> None:
    events = client.watch(CONFIGMAPS, "default")
    await client.create(CONFIGMAPS, config("closing", "default"))
    while (await anext(events)).obj["metadata"]["name"] != "closing":
        pass
    await client.aclose()
    with pytest.raises(ApiError) as caught:
        async for _ in events:  # what had arrived before is still told
            pass
    assert caught.value.code == 503


async def test_informers_survive_a_kill_and_miss_nothing(
    server: ServerProcess, connect: Callable[[], HttpsClient]
) -> None:
    client = connect()
    informer = Informer(client, CONFIGMAPS, namespace="default", labels="part=survivor")
    added: list[str] = []
    complete = asyncio.Event()

    def arrived(obj: Obj) -> None:
        added.append(obj["metadata"]["name"])
        if len(added) == 60:
            complete.set()

    informer.on_add(arrived)
    following = asyncio.create_task(informer.run())
    await informer.synced()
    for number in range(60):
        while True:
            try:
                await client.create(CONFIGMAPS, config(f"survivor-{number}", "default", part="survivor"))
                break
            except ApiError as error:
                if error.reason == "AlreadyExists":
                    break
                await asyncio.sleep(0.05)
        if number == 30:
            server.kill()
            await asyncio.to_thread(server.start)
    async with asyncio.timeout(PATIENCE):
        await complete.wait()
    assert added == [f"survivor-{number}" for number in range(60)]
    following.cancel()


async def test_etcd_may_die_under_load(server: ServerProcess, client: HttpsClient) -> None:
    listed = await client.list(CONFIGMAPS, "default")
    acknowledged: list[str] = []
    failures: list[int] = []

    async def write(writer: int) -> None:
        for number in range(80):
            name = f"dying-{writer}-{number}"
            try:
                await client.create(CONFIGMAPS, config(name, "default", part="dying"))
                acknowledged.append(name)
            except ApiError as error:
                failures.append(error.code)
            if (writer, number) == (0, 30):
                os.kill(server.etcd_pid(), signal.SIGKILL)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(write(number) for number in range(4)))
    assert set(failures) <= {503, 504}
    found = await client.list(CONFIGMAPS, "default", labels="part=dying")
    names = {obj["metadata"]["name"] for obj in found.items}
    assert set(acknowledged) <= names
    seen: list[str] = []
    async with asyncio.timeout(PATIENCE), client.watch(CONFIGMAPS, "default", since=listed.resource_version) as events:
        async for event in events:
            if event.type == "ADDED":
                seen.append(event.obj["metadata"]["name"])
            if len(seen) == len(names):
                break
    assert sorted(seen) == sorted(names)
    assert len(failures) < 160, "those that came while it was away, and not all since"
