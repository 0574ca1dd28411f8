"""What every Client must do, whatever its transport. Subclass it and provide a `client` fixture."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from orca.api.builtin import CONFIGMAPS, DEPLOYMENTS, EVENTS, NAMESPACES, PODS
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj
from orca.client.base import Client, WatchEvent
from orca.client.events import EventRecorder
from tests.support.patience import PATIENCE


def config(name: str, space: str, **data: str) -> Obj:
    metadata = {"name": name, "namespace": space, "labels": {"part": data.pop("part", "one")}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(name: str, space: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space},
        "spec": {"containers": [{"name": "main", "image": "nginx"}]},
    }


def deployment(name: str, space: str) -> Obj:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "nginx"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


async def take(client: Client, space: str, since: str, count: int, **selectors: str) -> list[WatchEvent]:
    """The first `count` ConfigMap events after `since`."""
    found: list[WatchEvent] = []
    async with asyncio.timeout(PATIENCE):
        async with client.watch(CONFIGMAPS, space, since=since, bookmarks=False, **selectors) as events:  # type: ignore[arg-type]
            async for event in events:
                found.append(event)
                if len(found) == count:
                    break
    return found


class ClientContract:
    @pytest.fixture
    def namespace(self) -> str:
        return "default"

    async def test_pages_together_are_the_list(self, client: Client, namespace: str) -> None:
        for number in range(5):
            await client.create(CONFIGMAPS, config(f"page-{number}", namespace, part="paged"))
        pages = [page async for page in client.pages(CONFIGMAPS, namespace, labels="part=paged", limit=2)]
        listed = await client.list(CONFIGMAPS, namespace, labels="part=paged")
        names = [obj["metadata"]["name"] for page in pages for obj in page.items]
        assert names == [obj["metadata"]["name"] for obj in listed.items] == [f"page-{number}" for number in range(5)]
        assert len({page.resource_version for page in pages}) == 1

    async def test_create_answers_what_is_stored(self, client: Client, namespace: str) -> None:
        made = await client.create(CONFIGMAPS, config("stored", namespace, a="1"))
        assert made["metadata"]["uid"]
        assert made["metadata"]["creationTimestamp"]
        assert await client.get(CONFIGMAPS, "stored", namespace) == made

    async def test_create_twice_is_a_conflict(self, client: Client, namespace: str) -> None:
        await client.create(CONFIGMAPS, config("twice", namespace))
        with pytest.raises(ApiError) as caught:
            await client.create(CONFIGMAPS, config("twice", namespace))
        assert is_already_exists(caught.value)

    async def test_generated_names_differ(self, client: Client, namespace: str) -> None:
        wanted = {**config("", namespace), "metadata": {"generateName": "made-", "namespace": namespace}}
        names = {(await client.create(CONFIGMAPS, wanted))["metadata"]["name"] for _ in range(3)}
        assert len(names) == 3
        assert all(name.startswith("made-") and len(name) == 10 for name in names)

    async def test_absent_is_not_found(self, client: Client, namespace: str) -> None:
        for verb in (client.get, client.delete):
            with pytest.raises(ApiError) as caught:
                await verb(CONFIGMAPS, "absent", namespace)
            assert is_not_found(caught.value)

    async def test_update_with_an_old_version_is_a_conflict(self, client: Client, namespace: str) -> None:
        first = await client.create(CONFIGMAPS, config("raced", namespace))
        second = await client.update(CONFIGMAPS, {**first, "data": {"a": "1"}})
        assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        with pytest.raises(ApiError) as caught:
            await client.update(CONFIGMAPS, {**first, "data": {"a": "2"}})
        assert is_conflict(caught.value)

    async def test_an_update_that_changes_nothing_writes_nothing(self, client: Client, namespace: str) -> None:
        first = await client.create(CONFIGMAPS, config("calm", namespace))
        again = await client.update(CONFIGMAPS, first)
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    async def test_patches(self, client: Client, namespace: str) -> None:
        await client.create(CONFIGMAPS, config("patched", namespace, a="1", b="2"))
        merged = await client.patch(CONFIGMAPS, "patched", {"data": {"a": None, "c": "3"}}, namespace)
        assert merged["data"] == {"b": "2", "c": "3"}
        operations = [{"op": "replace", "path": "/data/b", "value": "9"}]
        assert (await client.patch(CONFIGMAPS, "patched", operations, namespace, kind="json"))["data"]["b"] == "9"
        stale = {"metadata": {"resourceVersion": "1"}, "data": {"b": "0"}}
        with pytest.raises(ApiError) as caught:
            await client.patch(CONFIGMAPS, "patched", stale, namespace)
        assert is_conflict(caught.value)

    async def test_status_and_spec_are_kept_apart(self, client: Client, namespace: str) -> None:
        made = await client.create(DEPLOYMENTS, deployment("apart", namespace))
        assert made["metadata"]["generation"] == 1
        both = {**made, "spec": {**made["spec"], "replicas": 3}, "status": {"replicas": 7}}
        changed = await client.update(DEPLOYMENTS, both)
        assert changed["metadata"]["generation"] == 2
        assert changed.get("status", {}).get("replicas", 0) == 0
        again = {**changed, "spec": {**made["spec"], "replicas": 9}, "status": {"replicas": 2}}
        shown = await client.update(DEPLOYMENTS, again, subresource="status")
        assert (shown["spec"]["replicas"], shown["status"]["replicas"]) == (3, 2)
        assert shown["metadata"]["generation"] == 2

    async def test_scale(self, client: Client, namespace: str) -> None:
        await client.create(DEPLOYMENTS, deployment("scaled", namespace))
        scale = await client.get(DEPLOYMENTS, "scaled", namespace, subresource="scale")
        assert scale["spec"]["replicas"] == 1
        await client.patch(DEPLOYMENTS, "scaled", {"spec": {"replicas": 4}}, namespace, subresource="scale")
        assert (await client.get(DEPLOYMENTS, "scaled", namespace))["spec"]["replicas"] == 4

    async def test_finalizers_keep_an_object(self, client: Client, namespace: str) -> None:
        wanted = config("kept", namespace)
        wanted["metadata"]["finalizers"] = ["example.com/hold"]
        await client.create(CONFIGMAPS, wanted)
        await client.delete(CONFIGMAPS, "kept", namespace)
        waiting = await client.get(CONFIGMAPS, "kept", namespace)
        assert waiting["metadata"]["deletionTimestamp"]
        await client.patch(CONFIGMAPS, "kept", {"metadata": {"finalizers": None}}, namespace)
        with pytest.raises(ApiError):
            await client.get(CONFIGMAPS, "kept", namespace)

    async def test_delete_preconditions(self, client: Client, namespace: str) -> None:
        await client.create(CONFIGMAPS, config("guarded", namespace))
        with pytest.raises(ApiError) as caught:
            await client.delete(CONFIGMAPS, "guarded", namespace, uid="another")
        assert is_conflict(caught.value)
        await client.delete(CONFIGMAPS, "guarded", namespace)

    async def test_a_bound_pod_dies_gracefully(self, client: Client, namespace: str) -> None:
        await client.create(PODS, pod("graceful", namespace))
        target = {"apiVersion": "v1", "kind": "Node", "name": "somewhere"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "graceful"}, "target": target}
        await client.create_sub(PODS, "graceful", namespace, "binding", binding)
        bound = await client.get(PODS, "graceful", namespace)
        assert bound["spec"]["nodeName"] == "somewhere"
        with pytest.raises(ApiError) as caught:
            await client.create_sub(PODS, "graceful", namespace, "binding", binding)
        assert is_conflict(caught.value)
        await client.delete(PODS, "graceful", namespace)
        assert (await client.get(PODS, "graceful", namespace))["metadata"]["deletionGracePeriodSeconds"] == 30
        await client.delete(PODS, "graceful", namespace, grace_seconds=0)
        with pytest.raises(ApiError):
            await client.get(PODS, "graceful", namespace)

    async def test_a_binding_is_told_once_and_only_if_it_holds(self, client: Client, namespace: str) -> None:
        bare = await client.create(PODS, pod("told", namespace))
        recorder = EventRecorder(client, "scheduler-of-the-test")
        for node in ("first", "second"):
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": "told", "namespace": namespace},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }
            event = recorder.new(bare, "Normal", "Scheduled", f"Successfully assigned to {node}")
            if node == "first":
                await client.bind(binding, event)
            else:
                with pytest.raises(ApiError) as caught:
                    await client.bind(binding, event)
                assert is_conflict(caught.value)
        told = [one for one in (await client.list(EVENTS, namespace)).items if one["reason"] == "Scheduled"]
        assert [(one["message"], one["count"]) for one in told] == [("Successfully assigned to first", 1)]
        assert told[0]["involvedObject"]["uid"] == bare["metadata"]["uid"]
        assert (await client.get(PODS, "told", namespace))["spec"]["nodeName"] == "first"

    async def test_a_pod_is_marked(self, client: Client, namespace: str) -> None:
        waiting = await client.create(PODS, pod("marked", namespace))
        stamp = "2026-01-01T00:00:00Z"
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": stamp}
        await client.mark(waiting, condition, nominated="somewhere")
        await client.mark(waiting, {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": stamp})
        await client.mark(waiting, {"type": "PodScheduled", "status": "False", "reason": "Other"})
        status = (await client.get(PODS, "marked", namespace))["status"]
        assert status["nominatedNodeName"] == "somewhere"
        found = {one["type"]: one for one in status["conditions"]}
        assert found.keys() == {"PodScheduled", "DisruptionTarget"}
        assert (found["PodScheduled"]["reason"], found["PodScheduled"]["lastTransitionTime"]) == ("Other", stamp)
        await client.mark(waiting, condition, nominated="")
        assert "nominatedNodeName" not in (await client.get(PODS, "marked", namespace))["status"]
        other = {"metadata": {**waiting["metadata"], "uid": "another"}}
        with pytest.raises(ApiError) as caught:
            await client.mark(other, condition)
        assert is_conflict(caught.value)

    async def test_why_a_pod_waits_is_told_with_it(self, client: Client, namespace: str) -> None:
        waiting = await client.create(PODS, pod("unplaced", namespace))
        said = EventRecorder(client, "scheduler-of-the-test").new(waiting, "Warning", "FailedScheduling", "no node")
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
        assert await client.mark(waiting, condition, nominated="elsewhere", event=said)
        listed = (await client.list(EVENTS, namespace)).items
        assert [one["message"] for one in listed if one["involvedObject"]["name"] == "unplaced"] == ["no node"]

    async def test_a_pod_that_makes_way_says_why(self, client: Client, namespace: str) -> None:
        """Whether it goes at once or has its time: the last that is seen of it says why, and it is told once."""
        recorder = EventRecorder(client, "scheduler-of-the-test")
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "way"}
        for name, grace in (("at-once", 0), ("in-time", 30)):
            wanted = pod(name, namespace)
            wanted["spec"] |= {"nodeName": "somewhere", "terminationGracePeriodSeconds": grace}
            victim = await client.create(PODS, wanted)
            listed = await client.list(PODS, namespace)
            told = recorder.new(victim, "Normal", "Preempted", f"Preempted {name}")
            other = {"metadata": {**victim["metadata"], "uid": "of-an-earlier-one"}}
            with pytest.raises(ApiError) as refused:
                await client.disrupt(other, condition)
            assert is_conflict(refused.value)
            assert await client.disrupt(victim, condition, told)
            async with client.watch(PODS, namespace, since=listed.resource_version, bookmarks=False) as watch:
                async with asyncio.timeout(PATIENCE):
                    async for event in watch:
                        if event.type == "DELETED" or event.obj["metadata"].get("deletionTimestamp"):
                            break
            assert event.type == ("MODIFIED" if grace else "DELETED")
            (found,) = [one for one in event.obj["status"]["conditions"] if one["type"] == "DisruptionTarget"]
            assert (found["status"], found["reason"]) == ("True", "PreemptionByScheduler")
        told_of = [
            one["message"] for one in (await client.list(EVENTS, namespace)).items if one["reason"] == "Preempted"
        ]
        assert sorted(told_of) == ["Preempted at-once", "Preempted in-time"]

    async def test_list_selects(self, client: Client, namespace: str) -> None:
        for number in range(5):
            part = "odd" if number % 2 else "even"
            await client.create(CONFIGMAPS, config(f"selected-{number}", namespace, part=part))
        found = await client.list(CONFIGMAPS, namespace, labels="part=odd")
        assert [obj["metadata"]["name"] for obj in found.items] == ["selected-1", "selected-3"]
        found = await client.list(CONFIGMAPS, namespace, labels="part in (odd,even)", limit=2)
        assert len(found) == 5
        found = await client.list(CONFIGMAPS, namespace, fields="metadata.name=selected-4")
        assert len(found) == 1

    async def test_a_watch_continues_a_list(self, client: Client, namespace: str) -> None:
        listed = await client.list(CONFIGMAPS, namespace)
        made = await client.create(CONFIGMAPS, config("watched", namespace))
        await client.update(CONFIGMAPS, {**made, "data": {"a": "1"}})
        await client.delete(CONFIGMAPS, "watched", namespace)
        events = await take(client, namespace, listed.resource_version, 3)
        assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
        versions = [int(event.resource_version) for event in events]
        assert versions == sorted(set(versions))

    async def test_a_watch_shows_what_its_selector_sees(self, client: Client, namespace: str) -> None:
        listed = await client.list(CONFIGMAPS, namespace)
        await client.create(CONFIGMAPS, config("mover", namespace, part="before"))
        for part in ("inside", "after", "inside"):
            await client.patch(CONFIGMAPS, "mover", {"metadata": {"labels": {"part": part}}}, namespace)
        await client.delete(CONFIGMAPS, "mover", namespace)
        events = await take(client, namespace, listed.resource_version, 4, labels="part=inside")
        assert [event.type for event in events] == ["ADDED", "DELETED", "ADDED", "DELETED"]

    async def test_a_watch_from_nothing_shows_everything(self, client: Client, namespace: str) -> None:
        await client.create(CONFIGMAPS, config("there", namespace, part="everything"))
        events = await take(client, namespace, "", 1, labels="part=everything")
        assert (events[0].type, events[0].obj["metadata"]["name"]) == ("ADDED", "there")

    async def test_delete_collection(self, client: Client, namespace: str) -> None:
        for number in range(3):
            await client.create(CONFIGMAPS, config(f"many-{number}", namespace, part="many"))
        await client.delete_collection(CONFIGMAPS, namespace, labels="part=many")
        assert len(await client.list(CONFIGMAPS, namespace, labels="part=many")) == 0

    async def test_cluster_scope(self, client: Client) -> None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "contract-scope"}}
        made = await client.create(NAMESPACES, space)
        assert "namespace" not in made["metadata"]
        with suppress(ApiError):
            await client.delete(NAMESPACES, "contract-scope")
