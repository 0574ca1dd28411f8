"""Notices nodes that stopped reporting, says so in their conditions, taints and pods, and takes it back."""

from datetime import datetime

import structlog

from orca.api.builtin import LEASES, NODES, PODS
from orca.api.objects import Obj, key, name, namespace
from orca.api.times import format_time
from orca.controllers import conditions, podstate
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter, gather_all, raise_first
from orca.controllers.nodes import health, taints
from orca.controllers.nodes.zones import Zones, zone_of

log = structlog.get_logger()

LEASE_NAMESPACE = "kube-node-lease"


class NodeLifecycleController(Controller):
    """Keys are node names. One timer a node, moved on by its heartbeats; nothing is polled."""

    name = "node-controller"
    resource = NODES

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = self.caches.of(NODES)
        self._pods = self.caches.of(PODS)
        self._leases = self.caches.of(LEASES)
        self._heartbeats: dict[str, health.Heartbeat] = {}
        self._was_ready: dict[str, str] = {}
        self._registered: set[str] = set()
        self._zones = Zones(context.config.eviction)
        self._blind = False
        self._nodes.informer.on_add(self._node_added)
        self._nodes.informer.on_update(self._node_updated)
        self._nodes.informer.on_delete(self._node_gone)
        self._leases.informer.on_add(self._lease_seen)
        self._leases.informer.on_update(lambda _, new: self._lease_seen(new))

    def _node_added(self, node: Obj) -> None:
        self._zones.put(node)
        self.enqueue(node)

    def _node_updated(self, old: Obj, new: Obj) -> None:
        self._zones.put(new)
        self._observe(new)
        if _relevant(old) != _relevant(new):
            self.enqueue(new)

    def _node_gone(self, node: Obj) -> None:
        self._heartbeats.pop(name(node), None)
        self._was_ready.pop(name(node), None)
        self._zones.remove(name(node))
        self.queue.forget(key(node))
        gone = name(node)
        if gone in self._registered:
            self._registered.discard(gone)
            self.recorder.event(
                node, "Normal", "RemovingNode", f"Node {gone} event: Removing Node {gone} from Controller"
            )

    def _lease_seen(self, lease: Obj) -> None:
        if namespace(lease) == LEASE_NAMESPACE:
            node = self._nodes.informer.get(name(lease))
            if node is not None:
                self._observe(node, lease)

    def _observe(self, node: Obj, lease: Obj | None = None) -> float:
        """Answers for how many seconds no sign of life of the node was seen."""
        lease = lease or self._leases.informer.get(f"{LEASE_NAMESPACE}/{name(node)}")
        heartbeat = self._heartbeats.setdefault(name(node), health.Heartbeat())
        return heartbeat.observe(health.mark_of(node, lease), self.context.awake.seconds())

    async def sync(self, key: str) -> Outcome:
        """One node."""
        node = self._nodes.get(key)
        if node is None:
            return DONE
        if key not in self._registered:
            self._registered.add(key)
            self.recorder.event(
                node, "Normal", "RegisteredNode", f"Node {key} event: Registered Node {key} in Controller"
            )
        now = self.clock.now()
        config = self.context.config
        left = health.time_left(node, self._observe(node), config.node_monitor_grace, config.node_startup_grace)
        if left <= 0:
            node = await self._give_up(node, now)
        await self._follow_readiness(node, now)
        wait = await self._adjust_taints(node, now)
        waits = [wait] if wait else []
        if left > 0:
            waits.append(left)
        return RetryAfter(min(waits)) if waits else DONE

    async def _give_up(self, node: Obj, now: datetime) -> Obj:
        found = health.lost_conditions(node, now)
        if found is None:
            return node
        status = {**(node.get("status") or {}), "conditions": found}
        return await self._nodes.update({**node, "status": status}, subresource="status")

    async def _follow_readiness(self, node: Obj, now: datetime) -> None:
        """Pods of a node that is not ready are not ready either, and Services stop sending to them at once."""
        ready = conditions.status_of(node, "Ready")
        before = self._was_ready.get(name(node))
        self._was_ready[name(node)] = ready
        if before == "True" and ready != "True":
            # That it is ready again its own agent tells.
            self.recorder.event(node, "Normal", "NodeNotReady", f"Node {name(node)} status is now: NodeNotReady")
        # While a node reports, its pods' conditions are its own to keep; a silent one's are kept up here.
        if ready == "Unknown" or (ready == "False" and before == "True"):
            pods = [pod for pod in self._pods.by_index("node", name(node)) if podstate.is_ready(pod)]
            raise_first(await gather_all(self._mark_not_ready(pod, now) for pod in pods))

    async def _mark_not_ready(self, pod: Obj, now: datetime) -> None:
        status = pod["status"]
        found = [
            {**one, "status": "False", "lastTransitionTime": format_time(now)} if one["type"] == "Ready" else one
            for one in status["conditions"]
        ]
        await self._pods.update_status(pod, {**status, "conditions": found})
        self.recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")

    async def _adjust_taints(self, node: Obj, now: datetime) -> float:
        """Answers the seconds after which the node may be given its NoExecute taint, 0 when nothing waits."""
        if self._nodes.informer.get(key(node)) is not None:
            # Else it went meanwhile, and nobody would take it out again.
            self._zones.put(node)
        self._notice_blindness()
        wait = self._zones.take(node, self.clock.monotonic()) if taints.awaits_eviction(node) else 0.0
        wanted = taints.adjusted(node, now, may_evict=not wait, blind=self._blind)
        if wanted is not None:
            spec = {**taints.spec_of(node), "taints": wanted}
            if not wanted:
                del spec["taints"]
            await self._nodes.update({**node, "spec": spec})
        return wait

    def _notice_blindness(self) -> None:
        """When the last node falls silent, all lose what drives their pods away: it is we who do not see. When one is
        heard of again, the others have their whole time to follow."""
        if self._zones.blind == self._blind:
            return
        self._blind = self._zones.blind
        if self._blind:
            log.info("no node is ready: nobody is driven away")
        else:
            log.info("nodes are ready again: those that are not may be cleared of their pods")
            for heartbeat in self._heartbeats.values():
                heartbeat.seen = self.context.awake.seconds()
        for node in self._nodes.all():
            self.enqueue(node)


def _relevant(node: Obj) -> tuple[object, ...]:
    found = (node.get("status") or {}).get("conditions") or ()
    return (
        [(one["type"], one["status"]) for one in found],
        taints.spec_of(node).get("taints"),
        taints.spec_of(node).get("unschedulable"),
        zone_of(node),
    )
