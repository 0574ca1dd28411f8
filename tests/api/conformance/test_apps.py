"""sig-apps: the life of workloads as clients see it, their status and scale, disruption budgets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conformance.cases import eventually, gone, ok, pod, put, template, watching, when
from tests.api.conformance.host import NAME, Host
from tests.api.server.api import Api

APPS = "/apis/apps/v1/namespaces"
BATCH = "/apis/batch/v1/namespaces"


def body_of(kind: str, name: str, *, replicas: int = 1, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    selector: Any = labels if kind == "replicationcontrollers" else {"matchLabels": labels}
    made: dict[str, Any] = {"selector": selector, "template": template(labels), **spec}
    if kind != "daemonsets":
        made["replicas"] = replicas
    if kind == "statefulsets":
        made["serviceName"] = "test"
    return {"metadata": {"name": name, "labels": labels}, "spec": made}


def collection(kind: str, space: str) -> str:
    if kind == "replicationcontrollers":
        return f"/api/v1/namespaces/{space}/{kind}"
    return f"{BATCH}/{space}/{kind}" if kind in ("jobs", "cronjobs") else f"{APPS}/{space}/{kind}"


def is_ready(kind: str, count: int = 1) -> Any:
    field = "numberReady" if kind == "daemonsets" else "readyReplicas"
    return lambda one: (one.get("status") or {}).get(field) == count


WORKLOADS = ["deployments", "replicasets", "statefulsets", "daemonsets", "replicationcontrollers"]


@pytest.mark.parametrize("kind", WORKLOADS)
async def test_status_endpoints(api: Api, space: str, running: Host, kind: str) -> None:
    """What is written into the status through its door is seen, with annotations, whatever the controller does."""
    path = collection(kind, space)
    ok(await api.post(path, body_of(kind, "web")), 201)
    await when(api, f"{path}/web", is_ready(kind))
    status = ok(await api.get(f"{path}/web/status"))
    assert status["metadata"]["name"] == "web"
    async with watching(api, f"{path}?labelSelector=app=web") as seen:

        async def update() -> bool:
            read = ok(await api.get(f"{path}/web"))
            added = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
            read["status"].setdefault("conditions", []).append(added)
            return (await api.put(f"{path}/web/status", read)).status == 200

        await eventually(update, bool)
        await seen.saw("MODIFIED", lambda o: any(c["type"] == "StatusUpdate" for c in o["status"]["conditions"]))
        body = {
            "metadata": {"annotations": {"patched": "yes"}},
            "status": {"conditions": [{"type": "StatusPatched", "status": "True"}]},
        }
        patched = ok(await api.patch(f"{path}/web/status", body))
        assert patched["metadata"]["annotations"]["patched"] == "yes"
        await seen.saw("MODIFIED", lambda o: any(c["type"] == "StatusPatched" for c in o["status"]["conditions"]))


@pytest.mark.parametrize("kind", [kind for kind in WORKLOADS if kind != "daemonsets"])
async def test_the_scale_subresource(api: Api, space: str, running: Host, kind: str) -> None:
    path = collection(kind, space)
    ok(await api.post(path, body_of(kind, "web")), 201)
    await when(api, f"{path}/web", is_ready(kind))
    scale = ok(await api.get(f"{path}/web/scale"))
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 1)
    assert scale["status"]["selector"] == "app=web"
    scale["metadata"]["resourceVersion"] = ""  # without a precondition, as the suite does
    scale["spec"]["replicas"] = 2
    assert ok(await api.put(f"{path}/web/scale", scale))["spec"]["replicas"] == 2
    assert ok(await api.get(f"{path}/web"))["spec"]["replicas"] == 2
    patched = ok(await api.patch(f"{path}/web/scale", {"spec": {"replicas": 4}}, "strategic"))
    assert patched["spec"]["replicas"] == 4
    await when(api, f"{path}/web", is_ready(kind, 4))


@pytest.mark.parametrize("kind", WORKLOADS)
async def test_list_patch_and_delete_a_collection(api: Api, space: str, running: Host, kind: str) -> None:
    path = collection(kind, space)
    for name in ("a", "b"):
        body = body_of(kind, name)
        body["metadata"]["labels"]["e2e"] = space
        ok(await api.post(path, body), 201)
        await when(api, f"{path}/{name}", is_ready(kind))
    everywhere = f"{path.split('/namespaces/')[0]}/{kind}?labelSelector=e2e={space}"
    assert len(ok(await api.get(everywhere))["items"]) == 2
    images = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "pause:1"}]}}}}
    patched = ok(await api.patch(f"{path}/a", {**images, "metadata": {"labels": {"a": "patched"}}}, "strategic"))
    assert patched["spec"]["template"]["spec"]["containers"][0]["image"] == "pause:1"
    async with watching(api, f"{path}?labelSelector=e2e={space}") as seen:
        options = {"gracePeriodSeconds": 1, "propagationPolicy": "Background"}
        ok(await api.delete(f"{path}?labelSelector=e2e={space}", options))
        await seen.saw("DELETED", lambda o: o["metadata"]["name"] == "a")
        await seen.saw("DELETED", lambda o: o["metadata"]["name"] == "b")
    assert ok(await api.get(everywhere))["items"] == []


async def test_the_lifecycle_of_a_deployment(api: Api, space: str, running: Host) -> None:
    path = collection("deployments", space)
    body = body_of("deployments", "d", replicas=2)
    body["metadata"]["labels"] |= {"test-deployment-static": "true"}
    body["spec"]["template"]["metadata"]["labels"]["test-deployment-static"] = "true"
    async with watching(api, f"{path}?labelSelector=test-deployment-static=true") as seen:
        ok(await api.post(path, body), 201)
        await seen.saw("MODIFIED", lambda d: d["status"].get("availableReplicas") == 2)
        patch = {
            "metadata": {"labels": {"test-deployment": "patched"}},
            "spec": {"replicas": 1, "template": {"spec": {"terminationGracePeriodSeconds": 0}}},
        }
        ok(await api.patch(f"{path}/d", patch, "strategic"))
        await seen.saw(
            "MODIFIED",
            lambda d: (
                d["metadata"]["labels"].get("test-deployment") == "patched"
                and d["status"].get("readyReplicas") == 1
                and d["status"].get("observedGeneration") == d["metadata"]["generation"]
            ),
        )
        ok(await api.patch(f"{path}/d/status", {"status": {"readyReplicas": 0, "availableReplicas": 0}}))
        got = ok(await api.get(f"{path}/d/status"))
        assert got["kind"] == "Deployment"
        ok(await api.delete(f"{path}?labelSelector=test-deployment-static=true"))
        await seen.saw("DELETED")


async def test_rollover_and_old_replica_sets(api: Api, space: str, running: Host) -> None:
    path = collection("deployments", space)
    body = body_of("deployments", "d", replicas=3, revisionHistoryLimit=0)
    ok(await api.post(path, body), 201)
    await when(api, f"{path}/d", is_ready("deployments", 3))
    for image in ("broken:1", "good:2"):
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
        ok(await api.patch(f"{path}/d", patch, "strategic"))
    done = await when(
        api,
        f"{path}/d",
        lambda d: (
            d["status"].get("updatedReplicas") == d["status"].get("availableReplicas") == 3
            and d["status"]["replicas"] == 3
            and d["status"]["observedGeneration"] == d["metadata"]["generation"]
        ),
    )
    assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"

    async def sets() -> list[Any]:
        found: list[Any] = ok(await api.get(collection("replicasets", space)))["items"]
        return found

    (left,) = await eventually(sets, lambda found: len(found) == 1)
    assert left["spec"]["template"]["spec"]["containers"][0]["image"] == "good:2"


@pytest.mark.parametrize("kind", ["replicasets", "replicationcontrollers", "jobs"])
async def test_matching_pods_are_adopted_and_others_released(api: Api, space: str, running: Host, kind: str) -> None:
    path, pods = collection(kind, space), f"/api/v1/namespaces/{space}/pods"
    if kind == "jobs":
        body: Any = {
            "metadata": {"name": "web"},
            "spec": {"parallelism": 2, "template": template({}, restartPolicy="Never")},
        }
        ok(await api.post(path, body), 201)
        found = (await eventually(lambda: api.get(pods), lambda a: len(a.json["items"]) == 2)).json["items"]
        orphan, released = found[0]["metadata"]["name"], found[1]["metadata"]["name"]
        ok(await api.patch(f"{pods}/{orphan}", {"metadata": {"ownerReferences": None}}))
    else:
        ok(await api.post(pods, pod("orphan", metadata={"labels": {"app": "web"}})), 201)
        await when(api, f"{pods}/orphan", lambda p: p["status"]["phase"] == "Running")
        ok(await api.post(path, body_of(kind, "web")), 201)
        orphan = released = "orphan"
    uid = ok(await api.get(f"{path}/web"))["metadata"]["uid"]
    await when(
        api, f"{pods}/{orphan}", lambda p: any(o["uid"] == uid for o in p["metadata"].get("ownerReferences") or ())
    )
    labels = {"app": "not-matching-name", "controller-uid": None, "job-name": None}
    labels |= {"batch.kubernetes.io/controller-uid": None, "batch.kubernetes.io/job-name": None}
    ok(await api.patch(f"{pods}/{released}", {"metadata": {"labels": labels}}))
    await when(api, f"{pods}/{released}", lambda p: not p["metadata"].get("ownerReferences"))


async def test_a_quota_is_surfaced_as_a_failure_condition(api: Api, space: str, running: Host) -> None:
    quotas = f"/api/v1/namespaces/{space}/resourcequotas"
    ok(await api.post(quotas, {"metadata": {"name": "condition-test"}, "spec": {"hard": {"pods": "2"}}}), 201)
    await when(api, f"{quotas}/condition-test", lambda q: q.get("status", {}).get("used"))
    path = collection("replicationcontrollers", space)
    ok(await api.post(path, body_of("replicationcontrollers", "web", replicas=3)), 201)

    def failing(one: Any) -> bool:
        found = [c for c in one["status"].get("conditions") or () if c["type"] == "ReplicaFailure"]
        return bool(found) and found[0]["reason"] == "FailedCreate" and "exceeded quota" in found[0]["message"]

    await when(api, f"{path}/web", failing)
    ok(await api.patch(f"{path}/web/scale", {"spec": {"replicas": 2}}))
    await when(api, f"{path}/web", lambda one: not one["status"].get("conditions"))


async def test_controller_revisions(api: Api, space: str, running: Host) -> None:
    path, sets = f"{APPS}/{space}/controllerrevisions", collection("daemonsets", space)
    ok(await api.post(sets, body_of("daemonsets", "e2e")), 201)
    await when(api, f"{sets}/e2e", is_ready("daemonsets"))

    async def revisions() -> list[Any]:
        found: list[Any] = ok(await api.get(f"{path}?labelSelector=app=e2e"))["items"]
        return found

    (first,) = await revisions()
    one = f"{path}/{first['metadata']['name']}"
    label = first["metadata"]["name"]
    patched = ok(await api.patch(one, {"metadata": {"labels": {label: "patched"}}}, "strategic"))
    assert patched["metadata"]["labels"][label] == "patched"
    second = {
        "metadata": {
            "name": "e2e-copy",
            "labels": first["metadata"]["labels"],
            "ownerReferences": first["metadata"]["ownerReferences"],
        },
        "data": first["data"],
        "revision": first["revision"] + 1,
    }
    ok(await api.post(path, second), 201)
    assert len(await revisions()) == 2
    ok(await api.delete(one))
    await gone(api, one)
    (left,) = await eventually(revisions, lambda found: len(found) == 1)
    left["metadata"]["labels"]["x"] = "updated"
    assert ok(await api.put(f"{path}/{left['metadata']['name']}", left))["metadata"]["labels"]["x"] == "updated"
    changed = {
        "spec": {
            "template": {"spec": {"terminationGracePeriodSeconds": 1}},
            "updateStrategy": {"type": "RollingUpdate"},
        }
    }
    ok(await api.patch(f"{sets}/e2e", changed, "strategic"))
    await eventually(revisions, lambda found: len(found) == 2)
    ok(await api.delete(f"{path}?labelSelector=x=updated"))
    (last,) = await eventually(revisions, lambda found: len(found) == 1)
    assert last["revision"] == 3


async def test_the_lifecycle_and_status_of_a_job(api: Api, space: str, running: Host) -> None:
    path = collection("jobs", space)
    suspended = {
        "metadata": {"name": "e2e", "labels": {"e2e": space}},
        "spec": {"suspend": True, "parallelism": 2, "completions": 4, "template": template({}, restartPolicy="Never")},
    }
    ok(await api.post(path, suspended), 201)
    ok(await api.patch(f"{path}/e2e", {"metadata": {"labels": {"x": "patched"}}}, "strategic"))
    await when(api, f"{path}/e2e", lambda j: any(c["type"] == "Suspended" for c in j["status"].get("conditions") or ()))
    read = ok(await api.get(f"{path}/e2e"))
    read["metadata"]["annotations"] = {"updated": "true"}
    read["spec"]["suspend"] = False
    assert ok(await put(api, f"{path}/e2e", read))["metadata"]["annotations"]["updated"] == "true"
    await when(api, f"{path}/e2e", lambda j: j["status"].get("active") == 2)
    started = ok(await api.get(f"{path}/e2e"))["status"]["startTime"]
    body = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"startTime": started}}
    patched = ok(await api.patch(f"{path}/e2e/status", body))
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    assert ok(await api.get(f"{path}/e2e/status"))["status"]["active"] == 2
    everywhere = f"/apis/batch/v1/jobs?labelSelector=e2e={space}"
    assert len(ok(await api.get(everywhere))["items"]) == 1
    ok(await api.delete(f"{path}?labelSelector=e2e={space}", {"propagationPolicy": "Background"}))
    await gone(api, f"{path}/e2e")
    await eventually(lambda: api.get(f"/api/v1/namespaces/{space}/pods"), lambda a: not a.json["items"])


async def test_pod_failure_policies(api: Api, space: str, running: Host) -> None:
    path = collection("jobs", space)
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}
    spec = {
        "backoffLimit": 6,
        "podFailurePolicy": {"rules": [rule]},
        "template": template({"phase": "Failed"}, restartPolicy="Never"),
    }
    ok(await api.post(path, {"metadata": {"name": "e2e"}, "spec": spec}), 201)

    def failed(job: Any) -> bool:
        return any(
            c["type"] == "Failed" and c["reason"] == "PodFailurePolicy" for c in job["status"].get("conditions") or ()
        )

    assert (await when(api, f"{path}/e2e", failed))["status"]["failed"] == 1


async def test_the_lifecycle_of_a_cron_job(api: Api, space: str) -> None:
    path = collection("cronjobs", space)
    spec = {
        "schedule": "* */1 * * ?",
        "concurrencyPolicy": "Allow",
        "jobTemplate": {"spec": {"template": template({}, restartPolicy="OnFailure")}},
        "suspend": True,
    }
    body = {"metadata": {"name": "e2e", "labels": {"special": space}}, "spec": spec}
    async with watching(api, f"{path}?labelSelector=special={space}") as seen:
        made = ok(await api.post(path, body), 201)
        await seen.saw("ADDED")
        assert len(ok(await api.get(f"/apis/batch/v1/cronjobs?labelSelector=special={space}"))["items"]) == 1
        ok(await api.patch(f"{path}/e2e", {"metadata": {"annotations": {"patched": "true"}}}))
        await seen.saw("MODIFIED", lambda c: c["metadata"].get("annotations", {}).get("patched") == "true")
        read = ok(await api.get(f"{path}/e2e"))
        read["metadata"]["annotations"]["updated"] = "true"
        ok(await put(api, f"{path}/e2e", read))
        await seen.saw("MODIFIED", lambda c: c["metadata"].get("annotations", {}).get("updated") == "true")
        status = {"lastScheduleTime": "2026-01-02T03:04:05Z"}
        patched = ok(
            await api.patch(
                f"{path}/e2e/status", {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": status}
            )
        )
        assert patched["status"]["lastScheduleTime"] == status["lastScheduleTime"]
        assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
        patched["status"]["lastScheduleTime"] = "2026-01-02T03:05:05Z"
        updated = ok(await put(api, f"{path}/e2e/status", patched))
        assert updated["status"]["lastScheduleTime"] == "2026-01-02T03:05:05Z"
        assert ok(await api.get(f"{path}/e2e/status"))["metadata"]["uid"] == made["metadata"]["uid"]
        ok(await api.delete(f"{path}/e2e"))
        await seen.saw("DELETED")
    ok(await api.delete(f"{path}?labelSelector=special={space}"))


# -- disruption


def budget(name: str, **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "web"}}
    return {"metadata": {"name": name, "labels": {"e2e": "pdb"}}, "spec": {"selector": selector, **spec}}


async def test_disruption_budgets(api: Api, space: str, running: Host) -> None:
    path, pods = f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets", f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(path, budget("one", minAvailable="1%")), 201)
    ok(await api.post(path, budget("two", minAvailable=1)), 201)
    everywhere = "/apis/policy/v1/poddisruptionbudgets?labelSelector=e2e=pdb"
    assert len(ok(await api.get(everywhere))["items"]) == 2
    read = ok(await api.get(f"{path}/one"))
    read["spec"]["minAvailable"] = "2%"
    assert ok(await put(api, f"{path}/one", read))["spec"]["minAvailable"] == "2%"
    assert ok(await api.patch(f"{path}/one", {"spec": {"minAvailable": "3%"}}))["spec"]["minAvailable"] == "3%"
    ok(await api.delete(f"{path}/one"))
    await gone(api, f"{path}/one")

    for i in range(3):
        ok(await api.post(pods, pod(f"web{i}", metadata={"labels": {"app": "web"}})), 201)
    found = await when(api, f"{path}/two", lambda p: p.get("status", {}).get("disruptionsAllowed") == 2)
    assert found["status"]["expectedPods"] == 3
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    found["status"]["disruptedPods"] = {"web0": "2099-01-01T00:00:00Z"}

    async def marked() -> bool:
        read = ok(await api.get(f"{path}/two"))
        read["status"]["disruptedPods"] = {"web0": "2099-01-01T00:00:00Z"}
        done = await api.put(f"{path}/two/status", read)
        return done.status == 200 and "web0" in done.json["status"]["disruptedPods"]

    await eventually(marked, bool)
    body = {"metadata": {"annotations": {"a": "b"}}, "status": {"disruptedPods": {"web1": "2099-01-01T00:00:00Z"}}}
    patched = ok(await api.patch(f"{path}/two/status", body))
    assert {"web1"} <= set(patched["status"]["disruptedPods"])
    ok(await api.delete(f"{path}?labelSelector=e2e=pdb"))
    assert ok(await api.get(path))["items"] == []


async def test_an_eviction_is_blocked_until_the_budget_allows_it(api: Api, space: str, running: Host) -> None:
    path, pods = f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets", f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(pods, pod("web", metadata={"labels": {"app": "web"}})), 201)
    await when(api, f"{pods}/web", lambda p: p["status"]["phase"] == "Running")
    ok(await api.post(path, budget("tight", minAvailable=1)), 201)
    await when(api, f"{path}/tight", lambda p: p.get("status", {}).get("currentHealthy") == 1)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
    refused = await api.post(f"{pods}/web/eviction", eviction)
    assert refused.failure[:2] == (429, "TooManyRequests")
    assert refused.json["details"]["causes"][0]["reason"] == "DisruptionBudget"
    ok(await api.patch(f"{path}/tight", {"spec": {"minAvailable": 0}}))
    await eventually(lambda: api.post(f"{pods}/web/eviction", eviction), lambda answer: answer.status == 201)
    await gone(api, f"{pods}/web")


# -- StatefulSets and DaemonSets


async def test_stateful_sets_halt_at_unhealthy_pods_and_burst(api: Api, space: str, running: Host) -> None:
    path, pods = collection("statefulsets", space), f"/api/v1/namespaces/{space}/pods"
    body = body_of("statefulsets", "ss", replicas=3)
    body["spec"]["template"]["metadata"]["labels"]["unready"] = "true"
    ok(await api.post(path, body), 201)
    await when(api, f"{pods}/ss-0", lambda p: p.get("status", {}).get("phase") == "Running")
    await asyncio.sleep(0.5)
    assert (await api.get(f"{pods}/ss-1")).status == 404
    burst = body_of("statefulsets", "burst", replicas=3, podManagementPolicy="Parallel")
    burst["spec"]["template"]["metadata"]["labels"]["unready"] = "true"
    ok(await api.post(path, burst), 201)
    await when(api, f"{pods}/burst-2", lambda p: p.get("status", {}).get("phase") == "Running")


async def test_a_failed_pod_of_a_stateful_set_is_recreated(api: Api, space: str, running: Host) -> None:
    path, one = collection("statefulsets", space), f"/api/v1/namespaces/{space}/pods/ss-0"
    ok(await api.post(path, body_of("statefulsets", "ss")), 201)
    first = await when(api, one, lambda p: p.get("status", {}).get("phase") == "Running")
    ok(await api.patch(f"{one}/status", {"status": {"phase": "Failed"}}))
    await when(
        api,
        one,
        lambda p: p.get("status", {}).get("phase") == "Running" and p["metadata"]["uid"] != first["metadata"]["uid"],
    )


async def test_a_rolled_back_stateful_set_returns_to_its_revision(api: Api, space: str, running: Host) -> None:
    path = collection("statefulsets", space)
    ok(await api.post(path, body_of("statefulsets", "ss", replicas=2)), 201)
    first = await when(api, f"{path}/ss", is_ready("statefulsets", 2))
    wanted = first["status"]["updateRevision"]
    for image in ("other:1", "agnhost:2"):
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}
        ok(await api.patch(f"{path}/ss", patch, "strategic"))
        done = await when(
            api,
            f"{path}/ss",
            lambda s: (
                s["status"].get("observedGeneration") == s["metadata"]["generation"]
                and s["status"]["currentRevision"] == s["status"]["updateRevision"]
                and s["status"].get("updatedReplicas") == s["status"].get("readyReplicas") == 2
            ),
        )
    assert done["status"]["currentRevision"] == wanted


async def test_daemon_pods_follow_node_labels_and_failures(api: Api, space: str, running: Host) -> None:

    path, pods = collection("daemonsets", space), f"/api/v1/namespaces/{space}/pods"
    body = body_of("daemonsets", "ds")
    body["spec"]["template"]["spec"]["nodeSelector"] = {"color": space}
    ok(await api.post(path, body), 201)
    await when(api, f"{path}/ds", lambda d: d["status"].get("observedGeneration") == 1)
    assert ok(await api.get(pods))["items"] == []
    ok(await api.patch(f"/api/v1/nodes/{NAME}", {"metadata": {"labels": {"color": space}}}))
    await when(api, f"{path}/ds", is_ready("daemonsets"))
    (first,) = ok(await api.get(pods))["items"]
    name = first["metadata"]["name"]
    ok(await api.patch(f"{pods}/{name}/status", {"status": {"phase": "Failed"}}))
    await gone(api, f"{pods}/{name}")
    await when(api, f"{path}/ds", is_ready("daemonsets"))
    ok(await api.patch(f"/api/v1/nodes/{NAME}", {"metadata": {"labels": {"color": None}}}))
    await eventually(lambda: api.get(pods), lambda a: not a.json["items"])
