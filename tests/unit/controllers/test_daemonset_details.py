"""DaemonSets in the particulars that users of kube-controller-manager know."""

import json

from orca.api.builtin import DAEMONSETS, EVENTS, NODES, PODS
from orca.api.objects import Obj, name
from orca.api.times import format_time
from orca.controllers import controllerrevisions
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.daemonset import DaemonSetController
from orca.controllers.daemonset.placement import aimed_at
from orca.controllers.daemonset.plan import new_status, plan
from tests.unit.controllers.support import NOW, pod, running_one
from tests.unit.controllers.test_daemonset import daemon, daemonset, node

GOING = {"deletionTimestamp": format_time(NOW)}


def rolling(unavailable: int = 0, surge: int = 0) -> Obj:
    limits = {"maxUnavailable": unavailable, "maxSurge": surge}
    return daemonset(updateStrategy={"type": "RollingUpdate", "rollingUpdate": limits})


def test_pods_of_a_missing_node_go_only_while_they_are_bound_to_none() -> None:
    bound = daemon("gone")
    waiting = pod("waiting", node="", owner="ds-uid", kind="DaemonSet", ready=None, phase="Pending")
    waiting["spec"] = aimed_at(waiting["spec"], "gone")
    nowhere = pod("nowhere", node="", owner="ds-uid", kind="DaemonSet", ready=None, phase="Pending")
    todo = plan(rolling(1), [], [bound, waiting, nowhere], "new", NOW)
    assert todo.delete == [waiting]


def test_a_node_does_not_wait_for_a_pod_that_is_over_and_held_by_a_finalizer() -> None:
    held = daemon("a", phase="Failed", ready=False, finalizers=["example.com/hold"], **GOING)
    assert plan(rolling(1), [node("a")], [held], "new", NOW).create == ["a"]
    leaving = daemon("a", **GOING)
    assert plan(rolling(1), [node("a")], [leaving], "new", NOW).create == []
    assert plan(rolling(surge=1), [node("a")], [leaving], "new", NOW).create == ["a"], "two may be there"


def test_the_oldest_bound_pod_stays_of_several() -> None:
    young = daemon("a", suffix="-young", creationTimestamp="2026-01-01T00:00:05Z")
    old = daemon("a", suffix="-old", creationTimestamp="2026-01-01T00:00:01Z")
    unbound = pod("unbound", node="", owner="ds-uid", kind="DaemonSet", creationTimestamp="2025-01-01T00:00:00Z")
    unbound["spec"] = aimed_at(unbound["spec"], "a")
    todo = plan(rolling(1), [node("a")], [young, unbound, old], "new", NOW)
    assert {name(one) for one in todo.delete} == {"a-young", "unbound"}


def test_nodes_that_their_pods_are_leaving_use_up_the_allowance_of_an_update() -> None:
    nodes = [node("a"), node("b")]
    pods = [daemon("a", revision="old"), daemon("b", revision="old"), daemon("c", revision="old", **GOING)]
    assert plan(rolling(1), nodes, pods, "new", NOW).delete == []
    assert plan(rolling(2), nodes, pods, "new", NOW).delete == [pods[0]]


def test_while_it_surges_the_old_pod_speaks_for_its_node() -> None:
    old = daemon("a", revision="old", creationTimestamp="2025-12-31T00:00:00Z")
    new = daemon("a", suffix="-2")
    status = new_status(rolling(surge=1), [node("a")], [new, old], "new", NOW)
    assert (status["numberReady"], status.get("updatedNumberScheduled", 0)) == (1, 0)
    status = new_status(rolling(surge=1), [node("a")], [daemon("a", **GOING)], "new", NOW)
    assert (status["currentNumberScheduled"], status["updatedNumberScheduled"]) == (1, 1)


def test_a_pod_is_aimed_at_its_node_and_nothing_else() -> None:
    terms = [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}, {"matchExpressions": []}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    made = aimed_at({"containers": [], "affinity": {"nodeAffinity": required}}, "a")
    assert made["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] == {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]
    }


def test_revisions_in_use_count_against_the_limit_but_stay() -> None:
    history: list[Obj] = [
        {"metadata": {"name": f"web-{n}", "labels": {HASH_LABEL: str(n)}}, "revision": n} for n in range(1, 6)
    ]
    gone = controllerrevisions.surplus(history, "5", {"1", "3"}, 2)
    assert [found["revision"] for found in gone] == [2, 4]


def test_a_revision_has_all_annotations_of_its_owner() -> None:
    owner = daemonset()
    owner["metadata"]["annotations"] = {"kubernetes.io/change-cause": "why", "any/last-applied-configuration": "{}"}
    made = controllerrevisions.build(DAEMONSETS, owner, 1, None)
    assert made["metadata"]["annotations"] == owner["metadata"]["annotations"]


async def test_a_pod_that_succeeded_is_told_of_as_such() -> None:
    async with running_one(DaemonSetController) as (cluster, _):
        cluster.api.seed(NODES, node("n0"))
        cluster.api.seed(DAEMONSETS, daemonset())
        await cluster.settle(1)
        made = name(cluster.pods()[0])
        await cluster.api.patch(PODS, made, {"status": {"phase": "Succeeded"}}, "default", subresource="status")
        await cluster.settle(1)
        told = {event["reason"]: event["message"] for event in cluster.api.objects(EVENTS)}
        text = f"Found succeeded daemon pod default/{made} on node n0, will try to delete it"
        assert told["SucceededDaemonPod"] == text
        assert "FailedDaemonPod" not in told


def test_what_a_revision_holds_is_in_the_order_in_which_clients_write_it() -> None:
    """They compare bytes, to find the revision that is as the template is now."""
    owner = daemonset()
    container = {"name": "app", "image": "nginx", "env": [{"value": "2", "name": "B"}, {"value": "1", "name": "A"}]}
    owner["spec"]["template"] = {
        "spec": {"nodeSelector": {"b": "", "a": ""}, "containers": [container]},
        "metadata": {},
    }
    assert json.dumps(controllerrevisions.data_of(owner), separators=(",", ":")) == (
        '{"spec":{"template":{"$patch":"replace","metadata":{},"spec":{"containers":[{"env":[{"name":"B","value":"2"},'
        '{"name":"A","value":"1"}],"image":"nginx","name":"app"}],"nodeSelector":{"a":"","b":""}}}}}'
    )
