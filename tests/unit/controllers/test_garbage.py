"""The garbage collector: background, foreground, orphans, circles, owners that never were."""

import dataclasses
import gc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import BUILTIN, CONFIGMAPS, DEPLOYMENTS, EVENTS, NODES, PODS, REPLICASETS, SECRETS
from orca.api.objects import Obj, is_terminating, name, owner_references
from orca.api.resources import Resource
from orca.controllers import ControllersConfig
from orca.controllers.garbage import GarbageCollector, graph
from orca.controllers.garbage.graph import Graph, Node, Owner, State, Verdict, judge
from tests.unit.controllers.support import Cluster, running_one


def thing(
    kind: str,
    thing_name: str,
    *owners: Obj,
    api: str = "v1",
    namespace: str = "default",
    blocks: bool = False,
    **meta: Any,
) -> Obj:
    made: Obj = {"apiVersion": api, "kind": kind, "metadata": {"name": thing_name, "uid": f"uid-{thing_name}", **meta}}
    if namespace:
        made["metadata"]["namespace"] = namespace
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": name(owner),
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocks,
        }
        for owner in owners
    ]
    if references:
        made["metadata"]["ownerReferences"] = references
    return made


def _names(cluster: Cluster, *rows: Resource) -> set[str]:
    return {name(found) for row in rows for found in cluster.api.objects(row)}


async def test_background_deletion_goes_down_the_chain() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        top = cluster.api.seed(DEPLOYMENTS, thing("Deployment", "d", api="apps/v1"))
        middle = cluster.api.seed(REPLICASETS, thing("ReplicaSet", "r", top, api="apps/v1"))
        for index in range(20):
            cluster.api.seed(PODS, thing("Pod", f"p{index}", middle))
        cluster.api.seed(PODS, thing("Pod", "bystander"))
        await cluster.settle(1)
        assert len(cluster.api.objects(PODS)) == 21
        await cluster.api.delete(DEPLOYMENTS, "d", "default", propagation="Background")
        await cluster.settle(1)
        assert _names(cluster, DEPLOYMENTS, REPLICASETS, PODS) == {"bystander"}


async def test_foreground_deletion_lets_the_owner_go_last() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        top = cluster.api.seed(DEPLOYMENTS, thing("Deployment", "d", api="apps/v1"))
        middle = cluster.api.seed(REPLICASETS, thing("ReplicaSet", "r", top, api="apps/v1", blocks=True))
        held = thing("Pod", "p", middle, blocks=True, finalizers=["test/hold"])
        cluster.api.seed(PODS, held)
        cluster.api.seed(SECRETS, thing("Secret", "s", top))
        await cluster.settle(1)
        await cluster.api.delete(DEPLOYMENTS, "d", "default", propagation="Foreground")
        await cluster.settle(1)
        assert _names(cluster, DEPLOYMENTS, REPLICASETS, PODS) == {"d", "r", "p"}
        assert all(map(is_terminating, cluster.api.objects(REPLICASETS)))
        await cluster.api.patch(PODS, "p", {"metadata": {"finalizers": None}}, "default")
        await cluster.settle(1)
        assert _names(cluster, DEPLOYMENTS, REPLICASETS, PODS, SECRETS) == set()


async def test_orphans_stay_without_their_owner() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        top = cluster.api.seed(DEPLOYMENTS, thing("Deployment", "d", api="apps/v1"))
        cluster.api.seed(REPLICASETS, thing("ReplicaSet", "r", top, api="apps/v1"))
        await cluster.settle(1)
        await cluster.api.delete(DEPLOYMENTS, "d", "default", propagation="Orphan")
        await cluster.settle(1)
        assert _names(cluster, DEPLOYMENTS, REPLICASETS) == {"r"}
        assert owner_references(cluster.api.objects(REPLICASETS)[0]) == []


async def test_an_object_lives_as_long_as_one_owner() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        one = cluster.api.seed(CONFIGMAPS, thing("ConfigMap", "one"))
        two = cluster.api.seed(CONFIGMAPS, thing("ConfigMap", "two"))
        cluster.api.seed(SECRETS, thing("Secret", "both", one, two))
        await cluster.settle(1)
        await cluster.api.delete(CONFIGMAPS, "one", "default")
        await cluster.settle(1)
        (left,) = cluster.api.objects(SECRETS)
        assert [reference["name"] for reference in owner_references(left)] == ["two"]
        await cluster.api.delete(CONFIGMAPS, "two", "default")
        await cluster.settle(1)
        assert cluster.api.objects(SECRETS) == []


async def test_an_owner_of_the_same_name_is_not_the_owner() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        gone = thing("ConfigMap", "c")
        renewed = thing("ConfigMap", "c")
        renewed["metadata"]["uid"] = "another"
        cluster.api.seed(CONFIGMAPS, renewed)
        cluster.api.seed(SECRETS, thing("Secret", "s", gone))
        await cluster.settle(1)
        assert cluster.api.objects(SECRETS) == []


async def test_owners_in_other_namespaces_do_not_count_but_cluster_wide_do() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        far = cluster.api.seed(CONFIGMAPS, thing("ConfigMap", "far", namespace="elsewhere"))
        node = cluster.api.seed(NODES, thing("Node", "n", namespace=""))
        cluster.api.seed(SECRETS, thing("Secret", "of-far", far))
        cluster.api.seed(SECRETS, thing("Secret", "of-node", node))
        # A cluster-wide object that names a namespaced owner is never touched.
        cluster.api.seed(NODES, thing("Node", "odd", far, namespace=""))
        await cluster.settle(1)
        assert _names(cluster, SECRETS, NODES) == {"of-node", "n", "odd"}
        told = {one["involvedObject"]["name"]: one for one in cluster.api.objects(EVENTS)}
        assert told.keys() == {"of-far", "odd"}
        assert {(one["type"], one["reason"]) for one in told.values()} == {("Warning", "OwnerRefInvalidNamespace")}
        assert told["of-far"]["message"] == (
            'ownerRef [v1/ConfigMap, namespace: default, name: far, uid: uid-far] does not exist in namespace "default"'
        )
        await cluster.api.delete(NODES, "n")
        await cluster.settle(1)
        assert _names(cluster, SECRETS) == set()


async def test_a_reference_that_calls_its_owner_by_another_name_means_nobody() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        owner = cluster.api.seed(CONFIGMAPS, thing("ConfigMap", "c"))
        misnamed = {**owner, "metadata": {**owner["metadata"], "name": "other"}}
        cluster.api.seed(SECRETS, thing("Secret", "misnamed", misnamed))
        cluster.api.seed(SECRETS, thing("Secret", "of-another-kind", {**owner, "kind": "Secret"}))
        cluster.api.seed(SECRETS, thing("Secret", "right", owner))
        await cluster.settle(1)
        assert _names(cluster, SECRETS) == {"right"}


async def test_an_owner_nobody_knows_keeps_the_references_to_others() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        gone, alien = thing("ConfigMap", "gone"), thing("Widget", "w", api="example.com/v1")
        cluster.api.seed(SECRETS, thing("Secret", "s", gone, alien))
        await cluster.settle(5)
        (found,) = cluster.api.objects(SECRETS)
        assert len(owner_references(found)) == 2


async def test_owners_of_unknown_kinds_keep_their_dependents() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        alien = thing("Widget", "w", api="example.com/v1")
        cluster.api.seed(SECRETS, thing("Secret", "s", alien))
        await cluster.settle(60)
        assert _names(cluster, SECRETS) == {"s"}


async def test_circles_are_deleted_in_the_foreground() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        a, b = thing("ConfigMap", "a"), thing("ConfigMap", "b")
        cluster.api.seed(CONFIGMAPS, thing("ConfigMap", "a", b, blocks=True))
        cluster.api.seed(CONFIGMAPS, thing("ConfigMap", "b", a, blocks=True))
        await cluster.settle(1)
        await cluster.api.delete(CONFIGMAPS, "a", "default", propagation="Foreground")
        await cluster.settle(30)
        assert cluster.api.objects(CONFIGMAPS) == []


async def test_what_lost_its_owner_while_nobody_looked_goes_after_a_start() -> None:
    cluster = Cluster()
    cluster.api.seed(SECRETS, thing("Secret", "s", thing("ConfigMap", "gone")))
    async with running_one(GarbageCollector, cluster=cluster):
        await cluster.settle(1)
        assert cluster.api.objects(SECRETS) == []


async def test_many_dependents_cost_one_question() -> None:
    async with running_one(GarbageCollector) as (cluster, _):
        top = cluster.api.seed(CONFIGMAPS, thing("ConfigMap", "top"))
        for index in range(500):
            cluster.api.seed(SECRETS, thing("Secret", f"s{index}", top))
        await cluster.settle(1)
        asked = []

        def count(verb: str, resource: object, key: str, _: str) -> None:
            if verb == "get" and resource == CONFIGMAPS:
                asked.append(key)

        cluster.api.intercepts.append(count)
        await cluster.api.delete(CONFIGMAPS, "top", "default")
        await cluster.settle(5)
        assert cluster.api.objects(SECRETS) == []
        # Those asked side by side before the first answer was there.
        assert len(asked) <= GarbageCollector.workers


uids = st.sampled_from("abcdef")


def _node(identity: str, owners: list[str], deleting: bool, foreground: bool) -> Node:
    found = tuple(Owner(owner, "v1", "ConfigMap", owner, True) for owner in owners)
    return Node(identity, CONFIGMAPS, "", identity, found, deleting, foreground, False)


nodes = st.builds(_node, uids, st.lists(uids, unique=True, max_size=3), st.booleans(), st.booleans())


@given(st.lists(st.one_of(nodes, uids), max_size=40))
def test_the_index_is_what_a_scan_would_find(steps: list[Node | str]) -> None:
    index, known = Graph(), dict[str, Node]()
    for step in steps:
        if isinstance(step, str):
            index.remove(step)
            known.pop(step, None)
        else:
            index.put(step)
            known[step.uid] = step
        for identity in "abcdef":
            scanned = {n.uid for n in known.values() if any(o.uid == identity for o in n.owners)}
            assert {n.uid for n in index.dependents(identity)} == scanned
    assert len(index) == len(known)


@given(st.lists(st.sampled_from(State), max_size=4), st.booleans())
def test_nothing_with_a_living_owner_is_deleted(states: list[State], has_dependents: bool) -> None:
    verdict = judge(states, has_dependents=has_dependents)
    deletes = verdict in (Verdict.DELETE, Verdict.DELETE_FOREGROUND)
    assert deletes == (bool(states) and not {State.SOLID, State.UNKNOWN} & set(states))


async def test_custom_resources_are_followed_while_they_are_served() -> None:
    table = BUILTIN.copy()
    row = dataclasses.replace(
        CONFIGMAPS, group="example.com", version="v1", plural="widgets", singular="widget", kind="Widget", storage="/w"
    )
    async with running_one(GarbageCollector, config=ControllersConfig(table=table)) as (cluster, collector):
        table.add(row)
        top = cluster.api.seed(row, thing("Widget", "w", api="example.com/v1"))
        cluster.api.seed(SECRETS, thing("Secret", "s", top))
        await cluster.settle(1)
        assert _names(cluster, SECRETS) == {"s"}
        await cluster.api.delete(row, "w", "default")
        await cluster.settle(1)
        assert _names(cluster, SECRETS) == set()
        table.remove(row)
        assert row.storage not in repr(collector.graph)
    del collector
    gc.collect()
    table.add(row)  # nobody is there to hear of it


def test_every_stored_resource_is_followed_once() -> None:
    from orca.controllers.garbage.collector import collectable

    rows = [row for row in BUILTIN if collectable(row)]
    assert len({row.storage for row in rows}) > 50
    assert graph.FOREGROUND == "foregroundDeletion"
