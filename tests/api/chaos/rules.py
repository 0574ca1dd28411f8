"""What may never be, judged at every change from the objects alone.

Who acts on what it has seen acts a little late: of limits that people change the widest of the last `LAG` seconds
counts. Nobody but controllers makes pods, so how many there are is exact.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator

from tests.api.chaos.recent import LAG, Recent, uid_of
from tests.api.chaos.rules_jobs import Completions, Times
from tests.api.chaos.world import (
    Change,
    Obj,
    Rule,
    World,
    controller_of,
    is_active,
    is_going,
    is_over,
    is_ready,
    key_of,
    owner_of,
    phase,
)
from tests.support.placements import overfull

UNNOTICED = 60.0
"""Seconds for which a pod that somebody else has ended may be in the status of its set, by which rollouts go: nobody
writes that while no server leads, and the next leader may look at the Deployment first."""
HASHES = ("pod-template-hash", "controller-revision-hash")


def number(value: int | str | None, of: int, otherwise: str, *, up: bool) -> int:
    """A count, or percent of `of`."""
    given = otherwise if value is None else value
    if isinstance(given, str) and given.endswith("%"):
        exact = int(given[:-1]) * of / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(given)


def replicas(obj: Obj) -> int:
    found = obj["spec"].get("replicas")
    return 1 if found is None else int(found)


class Sizes:
    """ReplicaSets and ReplicationControllers have never made more pods than they are to have."""

    def __init__(self) -> None:
        self._wanted = Recent()

    def __call__(self, world: World, change: Change) -> Iterator[str]:
        if change.kind in ("replicasets", "replicationcontrollers") and change.after is not None:
            self._wanted.note(uid_of(change.after), replicas(change.after), change.at)
        if change.kind != "pods" or change.before is not None or change.after is None:
            return
        owner = owner_of(change.after, "ReplicaSet") or owner_of(change.after, "ReplicationController")
        if owner:
            there = sum(is_active(pod) for pod in world.pods_of(owner))
            most = self._wanted.most(owner, change.at)
            if there > most:
                yield f"the {there}th pod of a set of {most:.0f}"


class Rollouts:
    """Deployments: sizes of their sets never grow above replicas and surge; no ready pod is given up by a controller
    while fewer than wanted are ready; no template has two sets."""

    def __init__(self, disrupted: Callable[[str, float], bool]) -> None:
        """`disrupted`: whether a pod was ended by somebody else lately."""
        self._most, self._fewest = Recent(), Recent()
        self._disrupted = disrupted
        self._lost: dict[str, list[tuple[float, str]]] = defaultdict(list)

    def __call__(self, world: World, change: Change) -> Iterator[str]:
        if change.kind == "deployments" and change.after is not None:
            self._learn(change.after, change.at)
        elif change.kind == "replicasets" and change.after is not None:
            yield from self._set_changed(world, change)
        elif change.kind == "pods" and change.before is not None:
            yield from self._pod_changed(world, change)

    def _learn(self, deployment: Obj, at: float) -> None:
        spec, count = deployment["spec"], replicas(deployment)
        strategy = spec.get("strategy") or {}
        rolling = strategy.get("rollingUpdate") or {}
        if strategy.get("type") == "Recreate":
            most, fewest = count, 0
        else:
            surge = number(rolling.get("maxSurge"), count, "25%", up=True)
            less = number(rolling.get("maxUnavailable"), count, "25%", up=False)
            most, fewest = count + surge, count - (less or (0 if surge else 1))
        self._most.note(uid_of(deployment), most, at)
        self._fewest.note(uid_of(deployment), fewest, at)

    def _set_changed(self, world: World, change: Change) -> Iterator[str]:
        assert change.after is not None
        owner = owner_of(change.after, "Deployment")
        if not owner:
            return
        sets = [one for one in world.all("replicasets") if controller_of(one) == owner]
        if change.before is None:
            same = [one for one in sets if _template(one) == _template(change.after)]
            if len(same) > 1:
                yield f"a second set for one template: {sorted(map(key_of, same))}"
        grown = replicas(change.after) - (replicas(change.before) if change.before is not None else 0)
        total, most = sum(map(replicas, sets)), self._most.most(owner, change.at)
        if grown > 0 and total > most:
            yield f"the sets of its Deployment grow to {total}, but {most:.0f} is the most"

    def _pod_changed(self, world: World, change: Change) -> Iterator[str]:
        before, after = change.before, change.after
        assert before is not None
        gave_up = is_ready(before) and is_active(before) and (after is None or not is_active(after))
        set_uid = owner_of(before, "ReplicaSet")
        space = world.get("namespaces", before["metadata"]["namespace"])
        if not gave_up or not set_uid or space is None or is_going(space):
            return
        replicaset = world.by_uid("replicasets", set_uid)
        owner = owner_of(replicaset, "Deployment") if replicaset is not None else ""
        deployment = world.by_uid("deployments", owner) if owner else None
        if deployment is None or is_going(deployment) or replicaset is None or is_going(replicaset):
            return
        if self._disrupted(uid_of(before), change.at):
            self._lost[owner].append((change.at, uid_of(before)))
            return
        if self._fewest.fell(owner, change.at):
            return  # sets of a Deployment that shrinks give up pods in proportion, whichever of them are ready
        ready = sum(
            is_ready(pod) and is_active(pod)
            for one in world.all("replicasets")
            if controller_of(one) == owner
            for pod in world.pods_of(uid_of(one))
        )
        lately = sum(at > change.at - UNNOTICED for at, _ in self._lost[owner])
        fewest = self._fewest.least(owner, change.at)
        if ready + lately < fewest:
            sets = [(one["spec"], one.get("status")) for one in world.all("replicasets") if controller_of(one) == owner]
            sizes = [(spec.get("replicas"), shown) for spec, shown in sets]
            yield (
                f"a ready pod is given up, which leaves {ready}; {fewest:.0f} are the fewest "
                f"({lately} ended by others, sets {sizes}, Deployment {deployment['spec']['replicas']} "
                f"{deployment['spec'].get('strategy')})"
            )


def _template(replicaset: Obj) -> str:
    template = json.loads(json.dumps(replicaset["spec"]["template"]))
    for label in HASHES:
        (template["metadata"].get("labels") or {}).pop(label, None)
    return json.dumps(template, sort_keys=True)


class Ordinals:
    """StatefulSets: pods only of ordinals that are wanted, in their order."""

    def __init__(self) -> None:
        self._end = Recent()
        self._ready_at: dict[str, float] = {}

    def __call__(self, world: World, change: Change) -> Iterator[str]:
        if change.kind == "statefulsets" and change.after is not None:
            start = (change.after["spec"].get("ordinals") or {}).get("start", 0)
            self._end.note(uid_of(change.after), start + replicas(change.after), change.at)
        if change.kind != "pods":
            return
        owner = owner_of(change.obj, "StatefulSet")
        if not owner:
            return
        if change.before is not None and is_ready(change.before):
            self._ready_at[key_of(change.obj)] = change.at
        if change.before is not None or change.after is None:
            return
        base, _, ordinal = change.after["metadata"]["name"].rpartition("-")
        end = self._end.most(owner, change.at)
        if int(ordinal) >= end:
            yield f"ordinals end before {end:.0f}"
        found = world.by_uid("statefulsets", owner)
        if found is None or found["spec"].get("podManagementPolicy") == "Parallel":
            return
        first = (found["spec"].get("ordinals") or {}).get("start", 0)
        for lower in range(first, int(ordinal)):
            key = f"{change.after['metadata']['namespace']}/{base}-{lower}"
            pod = world.get("pods", key)
            if not (pod is not None and is_ready(pod)) and self._ready_at.get(key, -math.inf) < change.at - LAG:
                yield f"made before {key} was ready"


class OnePodANode:
    """DaemonSets: one pod a node; with surge two, of which one is new."""

    def __init__(self) -> None:
        self._surge = Recent()

    def __call__(self, world: World, change: Change) -> Iterator[str]:
        if change.kind == "daemonsets" and change.after is not None:
            rolling = (change.after["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
            self._surge.note(
                uid_of(change.after), 1 if rolling.get("maxSurge") not in (None, 0, "0%") else 0, change.at
            )
        if change.kind != "pods" or change.before is not None or change.after is None:
            return
        owner = owner_of(change.after, "DaemonSet")
        if not owner:
            return
        node = _target(change.after)
        # A pod that has ended and is going is in nobody's way.
        beside = [
            pod
            for pod in world.pods_of(owner)
            if _target(pod) == node and pod is not change.after and not (is_going(pod) and is_over(pod))
        ]
        if self._surge.most(owner, change.at):
            beside = [pod for pod in beside if is_active(pod)][1:]
        if beside:
            yield f"{node} has {[_told(pod) for pod in beside]} of that DaemonSet"


def _told(pod: Obj) -> str:
    return f"{key_of(pod)} ({phase(pod) or 'Pending'}{', going' if is_going(pod) else ''})"


def _target(pod: Obj) -> str:
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


def bindings(world: World, change: Change) -> Iterator[str]:
    """A pod is bound once, to a node that has room."""
    if change.kind != "pods" or change.after is None:
        return
    node = change.after["spec"].get("nodeName")
    before = change.before["spec"].get("nodeName") if change.before is not None else None
    same = change.before is not None and uid_of(change.before) == uid_of(change.after)
    if same and before and node != before:
        yield f"bound to {before}, then to {node}"
    if node and not (same and before):
        there = [pod for pod in world.on_node[node].values() if not is_over(pod)]
        found = world.get("nodes", node)
        short = ["node, which there is none"] if found is None else overfull(found, there)
        for one in short:
            yield f"{node} has too little {one}"


def spaces(world: World, change: Change) -> Iterator[str]:
    """Nothing is made in a namespace that is gone."""
    if change.before is None and change.after is not None:
        space = change.after["metadata"].get("namespace")
        if space and change.kind != "events" and world.get("namespaces", space) is None and world.kinds["namespaces"]:
            yield f"made in {space}, which there is none"


def quotas(world: World, change: Change) -> Iterator[str]:
    """Never more pods than a quota allows."""
    if change.kind != "pods" or change.before is not None or change.after is None:
        return
    space = change.after["metadata"]["namespace"]
    for quota in world.all("resourcequotas"):
        hard = (quota["spec"].get("hard") or {}).get("pods")
        if quota["metadata"]["namespace"] == space and hard is not None:
            # One that outlives its grace does not count.
            there = sum(pod["metadata"]["namespace"] == space and is_active(pod) for pod in world.all("pods"))
            if there > int(hard):
                yield f"the {there}th pod in {space}, whose quota allows {hard}"


def volumes(world: World, change: Change) -> Iterator[str]:
    """One volume a claim."""
    if change.kind != "persistentvolumes" or change.after is None:
        return
    reference = change.after["spec"].get("claimRef") or {}
    if reference.get("uid"):
        same = [
            key_of(one)
            for one in world.all("persistentvolumes")
            if (one["spec"].get("claimRef") or {}).get("uid") == reference["uid"]
        ]
        if len(same) > 1:
            yield f"the claim {reference['namespace']}/{reference['name']} has {sorted(same)}"


def revisions(world: World, change: Change) -> Iterator[str]:
    """One ControllerRevision a template, one number each."""
    if change.kind != "controllerrevisions" or change.after is None:
        return
    others = [
        one
        for one in world.all("controllerrevisions")
        if controller_of(one) == controller_of(change.after) and one is not change.after
    ]
    if change.before is None and any(one["data"] == change.after["data"] for one in others):
        yield "the second revision of one template"
    numbered = change.before is None or change.before["revision"] != change.after["revision"]
    if numbered and any(one["revision"] == change.after["revision"] for one in others):
        yield f"a second revision {change.after['revision']}"


class Hosts:
    """A bound pod that has not ended goes only when its host lets it go."""

    def __init__(self, let_go: set[str]) -> None:
        self._let_go = let_go

    def __call__(self, world: World, change: Change) -> Iterator[str]:
        if change.kind == "pods" and change.after is None and change.before is not None:
            pod = change.before
            if pod["spec"].get("nodeName") and not is_over(pod) and uid_of(pod) not in self._let_go:
                yield f"gone while {pod['spec']['nodeName']} runs it"


def all_rules(let_go: set[str], disrupted: Callable[[str, float], bool]) -> list[Rule]:
    """`let_go`: uids of pods whose host said that they are over."""
    return [
        Sizes(),
        Rollouts(disrupted),
        Ordinals(),
        OnePodANode(),
        Completions(),
        Times(),
        Hosts(let_go),
        bindings,
        spaces,
        quotas,
        volumes,
        revisions,
    ]
