"""sig-scheduling: who has to make room for whom, and what keeps a pod from a node that claims to run pods."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.api.conformance.cases import eventually, gone, ok, pod, template, when
from tests.api.conformance.host import NAME, Host
from tests.api.server.api import Api

RESOURCE = "example.com/fakecpu"
PRIORITIES = {"low": 1, "medium": 100, "high": 1000}


@asynccontextmanager
async def offering(api: Api, amount: str) -> AsyncIterator[None]:
    """The node has so much of an extended resource, and there are classes of three priorities."""
    classes, node = "/apis/scheduling.k8s.io/v1/priorityclasses", f"/api/v1/nodes/{NAME}/status"
    for name, value in PRIORITIES.items():
        ok(await api.post(classes, {"metadata": {"name": name}, "value": value}), 201)
    there = {"capacity": {RESOURCE: amount}, "allocatable": {RESOURCE: amount}}
    ok(await api.patch(node, {"status": there}))
    try:
        yield
    finally:
        ok(await api.patch(node, {"status": {"capacity": {RESOURCE: None}, "allocatable": {RESOURCE: None}}}))
        for name in PRIORITIES:
            await api.delete(f"{classes}/{name}")


def wanting(name: str, amount: str, priority: str, **spec: Any) -> dict[str, Any]:
    """A pod of a priority class that takes so much of the resource."""
    made = pod(name, priorityClassName=priority, **spec)
    made["spec"]["containers"][0]["resources"] = {"requests": {RESOURCE: amount}, "limits": {RESOURCE: amount}}
    return made


def runs(one: Any) -> bool:
    return bool(one.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in one["metadata"])


def condition(one: Any, kind: str) -> Any:
    return next((c for c in one.get("status", {}).get("conditions") or () if c["type"] == kind), {})


def unschedulable(one: Any) -> Any:
    """The reason why no node takes the pod; "" while there is none."""
    found = condition(one, "PodScheduled")
    return found.get("message") if found.get("reason") == "Unschedulable" else ""


async def test_the_least_important_pod_makes_room_and_says_why(api: Api, space: str, running: Host) -> None:
    pods = f"/api/v1/namespaces/{space}/pods"
    async with offering(api, "5"):
        held = wanting("low", "2", "low", metadata={"finalizers": ["example.com/hold"]})
        for body in (held, wanting("medium", "2", "medium")):
            ok(await api.post(pods, body), 201)
            await when(api, f"{pods}/{body['metadata']['name']}", runs)
        ok(await api.post(pods, wanting("high", "2", "high")), 201)
        victim = await when(api, f"{pods}/low", lambda p: condition(p, "DisruptionTarget"))
        told = condition(victim, "DisruptionTarget")
        assert (told["status"], told["reason"]) == ("True", "PreemptionByScheduler")
        assert told["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
        await when(api, f"{pods}/high", lambda p: p["status"].get("nominatedNodeName") == NAME)
        ok(await api.patch(f"{pods}/low", {"metadata": {"finalizers": None}}))
        await when(api, f"{pods}/high", runs)
        await gone(api, f"{pods}/low")
        assert runs(ok(await api.get(f"{pods}/medium")))
        preempted = await eventually(
            lambda: api.get(f"/api/v1/namespaces/{space}/events?fieldSelector=reason%3DPreempted"),
            lambda a: a.json["items"],
        )
        (event,) = preempted.json["items"]
        assert event["involvedObject"]["name"] == "low"
        ok(await api.delete(pods, {"gracePeriodSeconds": 0}))


async def test_a_critical_pod_takes_the_room_of_the_least_important(api: Api, space: str, running: Host) -> None:
    pods, system = f"/api/v1/namespaces/{space}/pods", "/api/v1/namespaces/kube-system/pods"
    async with offering(api, "4"):
        for name, priority in (("low", "low"), ("high", "high")):
            ok(await api.post(pods, wanting(name, "2", priority)), 201)
            await when(api, f"{pods}/{name}", runs)
        ok(await api.post(system, wanting(space, "2", "system-cluster-critical")), 201)
        await when(api, f"{system}/{space}", runs)
        await gone(api, f"{pods}/low")
        assert runs(ok(await api.get(f"{pods}/high")))
        ok(await api.delete(f"{system}/{space}", {"gracePeriodSeconds": 0}))
        ok(await api.delete(pods, {"gracePeriodSeconds": 0}))


async def test_preemption_takes_no_more_than_it_needs_of_several_replica_sets(
    api: Api, space: str, running: Host
) -> None:
    sets, pods = f"/apis/apps/v1/namespaces/{space}/replicasets", f"/api/v1/namespaces/{space}/pods"

    async def all_pods() -> list[Any]:
        return list(ok(await api.get(pods))["items"])

    def counted(found: list[Any]) -> Counter[str]:
        return Counter(one["metadata"]["labels"]["app"] for one in found if runs(one))

    async with offering(api, "1000"):
        for name, replicas, amount in (("low", 5, "40"), ("medium", 4, "50"), ("high", 4, "95")):
            body = template({"app": name}, priorityClassName=name)
            body["spec"]["containers"][0]["resources"] = {"requests": {RESOURCE: amount}, "limits": {RESOURCE: amount}}
            spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": body}
            ok(await api.post(sets, {"metadata": {"name": name}, "spec": spec}), 201)
            await when(api, f"{sets}/{name}", lambda s, n=replicas: s["status"].get("readyReplicas") == n)
        before = {one["metadata"]["uid"] for one in await all_pods()}
        top = wanting("top", "400", "system-node-critical", metadata={"labels": {"app": "top"}})
        assert (await api.post(pods, top)).status == 201
        found = await eventually(all_pods, lambda p: counted(p)["top"] == 1)
        assert counted(found) == {"medium": 4, "high": 4, "top": 1}
        kept = {one["metadata"]["uid"] for one in found if one["metadata"]["labels"]["app"] in ("medium", "high")}
        assert kept < before
        for name in ("low", "medium", "high"):
            ok(await api.delete(f"{sets}/{name}"))
        ok(await api.delete(pods, {"gracePeriodSeconds": 0}))


async def test_overhead_of_a_runtime_class_counts(api: Api, space: str, running: Host) -> None:
    pods, classes = f"/api/v1/namespaces/{space}/pods", "/apis/node.k8s.io/v1/runtimeclasses"
    overhead = {"podFixed": {RESOURCE: "250"}}
    ok(await api.post(classes, {"metadata": {"name": space}, "handler": "runc", "overhead": overhead}), 201)
    async with offering(api, "1000"):
        ok(await api.post(pods, wanting("filler", "700", "low", runtimeClassName=space)), 201)
        await when(api, f"{pods}/filler", runs)
        ok(await api.post(pods, wanting("more", "75", "low")), 201)
        refused = await when(api, f"{pods}/more", unschedulable)
        assert f"1 Insufficient {RESOURCE}" in unschedulable(refused)
        ok(await api.post(pods, wanting("fits", "50", "low")), 201)
        await when(api, f"{pods}/fits", runs)
        ok(await api.delete(pods, {"gracePeriodSeconds": 0}))
    ok(await api.delete(f"{classes}/{space}"))


def at_port(name: str, port: int, address: str, protocol: str) -> dict[str, Any]:
    made = pod(name)
    taken = {"containerPort": 8080, "hostPort": port, "hostIP": address, "protocol": protocol}
    made["spec"]["containers"][0]["ports"] = [taken]
    return made


async def test_host_ports_conflict_by_address_and_protocol(api: Api, space: str, running: Host) -> None:
    pods = f"/api/v1/namespaces/{space}/pods"
    apart = [("127.0.0.1", "TCP"), ("198.18.255.1", "TCP"), ("198.18.255.1", "UDP")]
    bodies = [at_port(f"p{i}", 54323, *one) for i, one in enumerate(apart)]
    for body in [*bodies, at_port("any", 54322, "0.0.0.0", "TCP")]:
        ok(await api.post(pods, body), 201)
        await when(api, f"{pods}/{body['metadata']['name']}", runs)
    ok(await api.post(pods, at_port("late", 54322, "127.0.0.1", "TCP")), 201)
    refused = await when(api, f"{pods}/late", unschedulable)
    assert "1 node(s) didn't have free ports for the requested pod ports" in unschedulable(refused)
    ok(await api.delete(f"{pods}/any", {"gracePeriodSeconds": 0}))
    await when(api, f"{pods}/late", runs)
    ok(await api.delete(pods, {"gracePeriodSeconds": 0}))


async def test_gated_pods_wait_until_the_last_gate_is_gone(api: Api, space: str, running: Host) -> None:
    pods = f"/api/v1/namespaces/{space}/pods"
    ok(await api.post(pods, pod("gated", schedulingGates=[{"name": "foo"}, {"name": "bar"}])), 201)
    held = await when(api, f"{pods}/gated", lambda p: condition(p, "PodScheduled"))
    assert condition(held, "PodScheduled")["reason"] == "SchedulingGated"
    assert condition(held, "PodScheduled")["message"] == "Scheduling is blocked due to non-empty scheduling gates"
    for left in ([{"name": "foo"}], None):
        assert "nodeName" not in ok(await api.get(f"{pods}/gated"))["spec"]
        ok(await api.patch(f"{pods}/gated", {"spec": {"schedulingGates": left}}))
        if left:
            await asyncio.sleep(0.3)
    await when(api, f"{pods}/gated", runs)
    refused = await api.patch(f"{pods}/gated", {"spec": {"schedulingGates": [{"name": "late"}]}})
    assert refused.failure[:2] == (422, "Invalid")


@pytest.mark.parametrize("policy", ["IfHealthyBudget", "AlwaysAllow"])
async def test_pods_that_are_not_ready_and_their_budget(api: Api, space: str, running: Host, policy: str) -> None:
    pods, budgets = f"/api/v1/namespaces/{space}/pods", f"/apis/policy/v1/namespaces/{space}/poddisruptionbudgets"
    ok(await api.post(pods, pod("sick", metadata={"labels": {"app": "web", "unready": "true"}})), 201)
    await when(api, f"{pods}/sick", runs)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}, "unhealthyPodEvictionPolicy": policy}
    ok(await api.post(budgets, {"metadata": {"name": "web"}, "spec": spec}), 201)
    await when(api, f"{budgets}/web", lambda b: b.get("status", {}).get("expectedPods") == 1)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "sick"}}
    answer = await api.post(f"{pods}/sick/eviction", eviction)
    assert answer.status == (201 if policy == "AlwaysAllow" else 429)
    ok(await api.post(budgets, {"metadata": {"name": "other"}, "spec": {**spec, "minAvailable": 0}}), 201)
    ok(await api.post(pods, pod("well", metadata={"labels": {"app": "web"}})), 201)
    await when(api, f"{pods}/well", runs)
    twice = await api.post(f"{pods}/well/eviction", {**eviction, "metadata": {"name": "well"}})
    assert (twice.failure[0], "more than one PodDisruptionBudget" in twice.failure[2]) == (500, True)
