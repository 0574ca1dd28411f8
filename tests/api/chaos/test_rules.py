"""The judge of the chaos test sees each fault that it is there for, and nothing in what is as it should be."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest

from tests.api.chaos.recent import LAG
from tests.api.chaos.rules import all_rules
from tests.api.chaos.world import Obj, World, key_of

SPACE = "default"


class History:
    """Changes as etcd would tell them, a tenth of a second apart."""

    def __init__(self) -> None:
        self.let_go: set[str] = set()
        self.disrupted: set[str] = set()
        self.world = World(all_rules(self.let_go, lambda uid, _: uid in self.disrupted))
        self._revisions = itertools.count(1)
        self.now = 100.0
        self.put("namespaces", {"metadata": {"name": SPACE, "uid": "space"}})

    def put(self, kind: str, obj: Obj) -> Obj:
        self.now += 0.1
        self.world.put(kind, key_of(obj), copy.deepcopy(obj), next(self._revisions), self.now)
        return obj

    def remove(self, kind: str, obj: Obj) -> None:
        self.world.put(kind, key_of(obj), None, next(self._revisions), self.now)

    def later(self) -> None:
        self.now += LAG + 1

    def node(self, name: str = "host", cpu: str = "1") -> Obj:
        amounts = {"cpu": cpu, "memory": "8Gi", "pods": "10"}
        return self.put("nodes", {"metadata": {"name": name, "uid": name}, "status": {"allocatable": amounts}})


def obj(name: str, owner: tuple[str, str] = ("", ""), **spec: object) -> Obj:
    metadata: Obj = {"name": name, "namespace": SPACE, "uid": f"uid-{name}"}
    if owner[0]:
        metadata["ownerReferences"] = [
            {"kind": owner[0], "uid": f"uid-{owner[1]}", "name": owner[1], "controller": True}
        ]
    return {"metadata": metadata, "spec": dict(spec)}


def pod(
    name: str, owner: tuple[str, str] = ("", ""), *, phase: str = "Pending", ready: bool = False, **spec: object
) -> Obj:
    container = {"name": "main", "resources": {"requests": {"cpu": "500m"}}}
    made = obj(name, owner, containers=[container], **spec)
    made["status"] = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
    if owner[0] == "Job":
        made["metadata"]["finalizers"] = ["batch.kubernetes.io/job-tracking"]
    return made


def indexed(made: Obj, index: str) -> Obj:
    made["metadata"]["annotations"] = {"batch.kubernetes.io/job-completion-index": index}
    return made


def ended(made: Obj, phase: str = "Succeeded") -> Obj:
    return {**made, "status": {"phase": phase}}


def template(version: str, **labels: str) -> Obj:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": version}]}}


def one_pod_too_many(history: History) -> None:
    history.put("replicasets", obj("web", replicas=2))
    for number in range(3):
        history.put("pods", pod(f"p{number}", ("ReplicaSet", "web")))


def too_many_only_for_what_was_wished_long_ago(history: History) -> None:
    history.put("replicasets", obj("web", replicas=3))
    history.put("replicasets", obj("web", replicas=1))
    history.later()
    for number in range(2):
        history.put("pods", pod(f"p{number}", ("ReplicaSet", "web")))


def bound_twice(history: History) -> None:
    history.node("one")
    history.node("two")
    for name in ("one", "two"):
        history.put("pods", pod("p", nodeName=name))


def overfull(history: History) -> None:
    history.node()
    for number in range(3):
        history.put("pods", pod(f"p{number}", nodeName="host"))


def gone_under_its_host(history: History) -> None:
    history.node()
    history.remove("pods", history.put("pods", pod("p", nodeName="host", phase="Running")))


def two_sets_for_a_template(history: History) -> None:
    history.put("deployments", obj("web", replicas=1))
    for number in range(2):
        labels = {"pod-template-hash": str(number)}
        history.put(
            "replicasets", obj(f"web-{number}", ("Deployment", "web"), replicas=0, template=template("1", **labels))
        )


def above_surge(history: History) -> None:
    history.put("deployments", obj("web", replicas=4))
    history.put("replicasets", obj("old", ("Deployment", "web"), replicas=4, template=template("1")))
    history.put("replicasets", obj("new", ("Deployment", "web"), replicas=2, template=template("2")))


def below_what_must_be_available(history: History) -> None:
    history.put("deployments", obj("web", replicas=4))
    history.put("replicasets", obj("old", ("Deployment", "web"), replicas=4, template=template("1")))
    pods = [history.put("pods", pod(f"p{n}", ("ReplicaSet", "old"), phase="Running", ready=True)) for n in range(4)]
    for one in pods[:2]:
        history.put("pods", {**one, "metadata": {**one["metadata"], "deletionTimestamp": "now"}})


def two_daemons_on_a_node(history: History) -> None:
    history.node()
    history.put("daemonsets", obj("agent"))
    for number in range(2):
        history.put("pods", pod(f"p{number}", ("DaemonSet", "agent"), nodeName="host"))


def an_ordinal_too_high(history: History) -> None:
    history.put("statefulsets", obj("db", replicas=1, podManagementPolicy="Parallel"))
    history.put("pods", pod("db-1", ("StatefulSet", "db")))


def an_ordinal_too_early(history: History) -> None:
    history.put("statefulsets", obj("db", replicas=2))
    history.put("pods", pod("db-0", ("StatefulSet", "db")))
    history.put("pods", pod("db-1", ("StatefulSet", "db")))


def counted_twice(history: History) -> None:
    history.put("jobs", obj("sum", completions=2, parallelism=1))
    history.put("pods", ended(pod("p", ("Job", "sum"))))
    history.put(
        "jobs",
        {**obj("sum", completions=2), "status": {"succeeded": 1, "uncountedTerminatedPods": {"succeeded": ["x"]}}},
    )


def complete_too_early(history: History) -> None:
    complete = [{"type": "Complete", "status": "True"}]
    history.put("pods", ended(pod("p", ("Job", "sum"))))
    history.put("jobs", {**obj("sum", completions=2), "status": {"succeeded": 1, "conditions": complete}})


def more_pods_than_completions(history: History) -> None:
    history.put("jobs", obj("sum", completions=2, parallelism=2))
    history.put("pods", ended(pod("a", ("Job", "sum"))))
    history.put("pods", pod("b", ("Job", "sum")))
    history.put("pods", pod("c", ("Job", "sum")))


def more_pods_than_parallelism(history: History) -> None:
    history.put("jobs", obj("sum", completions=5, parallelism=1))
    for name in ("a", "b"):
        history.put("pods", pod(name, ("Job", "sum")))


def an_index_twice_at_a_time(history: History) -> None:
    history.put("jobs", obj("sum", completions=3, parallelism=3, completionMode="Indexed"))
    for name in ("a", "b"):
        history.put("pods", indexed(pod(name, ("Job", "sum")), "0"))


def an_index_that_has_succeeded(history: History) -> None:
    history.put("jobs", obj("sum", completions=3, parallelism=3, completionMode="Indexed"))
    history.put("pods", ended(history.put("pods", indexed(pod("a", ("Job", "sum")), "0"))))
    history.put("pods", indexed(pod("b", ("Job", "sum")), "0"))


def a_time_started_twice(history: History) -> None:
    for name in ("first", "second"):
        job = obj(name, ("CronJob", "nightly"))
        job["metadata"]["annotations"] = {"batch.kubernetes.io/cronjob-scheduled-timestamp": "12:00"}
        history.remove("jobs", history.put("jobs", job))


def in_no_namespace(history: History) -> None:
    history.put("namespaces", {"metadata": {"name": "other", "uid": "other"}})
    history.remove("namespaces", {"metadata": {"name": SPACE}})
    history.put("configmaps", obj("late"))


def over_quota(history: History) -> None:
    history.put("resourcequotas", obj("few", hard={"pods": "1"}))
    for name in ("a", "b"):
        history.put("pods", pod(name))


def two_volumes_for_a_claim(history: History) -> None:
    for name in ("a", "b"):
        reference = {"namespace": SPACE, "name": "data", "uid": "claim"}
        history.put("persistentvolumes", {"metadata": {"name": name, "uid": name}, "spec": {"claimRef": reference}})


def two_revisions_of_a_template(history: History) -> None:
    for number in range(2):
        history.put(
            "controllerrevisions", {**obj(f"r{number}", ("DaemonSet", "agent")), "data": {}, "revision": number}
        )


FAULTS: dict[Callable[[History], None], str] = {
    one_pod_too_many: "the 3th pod of a set of 2",
    too_many_only_for_what_was_wished_long_ago: "the 2th pod of a set of 1",
    bound_twice: "bound to one, then to two",
    overfull: "host has too little cpu",
    gone_under_its_host: "gone while host runs it",
    two_sets_for_a_template: "a second set for one template",
    above_surge: "grow to 6, but 5 is the most",
    below_what_must_be_available: "which leaves 2; 3 are the fewest",
    two_daemons_on_a_node: "host has ['default/p0 (Pending)']",
    an_ordinal_too_high: "ordinals end before 1",
    an_ordinal_too_early: "made before default/db-0 was ready",
    counted_twice: "counts 2 succeeded, 1 there were",
    complete_too_early: "complete with 1 of 2",
    more_pods_than_completions: "2 pods and 1 completions, of which 2 are wanted",
    more_pods_than_parallelism: "the 2th pod side by side",
    an_index_twice_at_a_time: "a second pod for index 0",
    an_index_that_has_succeeded: "a pod for index 0, which has succeeded",
    a_time_started_twice: "12:00 is started for the second time",
    in_no_namespace: "made in default, which there is none",
    over_quota: "the 2th pod in default, whose quota allows 1",
    two_volumes_for_a_claim: "the claim default/data has ['a', 'b']",
    two_revisions_of_a_template: "the second revision of one template",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_seen(fault: Callable[[History], None]) -> None:
    history = History()
    fault(history)
    [told] = history.world.broken
    assert FAULTS[fault] in told


def test_nothing_is_seen_where_nothing_is() -> None:
    history = History()
    history.node(cpu="4")
    history.put("deployments", obj("web", replicas=2))
    history.put("replicasets", obj("old", ("Deployment", "web"), replicas=2, template=template("1")))
    old = [history.put("pods", pod(f"p{n}", ("ReplicaSet", "old"), nodeName="host")) for n in range(2)]
    old = [history.put("pods", pod(f"p{n}", ("ReplicaSet", "old"), nodeName="host", ready=True)) for n in range(2)]
    history.put("replicasets", obj("new", ("Deployment", "web"), replicas=1, template=template("2")))
    history.put("pods", pod("n0", ("ReplicaSet", "new"), nodeName="host", ready=True))
    history.put("replicasets", obj("old", ("Deployment", "web"), replicas=1, template=template("1")))
    history.put("pods", {**old[0], "metadata": {**old[0]["metadata"], "deletionTimestamp": "now"}})
    history.let_go.add("uid-p0")
    history.remove("pods", old[0])
    history.disrupted.add("uid-n0")
    history.let_go.add("uid-n0")
    history.remove("pods", pod("n0"))
    history.put("pods", pod("n1", ("ReplicaSet", "new"), nodeName="host", ready=True))
    history.put("jobs", obj("sum", completions=1, parallelism=1, completionMode="Indexed"))
    failed = history.put("pods", ended(indexed(pod("a", ("Job", "sum")), "0"), "Failed"))
    history.put("pods", indexed(pod("b", ("Job", "sum")), "0"))
    history.put("pods", ended(indexed(pod("b", ("Job", "sum")), "0")))
    history.put(
        "jobs", {**obj("sum", completions=1, completionMode="Indexed"), "status": {"failed": 1, "succeeded": 1}}
    )
    history.remove("pods", failed)
    assert history.world.broken == []


def test_a_deployment_that_shrinks_may_give_up_ready_pods_of_a_rollout() -> None:
    history = History()
    history.put("deployments", obj("web", replicas=6))
    history.put("replicasets", obj("old", ("Deployment", "web"), replicas=3, template=template("1")))
    history.put("replicasets", obj("new", ("Deployment", "web"), replicas=3, template=template("2")))
    old = [history.put("pods", pod(f"p{n}", ("ReplicaSet", "old"), phase="Running", ready=True)) for n in range(3)]
    history.put("deployments", obj("web", replicas=4))
    history.put("pods", {**old[0], "metadata": {**old[0]["metadata"], "deletionTimestamp": "now"}})
    assert history.world.broken == []
    history.later()
    history.put("pods", {**old[1], "metadata": {**old[1]["metadata"], "deletionTimestamp": "now"}})
    [told] = history.world.broken
    assert "a ready pod is given up, which leaves 1; 3 are the fewest" in told
