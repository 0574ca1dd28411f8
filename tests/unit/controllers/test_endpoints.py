"""From pods to EndpointSlices and Endpoints: contents, few writes, latency."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import ENDPOINTS, ENDPOINTSLICES, EVENTS, NODES, PODS, SERVICES
from orca.api.errors import forbidden
from orca.api.objects import Obj, name, uid
from orca.api.resources import Resource
from orca.api.times import format_time
from orca.client.clock import VirtualClock
from orca.client.workqueue import WorkQueue
from orca.controllers.endpoints import EndpointsController, EndpointSliceController, slices, subsets
from orca.controllers.harness import DONE, Coalescer, Controller, Outcome
from tests.unit.controllers.support import NOW, Cluster, pod, running_one


def service(**spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "svc-uid", "creationTimestamp": format_time(NOW)},
        "spec": {
            "selector": {"app": "web"},
            "clusterIP": "10.96.0.7",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            **spec,
        },
    }


def many(count: int, **more: Any) -> list[Obj]:
    return [pod(f"p{i}", ip=f"10.244.{i // 250}.{i % 250 + 1}", **more) for i in range(count)]


def _parts(svc: Obj, pods: list[Obj]) -> Iterator[slices.Part]:
    for one in pods:
        yield from slices.parts_of(svc, one, "zone-a" if one["spec"].get("nodeName") == "host-1" else "")


def _subsets(svc: Obj, pods: list[Obj]) -> list[subsets.Part]:
    return [found for found in (subsets.part_of(svc, one) for one in pods) if found is not None]


def _slices(svc: Obj, pods: list[Obj], existing: list[Obj] | None = None) -> slices.Plan:
    return slices.plan(slices.of_service(svc), existing or [], slices.grouped(svc, _parts(svc, pods)))


def _stored(todo: slices.Plan, existing: list[Obj]) -> list[Obj]:
    """The slices after the plan was carried out."""
    gone = {name(found) for found in todo.delete}
    updated = {name(found): found for found in todo.update}
    kept = [updated.get(name(found), found) for found in existing if name(found) not in gone]
    start = len(existing) + len(todo.delete)
    taken = {name(found) for found in existing}
    for index, made in enumerate(todo.create):
        label = f"web-{start + index}"
        while label in taken:
            label += "x"
        taken.add(label)
        kept.append({**made, "metadata": {**made["metadata"], "name": label, "uid": label}})
    return kept


def test_an_endpoint_says_where_and_how() -> None:
    todo = _slices(service(), [pod("a", ip="10.244.0.1"), pod("b", ip="10.244.0.2", ready=False)])
    (made,) = todo.create
    assert made["metadata"]["labels"] == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "svc-uid"
    assert made["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert made["endpoints"][0] == {
        "addresses": ["10.244.0.1"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a"},
        "nodeName": "host-1",
        "zone": "zone-a",
    }
    assert made["endpoints"][1]["conditions"] == {"ready": False, "serving": False, "terminating": False}


def test_terminating_and_unready_pods() -> None:
    going = pod("a", ip="10.244.0.1", deletionTimestamp="2026-01-01T00:00:00Z")
    (made,) = _slices(service(), [going]).create
    assert made["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    (made,) = _slices(service(publishNotReadyAddresses=True), [pod("a", ip="10.244.0.1", ready=False)]).create
    assert made["endpoints"][0]["conditions"]["ready"] is True
    (made,) = _slices(service(), [pod("a", ip="10.244.0.1", phase="Succeeded"), pod("b")]).create
    assert made["endpoints"] == []


def test_named_ports_may_differ_by_pod() -> None:
    svc = service(ports=[{"port": 80, "targetPort": "web"}])
    first, second, without = many(3)
    first["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 8080}]
    second["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 9090}]
    todo = _slices(svc, [first, second, without])
    assert sorted(made["ports"][0]["port"] for made in todo.create) == [8080, 9090]
    found = subsets.subsets_of(_subsets(svc, [first, second, without]))
    assert [subset["ports"][0]["port"] for subset in found] == [8080, 9090]


def test_headless_services_have_endpoints_without_ports() -> None:
    member = pod("a", ip="10.244.0.1")
    member["spec"] |= {"hostname": "db-0", "subdomain": "web"}
    (made,) = _slices(service(clusterIP="None", ports=[]), [member]).create
    assert made["endpoints"][0]["hostname"] == "db-0"
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    headless = service(clusterIP="None", ports=[])
    found = subsets.wanted(headless, None, _subsets(headless, [member]))
    assert found is not None
    assert found["subsets"][0]["addresses"][0]["hostname"] == "db-0"
    assert "ports" not in found["subsets"][0]


def test_hundred_endpoints_a_slice() -> None:
    todo = _slices(service(), many(250))
    assert [len(made["endpoints"]) for made in todo.create] == [100, 100, 50]


def test_one_pod_more_or_less_is_one_write() -> None:
    svc, pods = service(), many(250)
    existing = _stored(_slices(svc, pods), [])
    assert _slices(svc, pods, existing) == slices.Plan()
    gone = _slices(svc, pods[1:], existing)
    assert (len(gone.create), len(gone.update), len(gone.delete)) == (0, 1, 0)
    more = _slices(svc, many(251), existing)
    assert (len(more.create), len(more.update), len(more.delete)) == (0, 1, 0)


def test_services_without_pods_have_one_empty_slice() -> None:
    svc = service()
    existing = _stored(_slices(svc, []), [])
    assert [found["endpoints"] for found in existing] == [[]]
    assert _slices(svc, [], existing) == slices.Plan()
    filled = _stored(_slices(svc, many(1), existing), existing)
    assert len(filled) == 1


def test_slices_of_a_former_service_of_that_name_go() -> None:
    existing = _stored(_slices(service(), many(1)), [])
    renewed = service()
    renewed["metadata"]["uid"] = "other"
    todo = _slices(renewed, many(1), existing)
    assert todo.delete == existing
    assert len(todo.create) == 1


pod_sets = st.lists(st.integers(0, 300), unique=True, max_size=260)


@given(st.lists(pod_sets, min_size=1, max_size=5))
def test_slices_follow_any_history(history: list[list[int]]) -> None:
    svc, everyone = service(), many(301)
    existing: list[Obj] = []
    for chosen in history:
        pods = [everyone[index] for index in chosen]
        existing = _stored(_slices(svc, pods, existing), existing)
        shown = [endpoint["targetRef"]["uid"] for found in existing for endpoint in found["endpoints"]]
        assert sorted(shown) == sorted(map(uid, pods))
        assert all(len(found["endpoints"]) <= 100 for found in existing)
        assert _slices(svc, pods, existing) == slices.Plan()
        assert existing


def test_endpoints_keep_ready_and_unready_apart() -> None:
    some = _subsets(service(), [*many(2), pod("sick", ip="10.244.9.9", ready=False)])
    found = subsets.wanted(service(), None, some)
    assert found is not None
    (subset,) = found["subsets"]
    assert [entry["ip"] for entry in subset["addresses"]] == ["10.244.0.1", "10.244.0.2"]
    assert [entry["ip"] for entry in subset["notReadyAddresses"]] == ["10.244.9.9"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert subsets.wanted(service(), found, some) is None


def test_endpoints_are_cut_at_a_thousand() -> None:
    found = subsets.wanted(service(), None, _subsets(service(), many(1200)))
    assert found is not None
    assert sum(len(subset["addresses"]) for subset in found["subsets"]) == 1000
    assert found["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}
    assert subsets.wanted(service(), found, _subsets(service(), many(1200))) is None


async def test_readiness_reaches_the_slice_within_a_moment() -> None:
    async with running_one(EndpointSliceController) as (cluster, _):
        cluster.api.seed(NODES, {"metadata": {"name": "host-1", "labels": {"topology.kubernetes.io/zone": "a"}}})
        cluster.api.seed(SERVICES, service())
        cluster.api.seed(PODS, pod("a", ip="10.244.0.1", ready=False))
        await cluster.settle(1)
        assert _ready(cluster) == []
        await _set_ready(cluster, "a", "True")
        await cluster.settle(0.05)
        assert _ready(cluster) == ["10.244.0.1"]
        (found,) = cluster.api.objects(ENDPOINTSLICES)
        assert "endpoints.kubernetes.io/last-change-trigger-time" in found["metadata"]["annotations"]
        assert found["endpoints"][0]["zone"] == "a"
        await _set_ready(cluster, "a", "False")
        await cluster.settle(0.05)
        assert _ready(cluster) == []


async def test_a_burst_is_two_writes_the_first_at_once() -> None:
    async with running_one(EndpointSliceController) as (cluster, _):
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        before = len(cluster.api.calls)
        for one in many(50):
            cluster.api.seed(PODS, one)
        await cluster.settle(0)
        assert _ready(cluster)
        await cluster.settle(1)
        assert cluster.api.calls[before:] == [("update", "endpointslices", _only_slice(cluster))] * 2
        assert len(_ready(cluster)) == 50


async def test_what_a_look_costs_lengthens_the_wait_for_the_next() -> None:
    clock, looks = VirtualClock(), []

    async def look(key: str) -> Outcome:
        looks.append((key, clock.monotonic()))
        return DONE

    queue = WorkQueue(look, clock=clock)
    soon = Coalescer(queue, clock, 0.02, factor=4)
    working = asyncio.create_task(queue.run())
    for key in ("large", "small"):
        soon.add(key)
    await clock.advance(0)
    soon.cost("large", 0.05)
    for _ in range(21):
        soon.add("large")
        soon.add("small")
        await clock.advance(0.01)
    working.cancel()
    assert [round(at, 2) for key, at in looks if key == "large"] == [0, 0.2]
    assert len([key for key, _ in looks if key == "small"]) == 11


async def test_deleted_and_damaged_slices_come_back_and_go_with_the_service() -> None:
    async with running_one(EndpointSliceController) as (cluster, _):
        cluster.api.seed(SERVICES, service())
        cluster.api.seed(PODS, pod("a", ip="10.244.0.1"))
        await cluster.settle(1)
        (found,) = cluster.api.objects(ENDPOINTSLICES)
        await cluster.api.patch(ENDPOINTSLICES, name(found), {"endpoints": []}, "default")
        await cluster.settle(1)
        assert _ready(cluster) == ["10.244.0.1"]
        await cluster.api.delete(ENDPOINTSLICES, name(found), "default")
        await cluster.settle(1)
        assert _ready(cluster) == ["10.244.0.1"]
        await cluster.api.delete(SERVICES, "web", "default")
        await cluster.settle(1)
        assert cluster.api.objects(ENDPOINTSLICES) == []


async def test_endpoints_objects_live_and_die_with_their_service() -> None:
    async with running_one(EndpointsController) as (cluster, _):
        cluster.api.seed(SERVICES, service())
        cluster.api.seed(PODS, pod("a", ip="10.244.0.1"))
        await cluster.settle(1)
        (found,) = cluster.api.objects(ENDPOINTS)
        assert found["subsets"][0]["addresses"][0]["ip"] == "10.244.0.1"
        await cluster.api.delete(SERVICES, "web", "default")
        await cluster.settle(1)
        assert cluster.api.objects(ENDPOINTS) == []


async def test_services_without_selector_are_left_alone() -> None:
    async with running_one(EndpointSliceController) as (cluster, _):
        cluster.api.seed(SERVICES, service(selector=None))
        await cluster.settle(1)
        assert cluster.api.objects(ENDPOINTSLICES) == []


def _only_slice(cluster: Cluster) -> str:
    (found,) = cluster.api.objects(ENDPOINTSLICES)
    return f"default/{name(found)}"


def _ready(cluster: Cluster) -> list[str]:
    found = [endpoint for one in cluster.api.objects(ENDPOINTSLICES) for endpoint in one["endpoints"]]
    return [endpoint["addresses"][0] for endpoint in found if endpoint["conditions"]["ready"]]


async def _set_ready(cluster: Cluster, pod_name: str, state: str) -> None:
    condition = {"type": "Ready", "status": state, "lastTransitionTime": format_time(cluster.clock.now())}
    await cluster.api.patch(PODS, pod_name, {"status": {"conditions": [condition]}}, "default", subresource="status")


@pytest.mark.parametrize(
    ("kind", "written", "told"),
    [
        (EndpointSliceController, ENDPOINTSLICES, ("FailedToUpdateEndpointSlices", "Error updating Endpoint Slices")),
        (EndpointsController, ENDPOINTS, ("FailedToCreateEndpoint", "Failed to create endpoint")),
    ],
)
async def test_what_cannot_be_written_is_told(kind: type[Controller], written: Resource, told: tuple[str, str]) -> None:
    async with running_one(kind) as (cluster, _):

        def refuse(verb: str, resource: object, *_: object) -> None:
            if verb == "create" and resource == written:
                raise forbidden(written, "web", "no")

        cluster.api.intercepts.append(refuse)
        cluster.api.seed(SERVICES, service())
        await cluster.settle(1)
        (event,) = cluster.api.objects(EVENTS)
        assert (event["type"], event["reason"]) == ("Warning", told[0])
        assert event["message"].startswith(f"{told[1]} for ")
        assert "default/web: " in event["message"]
        assert event["involvedObject"]["kind"] == "Service"


async def test_a_node_that_is_in_no_zone_any_longer_says_so_in_slices() -> None:
    async with running_one(EndpointSliceController) as (cluster, _):
        cluster.api.seed(NODES, {"metadata": {"name": "host-1", "labels": {"topology.kubernetes.io/zone": "a"}}})
        cluster.api.seed(SERVICES, service())
        cluster.api.seed(PODS, pod("a", ip="10.244.0.1"))
        await cluster.settle(1)
        assert cluster.api.objects(ENDPOINTSLICES)[0]["endpoints"][0]["zone"] == "a"
        await cluster.api.patch(NODES, "host-1", {"metadata": {"labels": {"topology.kubernetes.io/zone": None}}})
        await cluster.settle(1)
        assert "zone" not in cluster.api.objects(ENDPOINTSLICES)[0]["endpoints"][0]


async def test_endpoints_that_somebody_else_made_first_are_put_right() -> None:
    async with running_one(EndpointsController) as (cluster, _):
        stale = {"metadata": {"name": "web", "namespace": "default"}, "subsets": []}

        def first(verb: str, resource: object, *_: object) -> None:
            if (verb, resource) == ("create", ENDPOINTS) and not cluster.api.objects(ENDPOINTS):
                cluster.api.seed(ENDPOINTS, stale)

        cluster.api.intercepts.append(first)
        cluster.api.seed(PODS, pod("a", ip="10.244.0.1"))
        cluster.api.seed(SERVICES, service())
        await cluster.settle(5)
        (found,) = cluster.api.objects(ENDPOINTS)
        assert found["subsets"][0]["addresses"][0]["ip"] == "10.244.0.1"
        assert not cluster.api.objects(EVENTS)
