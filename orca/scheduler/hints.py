"""Whether something that happened can help a pod that no node was found for: kube-scheduler's queueing hints.

Pure. An answer may be too hopeful (the pod is then tried in vain) and never too gloomy.
"""

from __future__ import annotations

from collections.abc import Mapping

from orca.api.objects import Obj
from orca.scheduler.filters import Task
from orca.scheduler.filters.inter_pod_affinity import meets
from orca.scheduler.profile import DEFAULT_NAME, Profile
from orca.scheduler.snapshot import Placed, Snapshot

BY_PODS = frozenset(("NodeResourcesFit", "NodePorts"))
"""Rules that a node fails because of the pods it has."""


class Hints:
    """Answers from the state after what happened."""

    def __init__(self, snapshot: Snapshot, profiles: Mapping[str, Profile]) -> None:
        self._snapshot = snapshot
        self._profiles = profiles

    def node(self, pod: Obj, rules: frozenset[str], node: str) -> bool:
        """A node came or changed."""
        task = Task.of(pod)
        if self._looks_around(task) or pod["spec"].get("volumes") or "InterPodAffinity" in rules:
            # Its place among the others may have changed theirs.
            return True
        return self._room(task, rules, node, only_pods=False)

    def gone(self, pod: Obj, rules: frozenset[str], placed: Placed) -> bool:
        """A pod has gone from its node."""
        own = self._snapshot.placed.get(pod["metadata"]["uid"])
        task = Task(pod, own.shape) if own is not None else Task.of(pod)
        if placed.claims and rules & {"VolumeRestrictions", "NodeVolumeLimits"}:
            return True
        if "PodTopologySpread" in rules and self._spread_over(task, placed):
            return True
        if "InterPodAffinity" in rules:
            # Of those it needs the first of its kind may be anywhere, once the last other is gone.
            about = task.shape.anti_affinity + task.shape.affinity
            if any(meets(self._snapshot, term, placed) for term in about):
                return True
            for term in placed.shape.anti_affinity:
                if term.selector.matches(task.labels) and self._snapshot.concerns(term, task.namespace):
                    return True
        around = self._looks_around(task) or bool(task.pod["spec"].get("volumes"))
        return self._room(task, rules, placed.node, only_pods=around)

    def joined(self, pod: Obj, rules: frozenset[str], placed: Placed) -> bool:
        """A pod came to a node, or has other labels."""
        task = Task.of(pod)
        if "PodTopologySpread" in rules and self._spread_over(task, placed):
            return True
        return "InterPodAffinity" in rules and any(meets(self._snapshot, term, placed) for term in task.shape.affinity)

    def _profile(self, pod: Obj) -> Profile:
        return self._profiles[pod["spec"].get("schedulerName") or DEFAULT_NAME]

    @staticmethod
    def _looks_around(task: Task) -> bool:
        return bool(task.shape.affinity or task.shape.anti_affinity or task.shape.spread)

    def _spread_over(self, task: Task, placed: Placed) -> bool:
        # Without constraints of its own it was the profile's defaults; whom they count is not known here.
        return not task.shape.spread or (
            placed.namespace == task.namespace and any(one.selector.matches(placed.labels) for one in task.shape.spread)
        )

    def _room(self, task: Task, rules: frozenset[str], node: str, *, only_pods: bool) -> bool:
        """Whether the pod fits on the node, or would without pods of lower priority.

        Who it is does not count unless that was against it before: the answer is for all pods of its shape.
        """
        slot = self._snapshot.slots.get(node)
        if slot is None:
            return False
        own = self._snapshot.placed.get(task.pod["metadata"]["uid"])
        if own is not None and own.awaited and own.node == node:
            # Its victims are about to go: until the last one has, there is no use in trying.
            return self._fits(task, node)
        full = False
        for rule in self._profile(task.pod).filters:
            if only_pods and rule.name not in BY_PODS:
                continue
            if rule.name == "InterPodAffinity" and rule.name not in rules:
                continue
            if not rule.allows(task, self._snapshot, slot):
                if rule.name not in BY_PODS and rule.name != "InterPodAffinity":
                    return False
                full = True
        if not full or (own is not None and own.awaited):
            # Room is being made for it elsewhere: no further victims.
            return not full
        priority = int(task.pod["spec"].get("priority") or 0)
        there = self._snapshot.by_node.get(node, {}).values()
        # Whether it runs or is awaited: neither keeps more important pods away.
        return any(one.priority < priority for one in there)

    def _fits(self, task: Task, node: str) -> bool:
        """Whether the pod fits on the node where room is being made for it."""
        own = self._snapshot.remove(task.pod["metadata"]["uid"])
        try:
            slot = self._snapshot.slots[node]
            return all(rule.allows(task, self._snapshot, slot) for rule in self._profile(task.pod).filters)
        finally:
            if own is not None:
                self._snapshot.put(own)
