"""What other requests are judged by counts from its answer on, however late the watch cache hears of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orca.api import builtin
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.auth import Action, UserInfo
from orca.auth.pki import ensure_pki
from orca.client.base import Client
from orca.client.clock import SystemClock
from orca.server.assembly import ApiServer, ServerConfig
from orca.server.verbs.deciding import decides
from orca.store import Store
from orca.store.outcomes import Seen
from tests.support.etcd import private_etcd
from tests.support.ports import free_port

LATE = 0.05
"""Seconds until the cache takes what etcd tells it."""
SPACE = "judged"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    directory: Path = tmp_path_factory.mktemp("late")
    clock = SystemClock()
    async with private_etcd() as etcd:
        store = Store(etcd.endpoint, clock=clock)
        await store.start()
        config = ServerConfig(bind_address="127.0.0.1", port=free_port())
        one = ApiServer(config, ensure_pki(directory / "pki", ["127.0.0.1"], clock=clock), store, clock)
        await one.start()
        take, told = store._feed._take, deque[list[Seen]]()

        def later(batch: list[Seen]) -> None:
            told.append(batch)
            asyncio.get_running_loop().call_later(LATE, lambda: take(told.popleft()))

        store._feed._take = later  # type: ignore[method-assign]
        await one.client.create(builtin.NAMESPACES, made(builtin.NAMESPACES, SPACE, space=""))
        await one.client.create(builtin.SERVICEACCOUNTS, made(builtin.SERVICEACCOUNTS, "default"))
        yield one
        await one.stop()
        await store.close()


@pytest.fixture
def client(server: ApiServer) -> Client:
    return server.client


def made(resource: Resource, name: str, *, space: str = SPACE, **fields: Any) -> Obj:
    metadata = {"name": name, **(fields.pop("metadata", {}))}
    if resource.namespaced:
        metadata["namespace"] = space
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **fields}


def pod(name: str, **spec: Any) -> Obj:
    return made(builtin.PODS, name, spec={"containers": [{"name": "c", "image": "busybox"}], **spec})


async def write(client: Client, resource: Resource, name: str, **fields: Any) -> Obj:
    return await client.create(resource, made(resource, name, **fields))


async def test_limits_and_classes(client: Client) -> None:
    limit = {"type": "Container", "defaultRequest": {"cpu": "7m"}}
    await write(client, builtin.LIMITRANGES, "small", spec={"limits": [limit]})
    found = await client.create(builtin.PODS, pod("limited"))
    assert found["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "7m"}
    await client.delete(builtin.LIMITRANGES, "small", SPACE)

    await write(client, builtin.PRIORITYCLASSES, "usual", value=9, globalDefault=True)
    found = await client.create(builtin.PODS, pod("ranked"))
    assert found["spec"]["priority"] == 9
    assert "resources" not in found["spec"]["containers"][0] or not found["spec"]["containers"][0]["resources"]
    await client.delete(builtin.PRIORITYCLASSES, "usual")

    mark = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    await write(client, builtin.STORAGECLASSES, "fast", metadata=mark, provisioner="example.com/x")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    assert (await write(client, builtin.PERSISTENTVOLUMECLAIMS, "c", spec=spec))["spec"]["storageClassName"] == "fast"

    zone = {"topology.kubernetes.io/zone": "z1"}
    await write(client, builtin.NODES, "n1", metadata={"labels": zone})
    assert (await client.create(builtin.PODS, pod("placed", nodeName="n1")))["metadata"]["labels"] == zone


async def test_quotas_and_standards(client: Client) -> None:
    await write(client, builtin.RESOURCEQUOTAS, "none", spec={"hard": {"pods": "0"}})
    with pytest.raises(ApiError, match="exceeded quota"):
        await client.create(builtin.PODS, pod("one-too-many"))
    await client.delete(builtin.RESOURCEQUOTAS, "none", SPACE)
    await client.create(builtin.PODS, pod("fits"))

    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    await client.patch(builtin.NAMESPACES, SPACE, level, kind="merge")
    with pytest.raises(ApiError, match="violates PodSecurity"):
        await client.create(builtin.PODS, pod("loose", hostNetwork=True))
    level["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "privileged"}
    await client.patch(builtin.NAMESPACES, SPACE, level, kind="merge")
    await client.create(builtin.PODS, pod("loose", hostNetwork=True))


async def test_rights_come_and_go(server: ApiServer, client: Client) -> None:
    bob, wish = UserInfo("bob"), Action("get", "", "pods", "", "p", SPACE)
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    await write(client, builtin.ROLES, "readers", rules=[rule])
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "readers"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]
    for _ in range(2):
        await write(client, builtin.ROLEBINDINGS, "readers", roleRef=reference, subjects=subjects)
        assert (await server.authorizer.authorize(bob, wish)).allowed
        await client.delete(builtin.ROLEBINDINGS, "readers", SPACE)
        assert not (await server.authorizer.authorize(bob, wish)).allowed


async def test_policies_and_webhooks(client: Client) -> None:
    maps = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": SPACE}}
    constraints = {"namespaceSelector": here, "resourceRules": [maps]}
    denied = {"matchConstraints": constraints, "validations": [{"expression": "false", "message": "not today"}]}
    await write(client, builtin.VALIDATINGADMISSIONPOLICIES, "no", spec=denied)
    bound = {"policyName": "no", "validationActions": ["Deny"]}
    await write(client, builtin.VALIDATINGADMISSIONPOLICYBINDINGS, "no", spec=bound)
    with pytest.raises(ApiError, match="not today"):
        await write(client, builtin.CONFIGMAPS, "m")
    await client.delete(builtin.VALIDATINGADMISSIONPOLICYBINDINGS, "no")
    await write(client, builtin.CONFIGMAPS, "m1")

    hook = {
        "name": "nobody.example.com",
        "clientConfig": {"service": {"namespace": SPACE, "name": "nobody"}},
        "rules": [maps],
        "namespaceSelector": here,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    await write(client, builtin.VALIDATINGWEBHOOKCONFIGURATIONS, "nobody", webhooks=[hook])
    with pytest.raises(ApiError, match='services "nobody" not found'):
        await write(client, builtin.CONFIGMAPS, "m2")
    await write(client, builtin.SERVICES, "nobody", spec={"ports": [{"port": 443}]})
    with pytest.raises(ApiError, match="no endpoints available"):
        await write(client, builtin.CONFIGMAPS, "m2")
    await client.delete(builtin.VALIDATINGWEBHOOKCONFIGURATIONS, "nobody")
    await write(client, builtin.CONFIGMAPS, "m2")


async def test_what_a_service_gave_back_can_be_had(client: Client) -> None:
    ports = [{"port": 80, "nodePort": 30123}]
    for name in ("first", "second"):
        spec = {"type": "NodePort", "clusterIP": "10.96.0.99", "ports": ports}
        await write(client, builtin.SERVICES, name, spec=spec)
        await client.delete(builtin.SERVICES, name, SPACE)


@pytest.mark.parametrize("resource", [builtin.PODS, builtin.EVENTS, builtin.LEASES, builtin.CONFIGMAPS])
def test_what_is_written_all_the_time_waits_for_no_cache(resource: Resource) -> None:
    assert not decides(resource)
