"""Pods nobody else will ever remove: on nodes that are gone, never scheduled, or finished long ago by the thousand."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from orca.api.builtin import NODES, PODS
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, is_terminating, key, name
from orca.controllers import conditions, podstate
from orca.controllers.harness import BaseController, Context, gather_all
from orca.controllers.nodes.taints import spec_of

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
PERIOD = 20.0
QUARANTINE = 40.0
"""Seconds a node must have been missing before its pods go: a node may be deleted and registered again."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A pod to delete at once, Failed first unless it is over; with a `message` it is the target of a disruption."""

    pod: Obj
    message: str = ""


def plan(pods: Sequence[Obj], gone: Collection[str], out_of_service: Collection[str], threshold: int) -> list[Doomed]:
    """`gone`: names of nodes known not to exist; `out_of_service`: nodes an administrator gave up (tainted, not ready);
    `threshold`: how many finished pods may stay, 0 for any number."""
    doomed: dict[str, Doomed] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node in gone:
            doomed[key(pod)] = Doomed(pod, "PodGC: node no longer exists")
        elif is_terminating(pod) and (not node or node in out_of_service):
            doomed[key(pod)] = Doomed(pod)
    finished = [pod for pod in pods if podstate.is_finished(pod)]
    if threshold > 0 and len(finished) > threshold:
        # Evicted ones first: those that controllers let finish are told of by somebody.
        finished.sort(key=lambda pod: (not _was_evicted(pod), podstate.created_at(pod), name(pod)))
        for pod in finished[: len(finished) - threshold]:
            doomed.setdefault(key(pod), Doomed(pod))
    return list(doomed.values())


def _was_evicted(pod: Obj) -> bool:
    status = pod.get("status") or {}
    return status.get("phase") == "Failed" and status.get("reason") == "Evicted"


def is_out_of_service(node: Obj) -> bool:
    """Not ready, and tainted as never coming back with its present state."""
    tainted = any(taint.get("key") == OUT_OF_SERVICE for taint in spec_of(node).get("taints") or ())
    return tainted and conditions.status_of(node, "Ready") != "True"


class PodGarbageCollector(BaseController):
    """Looks every 20 seconds; the only controller that goes over all pods, because it is about those nobody watches."""

    name = "pod-garbage-collector-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.caches.of(PODS)
        self._nodes = self.caches.of(NODES)
        self._missing: dict[str, float] = {}
        """Since when (monotonic) a node has been missing: no pod is lost because somebody set the clock."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.collect()
            await self.clock.sleep(PERIOD)

    async def collect(self) -> None:
        """One look at all pods."""
        pods = self._pods.all()
        gone = await self._gone_nodes({pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")})
        given_up = {name(node) for node in self._nodes.all() if is_out_of_service(node)}
        doomed = plan(pods, gone, given_up, self.context.config.terminated_pod_threshold)
        for error in await gather_all(self._delete(one) for one in doomed):
            if not is_conflict(error):
                self.tell("pods", error)

    async def _gone_nodes(self, used: Iterable[str]) -> set[str]:
        """Nodes that have been missing for the quarantine and that the server does not know either."""
        now = self.clock.monotonic()
        missing = {node for node in used if self._nodes.get(node) is None}
        self._missing = {node: self._missing.get(node, now) for node in missing}
        gone = set()
        for node, since in self._missing.items():
            if now - since < QUARANTINE:
                continue
            try:
                await self.client.get(NODES, node)
            except ApiError as error:
                if is_not_found(error):
                    gone.add(node)
        return gone

    async def _delete(self, doomed: Doomed) -> None:
        pod = doomed.pod
        if not podstate.is_finished(pod):
            # Of a pod without a host nobody else says that it is over, and its Job waits to hear it.
            changed = {**(pod.get("status") or {}), "phase": "Failed"}
            if doomed.message:
                now = self.clock.now()
                target = conditions.build("DisruptionTarget", "True", "DeletionByPodGC", doomed.message, now, of=pod)
                changed["conditions"] = conditions.put(changed.get("conditions"), target)
            told = await self._pods.update_status(pod, changed)
            if told is None:
                return
            pod = told
        await self._pods.delete(pod, grace_seconds=0)
