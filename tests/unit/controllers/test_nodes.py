"""Nodes that fall silent and come back; evictions; pod addresses."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import DEPLOYMENTS, ENDPOINTSLICES, EVENTS, NODES, PODS, SERVICES
from orca.api.errors import ApiError
from orca.api.objects import Obj, is_terminating, name
from orca.controllers import ControllersConfig, conditions, podstate
from orca.controllers.config import EvictionConfig
from orca.controllers.nodes import (
    NodeIpamController,
    NodeLifecycleController,
    TaintEvictionController,
    taints,
    zones,
)
from orca.controllers.nodes.eviction import eviction_time
from orca.controllers.nodes.ipam import Allocator
from tests.unit.controllers.support import NOW, Cluster, deployment, pod, running, running_one
from tests.unit.controllers.test_endpoints import service

UNREACHABLE = {"key": taints.UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}


def node(node_name: str, **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name}, "spec": spec}


def _taints(found: Obj) -> set[tuple[str, str]]:
    return {(taint["key"], taint["effect"]) for taint in found["spec"].get("taints") or ()}


async def test_a_silent_node_is_given_up_and_taken_back() -> None:
    async with running() as cluster:
        cluster.api.seed(NODES, node("other"))
        cluster.api.seed(SERVICES, service())
        short = {"key": taints.UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        made = deployment(2)
        made["spec"]["template"]["spec"]["tolerations"] = [short]
        cluster.api.seed(DEPLOYMENTS, made)
        await cluster.settle(12)
        assert len(cluster.pods()) == 2
        cluster.runs = lambda _: False
        cluster.cut_off.add("host-1")
        await cluster.settle(29)
        assert conditions.status_of(await cluster.api.get(NODES, "host-1"), "Ready") == "True"
        await cluster.settle(20)
        found = await cluster.api.get(NODES, "host-1")
        ready = conditions.find(found["status"]["conditions"], "Ready")
        assert ready is not None
        assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
        assert ready["message"] == "Kubelet stopped posting node status."
        assert not any(
            endpoint["conditions"]["ready"]
            for one in cluster.api.objects(ENDPOINTSLICES)
            for endpoint in one["endpoints"]
        )
        assert not any(podstate.is_ready(one) for one in cluster.api.objects(PODS))


async def test_pods_of_a_lost_node_are_replaced() -> None:
    cluster = Cluster()
    async with running(cluster=cluster, host=False):
        for one in ("host-1", "host-2", "host-3"):
            task = asyncio.create_task(cluster.heartbeat(one))
            cluster.background.append(task)
        short = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        cluster.api.seed(PODS, _tolerant("stays", "host-2", short))
        cluster.api.seed(PODS, _tolerant("goes", "host-1", short))
        cluster.api.seed(PODS, _tolerant("daemon", "host-1", {"operator": "Exists"}))
        await cluster.settle(5)
        cluster.cut_off.add("host-1")
        await cluster.settle(50)
        lost = await cluster.api.get(NODES, "host-1")
        assert _taints(lost) == {(taints.UNREACHABLE, "NoSchedule"), (taints.UNREACHABLE, "NoExecute")}
        assert {name(one) for one in cluster.api.objects(PODS) if is_terminating(one)} == {"goes"}
        gone = await cluster.api.get(PODS, "goes", "default")
        target = conditions.find(gone["status"]["conditions"], "DisruptionTarget")
        assert target is not None
        assert target["reason"] == "DeletionByTaintManager"
        # Back: the node says so itself, the taints go.
        cluster.cut_off.clear()
        stamp = "2026-01-01T00:01:00Z"
        back = [{"type": "Ready", "status": "True", "lastHeartbeatTime": stamp, "lastTransitionTime": stamp}]
        await cluster.api.patch(NODES, "host-1", {"status": {"conditions": back}}, subresource="status")
        await cluster.settle(1)
        assert _taints(await cluster.api.get(NODES, "host-1")) == set()


@pytest.mark.parametrize("by", [3600.0, -3600.0], ids=["forward", "back"])
async def test_a_clock_that_is_set_loses_no_node_and_keeps_none(by: float) -> None:
    cluster = Cluster()
    async with running(cluster=cluster, host=False):
        cluster.background.append(asyncio.create_task(cluster.heartbeat("host-1")))
        await cluster.settle(5)
        cluster.clock.set(by)
        await cluster.settle(60)
        found = await cluster.api.get(NODES, "host-1")
        assert conditions.status_of(found, "Ready") == "True"
        assert "NodeNotReady" not in {event["reason"] for event in cluster.api.objects(EVENTS)}
        cluster.cut_off.add("host-1")
        await cluster.settle(60)
        assert conditions.status_of(await cluster.api.get(NODES, "host-1"), "Ready") == "Unknown"


@pytest.mark.parametrize("seconds", [31.0, 45.0, 7200.0])
async def test_time_in_which_the_server_stood_still_loses_no_node(seconds: float) -> None:
    cluster = Cluster()
    async with running(cluster=cluster, host=False):
        heartbeat = asyncio.create_task(cluster.heartbeat("host-1"))
        await cluster.settle(15)
        heartbeat.cancel()
        cluster.clock.stand_still(seconds)
        await cluster.settle(3)
        cluster.background.append(asyncio.create_task(cluster.heartbeat("host-1")))
        await cluster.settle(60)
        assert conditions.status_of(await cluster.api.get(NODES, "host-1"), "Ready") == "True"
        assert "NodeNotReady" not in {event["reason"] for event in cluster.api.objects(EVENTS)}
        cluster.cut_off.add("host-1")
        await cluster.settle(60)
        assert conditions.status_of(await cluster.api.get(NODES, "host-1"), "Ready") == "Unknown"


def _tolerant(pod_name: str, on: str, toleration: Obj) -> Obj:
    made = pod(pod_name, node=on)
    made["spec"]["tolerations"] = [toleration]
    return made


async def test_cordon_and_conditions_become_taints_and_foreign_taints_stay() -> None:
    async with running(host=False) as cluster:
        mine = {"key": "team", "value": "a", "effect": "NoSchedule"}
        made = node("host-1", unschedulable=True, taints=[mine])
        made["status"] = {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]
        }
        cluster.api.seed(NODES, made)
        await cluster.settle(1)
        assert _taints(await cluster.api.get(NODES, "host-1")) == {
            ("team", "NoSchedule"),
            ("node.kubernetes.io/unschedulable", "NoSchedule"),
            ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        }
        await cluster.api.patch(NODES, "host-1", {"spec": {"unschedulable": None}})
        await cluster.settle(1)
        assert ("node.kubernetes.io/unschedulable", "NoSchedule") not in _taints(await cluster.api.get(NODES, "host-1"))


def test_when_a_pod_has_to_go() -> None:
    now = NOW + timedelta(seconds=100)
    assert eviction_time([], [], now) is None
    assert eviction_time([], [UNREACHABLE], now) == now
    forever = {"key": taints.UNREACHABLE, "operator": "Exists"}
    assert eviction_time([forever], [UNREACHABLE], now) is None
    limited = {**forever, "effect": "NoExecute", "tolerationSeconds": 300}
    assert eviction_time([limited], [UNREACHABLE], now) == NOW + timedelta(seconds=300)
    assert eviction_time([limited, {**limited, "tolerationSeconds": 20}], [UNREACHABLE], now) == NOW + timedelta(
        seconds=20
    )
    other = {"key": "team", "value": "a", "effect": "NoExecute"}
    assert eviction_time([forever, {"key": "team", "value": "b"}], [UNREACHABLE, other], now) == now
    assert eviction_time([forever, {"key": "team", "value": "a"}], [UNREACHABLE, other], now) is None


async def test_a_taint_without_its_time_counts_since_it_was_seen() -> None:
    """As `kubectl taint` makes them."""
    cluster = Cluster()
    taint = {"key": "team", "value": "a", "effect": "NoExecute"}
    cluster.api.seed(NODES, node("host-1", taints=[taint]))
    cluster.api.seed(PODS, _tolerant("a", "host-1", {"operator": "Exists", "tolerationSeconds": 30}))
    async with running_one(TaintEvictionController, cluster=cluster):
        await cluster.settle(28)
        assert not is_terminating(await cluster.api.get(PODS, "a", "default"))
        await cluster.settle(4)
        assert is_terminating(await cluster.api.get(PODS, "a", "default"))


async def test_eviction_timers_survive_a_restart() -> None:
    cluster = Cluster()
    cluster.api.seed(NODES, node("host-1", taints=[UNREACHABLE]))
    cluster.api.seed(PODS, _tolerant("a", "host-1", {"operator": "Exists", "tolerationSeconds": 30}))
    for _ in range(2):
        async with running_one(TaintEvictionController, cluster=cluster):
            await cluster.settle(14)
            assert not is_terminating(await cluster.api.get(PODS, "a", "default"))
    async with running_one(TaintEvictionController, cluster=cluster):
        await cluster.settle(3)
        assert is_terminating(await cluster.api.get(PODS, "a", "default"))


async def test_eviction_is_called_off_when_the_taint_goes() -> None:
    async with running_one(TaintEvictionController) as (cluster, _):
        cluster.api.seed(NODES, node("host-1", taints=[UNREACHABLE]))
        cluster.api.seed(PODS, _tolerant("a", "host-1", {"operator": "Exists", "tolerationSeconds": 30}))
        await cluster.settle(10)
        await cluster.api.patch(NODES, "host-1", {"spec": {"taints": None}})
        await cluster.settle(100)
        assert not is_terminating(await cluster.api.get(PODS, "a", "default"))


@pytest.mark.parametrize(
    ("ready", "lost", "expected"),
    [
        (3, 0, zones.Disruption.NORMAL),
        (1, 1, zones.Disruption.NORMAL),
        (1, 2, zones.Disruption.NORMAL),
        (2, 3, zones.Disruption.PARTIAL),
        (0, 1, zones.Disruption.FULL),
    ],
)
def test_disruption(ready: int, lost: int, expected: zones.Disruption) -> None:
    assert zones.disruption(ready, lost, 0.55) is expected


def test_nodes_are_given_up_one_by_one() -> None:
    bucket = zones.Bucket()
    assert bucket.take(0.1, 0) == 0
    assert bucket.take(0.1, 0) == pytest.approx(10)
    assert bucket.take(0.1, 10) == 0
    assert zones.rate(zones.Disruption.FULL, 3, EvictionConfig()) == 0.1
    assert zones.rate(zones.Disruption.PARTIAL, 3, EvictionConfig()) == 0
    assert zones.rate(zones.Disruption.PARTIAL, 60, EvictionConfig()) == 0.01


def placed(node_name: str, zone: str, ready: str, **labels: str) -> Obj:
    made = node(node_name)
    made["metadata"]["labels"] = {"topology.kubernetes.io/zone": zone, **labels}
    made["status"] = {"conditions": [{"type": "Ready", "status": ready}]}
    return made


def test_zones_are_judged_apart() -> None:
    found = zones.Zones(EvictionConfig())
    for index in range(4):
        found.put(placed(f"a{index}", "a", "Unknown" if index else "True"))
        found.put(placed(f"b{index}", "b", "Unknown"))
        found.put(placed(f"c{index}", "c", "True"))
    # Of a small zone too much is gone for it to be likely; a whole zone may be; each has its own pace.
    assert found.take(placed("a1", "a", "Unknown"), 0) == zones.STANDSTILL
    assert found.take(placed("b1", "b", "Unknown"), 0) == 0
    assert found.take(placed("b2", "b", "Unknown"), 0) == pytest.approx(10)
    assert found.take(placed("c1", "c", "Unknown"), 0) == 0
    for index in range(4):
        found.put(placed(f"c{index}", "c", "False"))
    assert not found.blind
    found.put(placed("a0", "a", "True", **{zones.EXCLUDED: ""}))
    assert found.blind
    assert found.take(placed("b2", "b", "Unknown"), 100) == zones.STANDSTILL
    found.remove("b0")
    found.put(placed("new", "", "True"))
    assert not found.blind


async def test_nobody_is_driven_away_while_no_node_is_heard_of() -> None:
    cluster = Cluster()
    cluster.cut_off.add("host-1")
    async with running_one(NodeLifecycleController, cluster=cluster):
        beating = [asyncio.create_task(cluster.heartbeat(one)) for one in ("host-1", "host-2", "host-3")]
        await cluster.settle(45)
        executed = (taints.UNREACHABLE, "NoExecute")
        assert executed in _taints(await cluster.api.get(NODES, "host-1"))
        cluster.cut_off |= {"host-2", "host-3"}
        await cluster.settle(60)
        for one in ("host-1", "host-2", "host-3"):
            assert _taints(await cluster.api.get(NODES, one)) == {(taints.UNREACHABLE, "NoSchedule")}
        # One is back: the others are given up again, one after the other.
        cluster.cut_off.discard("host-2")
        back = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:02:00Z"}]
        await cluster.api.patch(NODES, "host-2", {"status": {"conditions": back}}, subresource="status")
        await cluster.settle(20)
        assert _taints(await cluster.api.get(NODES, "host-2")) == set()
        lost = [_taints(await cluster.api.get(NODES, one)) for one in ("host-1", "host-3")]
        assert all(executed in one for one in lost)
        for task in beating:
            task.cancel()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_no_two_nodes_share_addresses(steps: list[tuple[bool, int]]) -> None:
    allocator = Allocator("10.244.0.0/20", 24)
    held: dict[str, str] = {}
    for adding, number in steps:
        holder = f"n{number}"
        if adding and holder not in held:
            cidr = allocator.allocate(holder)
            assert (cidr is None) == (len(held) == 16)
            if cidr is not None:
                assert not any(ip_network(cidr).overlaps(ip_network(other)) for other in held.values())
                held[holder] = cidr
        elif not adding and holder in held:
            allocator.release(held.pop(holder), holder)


async def test_every_node_gets_addresses_also_after_a_restart() -> None:
    cluster = Cluster()
    cluster.api.seed(NODES, node("old", podCIDR="10.244.0.0/24", podCIDRs=["10.244.0.0/24"]))
    for one in ("a", "b"):
        cluster.api.seed(NODES, node(one))
    async with running_one(NodeIpamController, cluster=cluster):
        await cluster.settle(1)
    cluster.api.seed(NODES, node("c"))
    async with running_one(NodeIpamController, cluster=cluster):
        await cluster.settle(1)
    found = {name(one): one["spec"]["podCIDR"] for one in cluster.api.objects(NODES)}
    assert len(set(found.values())) == 4
    assert found["old"] == "10.244.0.0/24"
    assert all(one["spec"]["podCIDRs"] == [one["spec"]["podCIDR"]] for one in cluster.api.objects(NODES))


async def test_nodes_of_a_dual_stack_cluster_get_a_part_of_each_range() -> None:
    config = ControllersConfig(cluster_cidr="fd00:10:244::/56,10.244.0.0/16")
    async with running_one(NodeIpamController, config=config) as (cluster, _):
        for one in ("a", "b"):
            cluster.api.seed(NODES, node(one))
        await cluster.settle(1)
        found = {name(one): one["spec"]["podCIDRs"] for one in cluster.api.objects(NODES)}
        assert found == {
            "a": ["fd00:10:244::/64", "10.244.0.0/24"],
            "b": ["fd00:10:244:1::/64", "10.244.1.0/24"],
        }
        assert all(one["spec"]["podCIDR"].startswith("fd00") for one in cluster.api.objects(NODES))


async def test_half_of_a_pair_is_given_back() -> None:
    config = ControllersConfig(cluster_cidr="10.244.0.0/23,fd00:10:244::/64")
    async with running_one(NodeIpamController, config=config) as (cluster, controller):
        for one in ("a", "b"):
            cluster.api.seed(NODES, node(one))
        await cluster.settle(1)
        assert sum(1 for one in cluster.api.objects(NODES) if one["spec"].get("podCIDR")) == 1
        assert controller._allocators[0].allocate("someone") == "10.244.1.0/24"


async def test_a_full_network_is_told() -> None:
    config = ControllersConfig(cluster_cidr="10.244.0.0/24")
    async with running_one(NodeIpamController, config=config) as (cluster, controller):
        for one in ("a", "b"):
            cluster.api.seed(NODES, node(one))
        await cluster.settle(1)
        assert len([one for one in cluster.api.objects(NODES) if one["spec"].get("podCIDR")]) == 1
        assert "failing" in repr(controller)


async def test_a_node_that_goes_while_it_is_looked_at_is_counted_no_more() -> None:
    async with running_one(NodeLifecycleController) as (cluster, controller):
        cluster.api.seed(NODES, node("host-1"))
        ready = node("host-2")
        ready["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        cluster.api.seed(NODES, ready)
        await cluster.settle(1)
        looked_at = await cluster.api.get(NODES, "host-2")
        await cluster.api.delete(NODES, "host-2")
        await cluster.settle(1)
        with suppress(ApiError):
            await controller._adjust_taints(looked_at, cluster.clock.now())
        assert controller._zones.blind
