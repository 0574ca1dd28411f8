"""sig-apps: what Deployments, StatefulSets and DaemonSets do step by step, with pods that get ready as wanted."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.conformance.cases import eventually, gone, ok, watching, when
from tests.api.conformance.host import Host
from tests.api.conformance.test_apps import body_of, collection, is_ready
from tests.api.server.api import Api

REVISION = "deployment.kubernetes.io/revision"
HASH = "controller-revision-hash"


def variable(value: str | None) -> dict[str, Any]:
    """A patch that gives the container a variable, or takes it away again."""
    env = {"name": "V", "value": value} if value else {"name": "V", "$patch": "delete"}
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [env]}]}}}}


def owner(one: Any) -> str:
    return next((o["uid"] for o in one["metadata"].get("ownerReferences") or () if o.get("controller")), "")


class Pods:
    """Those of a namespace."""

    def __init__(self, api: Api, space: str) -> None:
        self.api, self.path = api, f"/api/v1/namespaces/{space}/pods"

    async def all(self) -> dict[str, Any]:
        found = ok(await self.api.get(self.path))["items"]
        return {one["metadata"]["name"]: one for one in found if "deletionTimestamp" not in one["metadata"]}

    async def set_ready(self, *names: str, ready: bool) -> None:
        changed = [{"type": kind, "status": str(ready)} for kind in ("Ready", "ContainersReady")]
        for name in names:
            ok(await self.api.patch(f"{self.path}/{name}/status", {"status": {"conditions": changed}}, "strategic"))

    async def until(self, good: Any) -> dict[str, Any]:
        return await eventually(self.all, good)

    async def revisions(self, wanted: dict[str, str]) -> None:
        """Until exactly these pods are there, of these revisions."""
        await self.until(lambda found: {name: one["metadata"]["labels"][HASH] for name, one in found.items()} == wanted)


async def test_a_deployment_takes_over_replica_sets_and_counts_on(api: Api, space: str, running: Host) -> None:
    sets, path = collection("replicasets", space), collection("deployments", space)
    old = body_of("replicasets", "web")
    old["metadata"]["annotations"] = {REVISION: "3546343826724305832"}
    ok(await api.post(sets, old), 201)
    await when(api, f"{sets}/web", is_ready("replicasets"))
    new = body_of("deployments", "web")
    new["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "V", "value": "1"}]
    made = ok(await api.post(path, new), 201)
    counted = "3546343826724305833"
    await when(api, f"{path}/web", lambda d: d["metadata"].get("annotations", {}).get(REVISION) == counted)
    taken = await when(api, f"{sets}/web", lambda s: s["spec"]["replicas"] == 0 and not s["status"]["replicas"])
    assert owner(taken) == made["metadata"]["uid"]


async def test_a_rollback_by_go_types_returns_to_the_replica_set_that_was(api: Api, space: str, running: Host) -> None:
    """Manifests say ``tty: false`` and the like; kubectl's types do not, and it rolls back to what they hold."""
    sets, path = collection("replicasets", space), collection("deployments", space)
    body = body_of("deployments", "web", replicas=0)
    said = body["spec"]["template"]["spec"]
    said["hostNetwork"], said["containers"][0]["tty"], said["containers"][0]["stdin"] = False, False, False
    ok(await api.post(path, body), 201)
    first = await eventually(lambda: api.get(sets), lambda found: len(found.json["items"]) == 1)
    ok(await api.patch(f"{path}/web", variable("2"), "strategic"))
    await eventually(lambda: api.get(sets), lambda found: len(found.json["items"]) == 2)
    (old,) = first.json["items"]
    template = old["spec"]["template"]
    template["metadata"]["labels"].pop("pod-template-hash")
    template["spec"].pop("hostNetwork", None)
    for field in ("tty", "stdin"):
        template["spec"]["containers"][0].pop(field, None)
    ok(await api.patch(f"{path}/web", [{"op": "replace", "path": "/spec/template", "value": template}], "json"))
    await when(api, f"{path}/web", lambda d: d["metadata"]["annotations"][REVISION] == "3")
    found = {one["metadata"]["name"]: one for one in ok(await api.get(sets))["items"]}
    assert len(found) == 2
    assert found[old["metadata"]["name"]]["metadata"]["annotations"][REVISION] == "3"


async def test_orphans_of_a_deployment_are_adopted_by_the_next(api: Api, space: str, running: Host) -> None:
    sets, path, pods = collection("replicasets", space), collection("deployments", space), Pods(api, space)
    body = body_of("deployments", "web")
    ok(await api.post(path, body), 201)
    await when(api, f"{path}/web", is_ready("deployments"))
    (one,) = ok(await api.get(sets))["items"]
    name, before = one["metadata"]["name"], await pods.all()
    ok(await api.delete(f"{path}/web", {"propagationPolicy": "Orphan"}))
    await gone(api, f"{path}/web")
    assert not owner(ok(await api.get(f"{sets}/{name}")))
    body["metadata"]["name"] = "next"
    made = ok(await api.post(path, body), 201)
    await when(api, f"{path}/next", is_ready("deployments"))
    assert [owner(found) for found in ok(await api.get(sets))["items"]] == [made["metadata"]["uid"]]
    assert (await pods.all()).keys() == before.keys()


async def test_scaling_during_a_rollout_is_proportional(api: Api, space: str, running: Host) -> None:
    sets, path = collection("replicasets", space), collection("deployments", space)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    ok(await api.post(path, body_of("deployments", "web", replicas=10, strategy=strategy)), 201)
    await when(api, f"{path}/web", is_ready("deployments", 10))
    (first,) = ok(await api.get(sets))["items"]
    stuck = {"spec": {"template": {"metadata": {"labels": {"unready": "true"}}}}}
    ok(await api.patch(f"{path}/web", stuck, "strategic"))

    async def sizes() -> list[int]:
        found = ok(await api.get(sets))["items"]
        found.sort(key=lambda one: one["metadata"]["name"] != first["metadata"]["name"])
        return [one["spec"]["replicas"] for one in found]

    await eventually(sizes, lambda found: found == [8, 5])
    ok(await api.patch(f"{path}/web", {"spec": {"replicas": 30}}))
    await eventually(sizes, lambda found: found == [20, 13])


async def test_a_stateful_set_is_updated_by_phases(api: Api, space: str, running: Host) -> None:
    """A canary first; pods that are deleted meanwhile come back as the partition says."""
    path, pods = collection("statefulsets", space), Pods(api, space)
    names = [f"ss-{i}" for i in range(3)]
    body = body_of("statefulsets", "ss", replicas=3)
    body["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
    ok(await api.post(path, body), 201)
    old = (await when(api, f"{path}/ss", is_ready("statefulsets", 3)))["status"]["currentRevision"]
    ok(await api.patch(f"{path}/ss", variable("new"), "strategic"))
    changed = await when(api, f"{path}/ss", lambda s: s["status"]["updateRevision"] != old)
    new = changed["status"]["updateRevision"]
    await asyncio.sleep(0.5)
    await pods.revisions(dict.fromkeys(names, old))
    for partition in (2, 1, 0):
        ok(await api.patch(f"{path}/ss", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}}}))
        wanted = {name: new if i >= partition else old for i, name in enumerate(names)}
        await pods.revisions(wanted)
        if partition != 2:
            continue
        before = await pods.all()
        for name in ("ss-0", "ss-2"):
            ok(await api.delete(f"{pods.path}/{name}"))
        await pods.until(
            lambda found, old=before: (
                found.keys() == old.keys()
                and all(found[name]["metadata"]["uid"] != old[name]["metadata"]["uid"] for name in ("ss-0", "ss-2"))
            )
        )
        await pods.revisions(wanted)
        await when(api, f"{path}/ss", is_ready("statefulsets", 3))
    await when(api, f"{path}/ss", lambda s: s["status"]["currentRevision"] == new)
    # Without the variable the template is the first one again: no third revision.
    ok(await api.patch(f"{path}/ss", variable(None), "strategic"))
    await when(api, f"{path}/ss", lambda s: s["status"]["updateRevision"] == old)


async def test_scaling_a_stateful_set_is_ordered_and_halts(api: Api, space: str, running: Host) -> None:
    path, pods = collection("statefulsets", space), Pods(api, space)
    async with watching(api, f"{pods.path}?labelSelector=app=ss") as seen:

        def order(kind: str) -> list[str]:
            return [event["object"]["metadata"]["name"] for event in seen.events if event["type"] == kind]

        ok(await api.post(path, body_of("statefulsets", "ss")), 201)
        await when(api, f"{path}/ss", is_ready("statefulsets"))
        await pods.set_ready("ss-0", ready=False)
        await when(api, f"{path}/ss", lambda s: not s["status"].get("readyReplicas"))
        ok(await api.patch(f"{path}/ss/scale", {"spec": {"replicas": 3}}))
        await asyncio.sleep(0.7)
        assert order("ADDED") == ["ss-0"]
        await pods.set_ready("ss-0", ready=True)
        await when(api, f"{path}/ss", is_ready("statefulsets", 3))
        await eventually(lambda: asyncio.sleep(0, order("ADDED")), lambda names: len(names) > 2)
        assert order("ADDED") == ["ss-0", "ss-1", "ss-2"]
        await pods.set_ready("ss-0", "ss-1", "ss-2", ready=False)
        await when(api, f"{path}/ss", lambda s: not s["status"].get("readyReplicas"))
        ok(await api.patch(f"{path}/ss/scale", {"spec": {"replicas": 0}}))
        await asyncio.sleep(0.7)
        assert order("DELETED") == []
        await pods.set_ready("ss-2", "ss-1", "ss-0", ready=True)
        await pods.until(lambda found: not found)
        await eventually(lambda: asyncio.sleep(0, order("DELETED")), lambda names: names == ["ss-2", "ss-1", "ss-0"])


async def test_ordinals_of_a_stateful_set_start_elsewhere(api: Api, space: str, running: Host) -> None:
    path, pods = collection("statefulsets", space), Pods(api, space)
    ok(await api.post(path, body_of("statefulsets", "ss", replicas=2, ordinals={"start": 2})), 201)
    for start, change in ((2, None), (4, {"start": 4}), (3, {"start": 3}), (0, None)):
        if start != 2:
            ok(await api.patch(f"{path}/ss", {"spec": {"ordinals": change}}))
        wanted = {f"ss-{start}", f"ss-{start + 1}"}
        found = await pods.until(lambda found, names=wanted: found.keys() == names)
        assert found[f"ss-{start}"]["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == str(start)
        await when(api, f"{path}/ss", is_ready("statefulsets", 2))


async def test_availability_follows_min_ready_seconds(api: Api, space: str, running: Host) -> None:
    path = collection("statefulsets", space)
    ok(await api.post(path, body_of("statefulsets", "ss", replicas=2, minReadySeconds=3600)), 201)
    first = await when(api, f"{path}/ss", lambda s: s["status"].get("readyReplicas"))
    assert first["status"]["availableReplicas"] == 0
    for seconds, available in ((2, 2), (3600, 0), (0, 2)):
        ok(await api.patch(f"{path}/ss", {"spec": {"minReadySeconds": seconds}}))
        await when(
            api,
            f"{path}/ss",
            lambda s, n=available: (s["status"].get("readyReplicas"), s["status"]["availableReplicas"]) == (2, n),
        )


async def test_a_daemon_set_rolls_back_without_a_restart(api: Api, space: str, running: Host) -> None:
    """Pods that the failed update did not reach stay; node affinity decides where any are."""
    path, pods = collection("daemonsets", space), Pods(api, space)
    ok(await api.post(path, body_of("daemonsets", "ds", updateStrategy={"type": "OnDelete"})), 201)
    await when(api, f"{path}/ds", is_ready("daemonsets"))
    before = await pods.all()
    ok(await api.patch(f"{path}/ds", variable("broken"), "strategic"))
    await when(api, f"{path}/ds", lambda d: not d["status"].get("updatedNumberScheduled"))
    ok(await api.patch(f"{path}/ds", variable(None), "strategic"))
    ok(await api.patch(f"{path}/ds", {"spec": {"updateStrategy": {"type": "RollingUpdate"}}}))
    await when(
        api,
        f"{path}/ds",
        lambda d: (
            d["status"].get("updatedNumberScheduled") == 1
            and d["status"]["observedGeneration"] == d["metadata"]["generation"]
        ),
    )
    await asyncio.sleep(0.3)
    assert {one["metadata"]["uid"] for one in (await pods.all()).values()} == {
        one["metadata"]["uid"] for one in before.values()
    }
    revisions = ok(await api.get(f"/apis/apps/v1/namespaces/{space}/controllerrevisions"))["items"]
    assert sorted(one["revision"] for one in revisions) == [2, 3]
    elsewhere = {"matchExpressions": [{"key": "color", "operator": "In", "values": ["none"]}]}
    terms = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [elsewhere]}}
    ok(await api.patch(f"{path}/ds", {"spec": {"template": {"spec": {"affinity": {"nodeAffinity": terms}}}}}))
    await pods.until(lambda found: not found)
    await when(api, f"{path}/ds", lambda d: d["status"]["desiredNumberScheduled"] == 0)
