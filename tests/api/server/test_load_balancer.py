"""Clients that know only a load balancer: the server behind it dies, and they go on with the next one."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orca.api.builtin import CONFIGMAPS, LEASES, NODES
from orca.api.errors import ApiError
from orca.api.objects import Obj, name
from orca.client.clock import SystemClock
from orca.client.http import HttpsClient
from orca.client.informer import Informer
from tests.api.server.process import ServerProcess
from tests.support.etcd import private_etcd
from tests.support.patience import PATIENCE
from tests.support.proxy import TcpProxy, tcp_proxy
from tests.support.servers import servers_on


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[tuple[TcpProxy, list[ServerProcess], Path]]:
    """Two servers behind one address, and a kubeconfig that names it."""
    async with (
        private_etcd() as etcd,
        servers_on(etcd.endpoint, 2, "--no-controllers") as servers,
        tcp_proxy(*(("127.0.0.1", server.port) for server in servers)) as proxy,
    ):
        text = servers[0].kubeconfig.read_text()
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(text.replace(f":{servers[0].port}", f":{proxy.port}"))
        yield proxy, servers, kubeconfig


async def test_informers_and_kubectl_go_on_with_the_other_server(
    behind: tuple[TcpProxy, list[ServerProcess], Path],
) -> None:
    _, servers, kubeconfig = behind
    client = HttpsClient.from_kubeconfig(kubeconfig)
    seen: list[tuple[str, str]] = []
    informer = Informer(client, CONFIGMAPS, clock=SystemClock())
    informer.on_add(lambda obj: seen.append(("added", name(obj))))
    informer.on_update(lambda _, new: seen.append((new["data"]["n"], name(new))))
    following = asyncio.create_task(informer.run())
    try:
        await informer.synced()
        await written(client, "before")
        await asyncio.sleep(1)
        servers[0].kill()
        for number in range(20):
            await written(client, f"after-{number}")
        shown = await asyncio.to_thread(kubectl, kubeconfig, "get", "configmaps", "-n", "default", "-o", "name")
        assert "configmap/after-19" in shown
        wanted = [("added", "before")] + [("added", f"after-{number}") for number in range(20)]
        async with asyncio.timeout(PATIENCE):
            while len([one for one in seen if one in wanted]) < len(wanted):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        assert [one for one in seen if one in wanted] == wanted
    finally:
        following.cancel()
        await client.aclose()


async def test_a_heartbeat_misses_little(behind: tuple[TcpProxy, list[ServerProcess], Path]) -> None:
    _, servers, kubeconfig = behind
    client = HttpsClient.from_kubeconfig(kubeconfig)
    try:
        await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "host"}})
        lease: Obj = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "host"}}
        await client.create(LEASES, {**lease, "spec": {"holderIdentity": "host"}}, "default")
        longest, last = 0.0, asyncio.get_running_loop().time()
        for number in range(60):
            if number == 20:
                servers[0].kill()
            try:
                patch = {"spec": {"leaseDurationSeconds": number + 1}}
                await client.patch(LEASES, "host", patch, "default")
            except ApiError as error:
                if error.code < 500:
                    raise
                continue
            now = asyncio.get_running_loop().time()
            longest, last = max(longest, now - last), now
            await asyncio.sleep(0.02)
        assert longest < 30  # a node is given up after 40 s without a heartbeat
    finally:
        await client.aclose()


async def written(client: HttpsClient, called: str) -> None:
    made: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": called}, "data": {"n": called}}
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.create(CONFIGMAPS, made, "default")
                return
            except ApiError as error:
                if error.code == 409:
                    return
                await asyncio.sleep(0.05)


def kubectl(kubeconfig: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={kubeconfig}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout
