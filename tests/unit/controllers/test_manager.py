"""Controllers beside each other: one that crashes or cannot read does not hold up the others."""

import asyncio
from dataclasses import replace

import pytest

from orca.api.builtin import BUILTIN, CONFIGMAPS, DEPLOYMENTS, EVENTS, FLOWSCHEMAS, SECRETS
from orca.api.errors import forbidden, internal, service_unavailable
from orca.api.objects import Obj, name
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.controllers import ControllersConfig, harness, run_all
from orca.controllers.deployment import DeploymentController
from orca.controllers.replicaset import ReplicaSetController
from tests.unit.controllers.support import Cluster, deployment, running


async def test_a_crashed_controller_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    async def crash(self: ReplicaSetController) -> None:
        runs.append(self.name)
        if runs.count("replicaset-controller") < 3:
            raise RuntimeError("bug")
        await self.queue.run()

    monkeypatch.setattr(ReplicaSetController, "run", crash)
    async with running() as cluster:
        cluster.api.seed(DEPLOYMENTS, deployment(2))
        await cluster.settle(0.5)
        assert (await cluster.deployment())["status"]["observedGeneration"] == 1
        assert cluster.pods() == []
        await cluster.settle(10)
        assert len(cluster.pods()) == 2
        assert runs.count("replicaset-controller") == 3


async def test_a_resource_that_cannot_be_read_holds_up_only_its_controllers() -> None:
    cluster = Cluster()

    def refuse(verb: str, resource: object, *_: object) -> None:
        if verb == "list" and resource == FLOWSCHEMAS:
            raise internal("broken")

    cluster.api.intercepts.append(refuse)
    async with running(cluster=cluster):
        cluster.api.seed(DEPLOYMENTS, deployment(2))
        await cluster.settle(5)
        assert len(cluster.pods()) == 2


async def test_a_custom_kind_that_cannot_be_read_keeps_nothing_else_from_being_collected() -> None:
    cluster, table = Cluster(), BUILTIN.copy()
    widgets = replace(
        CONFIGMAPS, group="example.com", version="v1", plural="widgets", kind="Widget", storage="/w", custom=True
    )
    table.add(widgets)
    broken = {SECRETS, widgets}

    def refuse(verb: str, resource: object, *_: object) -> None:
        if verb == "list" and resource in broken:
            raise internal("conversion webhook failed")

    cluster.api.intercepts.append(refuse)
    async with running(cluster=cluster, config=ControllersConfig(table=table)):
        cluster.api.seed(CONFIGMAPS, orphan("left"))
        await cluster.settle(60)
        assert "left" in names(cluster), "what is not custom is waited for"
        broken.remove(SECRETS)
        await cluster.settle(10)
        assert "left" not in names(cluster)
        broken.clear()
        cluster.api.seed(widgets, {**orphan("widget"), "apiVersion": "example.com/v1", "kind": "Widget"})
        await cluster.settle(10)
        assert cluster.api.objects(widgets) == [], "it is collected as soon as it can be read"


def orphan(called: str) -> Obj:
    """A ConfigMap whose owner is gone."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "gone"}
    metadata = {"name": called, "namespace": "default", "uid": called, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def names(cluster: Cluster) -> set[str]:
    """Of the ConfigMaps there are."""
    return {name(found) for found in cluster.api.objects(CONFIGMAPS)}


async def test_an_unexpected_error_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DeploymentController.sync
    calls = []

    async def sync(self: DeploymentController, key: str) -> object:
        calls.append(key)
        if len(calls) < 4:
            raise ValueError("bug")
        return await real(self, key)

    monkeypatch.setattr(DeploymentController, "sync", sync)
    async with running() as cluster:
        cluster.api.seed(DEPLOYMENTS, deployment(1))
        await cluster.settle(10)
        assert len(cluster.pods()) == 1


async def test_a_refusal_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quota, policies and webhooks refuse what users asked for: nothing is broken."""
    told: list[tuple[str, object]] = []

    async def sync(self: DeploymentController, key: str) -> object:
        raise forbidden(DEPLOYMENTS, "d", "exceeded quota") if len(told) < 3 else ValueError("bug")

    class Log:
        def warning(self, event: str, **fields: object) -> None:
            told.append((event, fields.get("exc_info")))

        error = warning

    monkeypatch.setattr(DeploymentController, "sync", sync)
    monkeypatch.setattr(harness, "log", Log())
    async with running() as cluster:
        cluster.api.seed(DEPLOYMENTS, deployment(1))
        await cluster.settle(30)
    assert told[0] == ("reconcile refused", None)
    assert {event for event, _ in told[1:]} == {"reconcile failed again"}


async def test_an_unavailable_server_is_waited_for() -> None:
    cluster = Cluster()
    down = [False]

    def refuse(verb: str, resource: object, *_: object) -> None:
        if down[0] and resource != EVENTS:
            raise service_unavailable("restarting")

    cluster.api.intercepts.append(refuse)
    async with running(cluster=cluster, host=False):
        cluster.api.seed(DEPLOYMENTS, deployment(1))
        down[0] = True
        cluster.api.drop_watches()
        await cluster.settle(30)
        down[0] = False
        await cluster.settle(60)
        assert len(cluster.pods()) == 1


async def test_disabled_controllers_do_not_run() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    config = ControllersConfig(disabled=frozenset({"deployment-controller"}))
    task = asyncio.create_task(run_all(client, clock=clock, config=config))
    made: Obj = client.seed(DEPLOYMENTS, deployment(1))
    await clock.advance(5)
    assert made == await client.get(DEPLOYMENTS, "web", "default")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
