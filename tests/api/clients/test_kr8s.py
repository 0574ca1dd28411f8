"""kr8s: the library with kubectl's manners."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import ConfigMap, Deployment, Service, new_class

from tests.support.patience import PATIENCE


async def until(look: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Wait for what a look shows."""
    async with asyncio.timeout(PATIENCE):
        while await look() != wanted:  # noqa: ASYNC110 - there is nothing to wait on but the server's state
            await asyncio.sleep(0.1)


async def test_objects(kubeconfig: Path, space: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=str(kubeconfig), namespace=space)
    assert (await api.version())["minor"] == "36"
    body = {
        "metadata": {"name": "web", "namespace": space},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    }
    deployment = await Deployment(body, api=api)
    await deployment.create()
    assert await deployment.exists()

    async def pods() -> int:
        return len([pod async for pod in api.get("pods", namespace=space, label_selector="app=web")])

    await until(pods, 2)
    await deployment.scale(3)
    assert deployment.replicas == 3
    await deployment.label(tier="front")
    await deployment.annotate({"note": "kr8s"})
    await deployment.patch({"spec": {"paused": True}})
    await deployment.refresh()
    assert (deployment.labels["tier"], deployment.annotations["note"], deployment.spec.paused) == (
        "front",
        "kr8s",
        True,
    )
    pods = await deployment.pods()
    assert all(pod.metadata.ownerReferences[0].kind == "ReplicaSet" for pod in pods)
    service = await Service(
        {"metadata": {"name": "web", "namespace": space}, "spec": {"ports": [{"port": 80}]}}, api=api
    )
    await service.create()
    assert (await Service.get("web", namespace=space, api=api)).spec.clusterIP.startswith("10.96.")
    with pytest.raises(kr8s.NotFoundError):
        await ConfigMap.get("none", namespace=space, api=api)
    await deployment.delete()
    await until(deployment.exists, False)


async def test_watching(kubeconfig: Path, space: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=str(kubeconfig), namespace=space)
    seen: list[tuple[str, str]] = []

    async def look() -> None:
        async for event, obj in api.watch("configmaps", namespace=space, label_selector="w=1"):
            seen.append((event, obj.name))
            begun.set()
            if len(seen) == 4:
                return

    begun = asyncio.Event()
    await (await ConfigMap({"metadata": {"name": "first", "namespace": space, "labels": {"w": "1"}}}, api=api)).create()
    looking = asyncio.create_task(look())
    await begun.wait()
    one = await ConfigMap({"metadata": {"name": "one", "namespace": space, "labels": {"w": "1"}}}, api=api)
    await one.create()
    await one.patch({"data": {"a": "1"}})
    await one.delete()
    await asyncio.wait_for(looking, PATIENCE)
    assert seen[1:] == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


async def test_kinds_it_has_no_class_for(kubeconfig: Path, space: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=str(kubeconfig), namespace=space)
    kinds = {resource["kind"] for resource in await api.api_resources()}
    assert {"Pod", "Lease", "FlowSchema", "ValidatingAdmissionPolicy"} <= kinds
    lease_class = new_class(kind="Lease", version="coordination.k8s.io/v1", namespaced=True)
    lease = lease_class({"metadata": {"name": "l", "namespace": space}, "spec": {"holderIdentity": "me"}}, api=api)
    await lease.create()
    assert [one.name async for one in api.get("leases", namespace=space)] == ["l"]
