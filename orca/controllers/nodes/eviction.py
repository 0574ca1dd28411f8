"""Deletes pods that do not tolerate a NoExecute taint of their node, or no longer do.

The time a taint was added is written on those the cluster adds, so their timers come out the same after a restart. Of
others (`kubectl taint`) the time counts since they were seen.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from orca.api.builtin import NODES, PODS
from orca.api.objects import Obj, is_terminating, key
from orca.api.times import parse_time
from orca.controllers import conditions
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """As the scheduler and kubelet match them."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def no_execute(node: Obj | None) -> list[Obj]:
    """The node's taints that drive pods away."""
    return [taint for taint in ((node or {}).get("spec") or {}).get("taints") or () if taint["effect"] == "NoExecute"]


def eviction_time(tolerations: Sequence[Obj], taints: Iterable[Obj], seen: datetime) -> datetime | None:
    """When the pod has to go: at the earliest a taint that nothing tolerates, or tolerates only for some seconds after
    it was added, or ``seen`` where that is not written on it. None: it may stay."""
    earliest: datetime | None = None
    for taint in taints:
        matching = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        added = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else seen
        limits = [found["tolerationSeconds"] for found in matching if found.get("tolerationSeconds") is not None]
        if not matching:
            leave = seen
        elif limits:
            leave = added + timedelta(seconds=max(min(limits), 0))
        else:
            continue
        earliest = leave if earliest is None else min(earliest, leave)
    return earliest


class TaintEvictionController(Controller):
    """Keys are pods."""

    name = "taint-eviction-controller"
    resource = PODS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = self.caches.of(NODES)
        self._pods = self.caches.of(PODS)
        self._doomed: dict[str, datetime] = {}
        """Keys of pods that will have to go, and since when that is known."""
        self._nodes.informer.on_add(self._node_added)
        self._nodes.informer.on_update(self._node_updated)
        self._pods.informer.on_add(self._pod_seen)
        self._pods.informer.on_update(self._pod_updated)
        self._pods.informer.on_delete(self._pod_gone)

    def _node_added(self, node: Obj) -> None:
        if no_execute(node):
            self._look_at_pods(node)

    def _node_updated(self, old: Obj, new: Obj) -> None:
        if no_execute(old) != no_execute(new):
            self._look_at_pods(new)

    def _look_at_pods(self, node: Obj) -> None:
        for pod in self._pods.informer.by_index("node", key(node)):
            self.enqueue(pod)

    def _pod_seen(self, pod: Obj) -> None:
        node = pod["spec"].get("nodeName")
        if node and no_execute(self._nodes.informer.get(node)):
            self.enqueue(pod)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        before, after = old["spec"], new["spec"]
        same_node = before.get("nodeName") == after.get("nodeName")
        if not same_node or before.get("tolerations") != after.get("tolerations"):
            self._pod_seen(new)

    def _pod_gone(self, pod: Obj) -> None:
        self._doomed.pop(key(pod), None)
        self.queue.forget(key(pod))

    async def sync(self, key: str) -> Outcome:
        """One pod."""
        pod = self._pods.get(key)
        if pod is None or is_terminating(pod):
            return DONE
        node = self._nodes.get(pod["spec"].get("nodeName") or "")
        now = self.clock.now()
        due = eviction_time(pod["spec"].get("tolerations") or (), no_execute(node), self._doomed.get(key, now))
        if due is None:
            if key in self._doomed:
                self._doomed.pop(key, None)
                self.recorder.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key}")
            return DONE
        if due > now:
            self._doomed.setdefault(key, now)
            return RetryAfter((due - now).total_seconds())
        self._doomed.pop(key, None)
        await self._evict(key, pod, now)
        return DONE

    async def _evict(self, pod_key: str, pod: Obj, now: datetime) -> None:
        self.recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {pod_key}")
        status = pod.get("status") or {}
        target = conditions.build(
            "DisruptionTarget",
            "True",
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            now,
            of=pod,
        )
        changed = {**status, "conditions": conditions.put(status.get("conditions"), target)}
        told = await self._pods.update_status(pod, changed)
        if told is not None:
            await self._pods.delete(told)
