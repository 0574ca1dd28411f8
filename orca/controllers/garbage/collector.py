"""Feeds the graph from the watches of every resource and acts on its objects, one uid at a time."""

import asyncio
import weakref
from collections import OrderedDict

import structlog

from orca.api.builtin import EVENTS, EVENTS_V1
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, finalizers, is_terminating, uid
from orca.api.resources import Resource
from orca.client.base import Propagation
from orca.controllers.garbage import graph
from orca.controllers.garbage.graph import Graph, Node, Owner, State, Verdict
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter, gather_all, raise_first

log = structlog.get_logger()

_ABSENT_REMEMBERED = 5000


def collectable(row: Resource) -> bool:
    """It can be listed, watched and deleted; events expire by themselves."""
    return not row.virtual and {"list", "watch", "delete"} <= set(row.verbs) and row not in (EVENTS, EVENTS_V1)


def _tell(collector: "GarbageCollector | None", what: str, row: Resource) -> None:
    if collector is not None:
        collector.row_changed(what, row)


class GarbageCollector(Controller):
    """Keys are uids."""

    name = "garbage-collector-controller"
    workers = 20
    patience = 30.0
    """As upstream's: one custom kind whose conversion webhook is gone must not keep all others from being collected."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.graph = Graph()
        self._table = context.config.table
        self._followed: dict[str, Resource] = {}
        # A uid is never used again: an owner found absent once needs no second question for its other dependents.
        self._absent: OrderedDict[tuple[Owner, str], None] = OrderedDict()
        for row in self._table:
            self._follow(row)
        # The table outlives this collector, which ends with this process's leadership: it must not be kept alive.
        myself = weakref.ref(self)
        self._table.subscribe(lambda what, row: _tell(myself(), what, row))

    def _follow(self, row: Resource) -> None:
        # Several versions of one thing are one object.
        if not collectable(row) or row.storage in self._followed:
            return
        self._followed[row.storage] = row
        informer = self.caches.of(row).informer
        informer.on_add(lambda obj: self._seen(row, obj))
        informer.on_update(lambda old, new: None if graph.equal(old, new) else self._seen(row, new))
        informer.on_delete(lambda obj: self._gone(row, obj))

    def row_changed(self, what: str, row: Resource) -> None:
        """A CustomResourceDefinition came or went."""
        if what == "added":
            self._follow(row)
        elif self._followed.get(row.storage) == row:
            del self._followed[row.storage]
            self.caches.drop(row)
            self.graph.remove_all_of(row)
            # Another version of the same objects may still be served.
            for other in self._table:
                if other.storage == row.storage:
                    self._follow(other)

    def _seen(self, row: Resource, obj: Obj) -> None:
        for identity in self.graph.put(graph.node_of(row, obj)):
            self.queue.add(identity)

    def _gone(self, row: Resource, obj: Obj) -> None:
        del row
        for identity in self.graph.remove(uid(obj)):
            self.queue.add(identity)
        self.queue.forget(uid(obj))

    async def sync(self, key: str) -> Outcome:
        """One object."""
        node = self.graph.get(key)
        if node is None or self._is_safe(node):
            return DONE
        try:
            fresh = await self.client.get(node.resource, node.name, node.namespace)
        except ApiError as error:
            if is_not_found(error):
                return DONE
            raise
        if uid(fresh) != node.uid:
            return DONE
        current = graph.node_of(node.resource, fresh)
        if not current.deleting:
            try:
                return await self._attend(current, fresh)
            except ApiError as error:
                if is_not_found(error):
                    return DONE  # gone since it was read
                raise
        if current.orphan:
            await self._orphan_dependents(current)
        elif current.foreground:
            await self._go_on(current, fresh)
        return DONE

    def _is_safe(self, node: Node) -> bool:
        """It lives and all its owners are known to: nothing to ask the server about."""
        if node.deleting:
            return False
        owners = (self.graph.owner(reference, node) for reference in node.owners)
        return all(known is not None and not known.waits_for_dependents for known in owners)

    # --- an object that lives: do its owners? ------------------------------------------------------------------------

    async def _attend(self, node: Node, fresh: Obj) -> Outcome:
        states: dict[str, State] = {}
        for owner in node.owners:
            states[owner.uid] = await self._state_of(node, owner, fresh)
        dependents = list(self.graph.dependents(node.uid))
        verdict = graph.judge(states.values(), has_dependents=bool(dependents))
        if verdict is Verdict.KEEP:
            # Kinds that are not known may come to be served.
            return DONE if all(map(self._row_of, node.owners)) else RetryAfter()
        if verdict is Verdict.DROP_REFERENCES:
            await self._set_owners(node, fresh, graph.references_without(fresh, states))
            return DONE
        if verdict is Verdict.DELETE_FOREGROUND:
            if any(dependent.waits_for_dependents for dependent in dependents):
                # A circle: everybody would wait for somebody else for ever.
                fresh = await self._unblock(node, fresh)
            await self._delete(node, fresh, "Foreground")
            return DONE
        policy: Propagation = "Orphan" if node.orphan else "Foreground" if node.foreground else "Background"
        await self._delete(node, fresh, policy)
        return DONE

    async def _state_of(self, node: Node, owner: Owner, dependent: Obj) -> State:
        known = self.graph.owner(owner, node)
        if known is not None:
            return State.WAITING if known.waits_for_dependents else State.SOLID
        self._tell_of_namespace(node, owner, dependent)
        if (owner, node.namespace) in self._absent:
            return State.DANGLING
        row = self._row_of(owner)
        if row is None:
            log.debug("owner of unknown kind", owner=f"{owner.api_version} {owner.kind}", dependent=node.name)
            return State.UNKNOWN
        if row.namespaced and not node.namespace:
            # A cluster-wide object cannot belong to one of a namespace: which one is not said.
            return State.UNKNOWN
        try:
            found = await self.client.get(row, owner.name, node.namespace if row.namespaced else "")
        except ApiError as error:
            if not is_not_found(error):
                raise
        else:
            if uid(found) == owner.uid:
                waits = is_terminating(found) and graph.FOREGROUND in finalizers(found)
                return State.WAITING if waits else State.SOLID
        self._absent[owner, node.namespace] = None
        if len(self._absent) > _ABSENT_REMEMBERED:
            self._absent.popitem(last=False)
        return State.DANGLING

    def _tell_of_namespace(self, node: Node, owner: Owner, dependent: Obj) -> None:
        """When the owner that is meant is in another namespace, which is no owner at all."""
        known = self.graph.get(owner.uid)
        if known is None or known.namespace in ("", node.namespace):
            return
        place = f"namespace: {node.namespace}, name: {owner.name}, uid: {owner.uid}"
        text = f'ownerRef [{owner.api_version}/{owner.kind}, {place}] does not exist in namespace "{node.namespace}"'
        self.recorder.event(dependent, "Warning", "OwnerRefInvalidNamespace", text)

    def _row_of(self, owner: Owner) -> Resource | None:
        exact = self._table.by_kind(owner.api_version, owner.kind)
        if exact is not None:
            return exact
        # An older version of a group we serve another version of.
        group = owner.api_version.rpartition("/")[0]
        rows = (row for row in self._table if row.group == group and row.kind == owner.kind)
        return next(rows, None)

    # --- an object that is being deleted -----------------------------------------------------------------------------

    async def _go_on(self, node: Node, fresh: Obj) -> None:
        """Deletion in the foreground: the last blocking dependent lets it go."""
        blocking = self.graph.blocking(node.uid)
        if not blocking:
            await self._drop_finalizer(node, fresh, graph.FOREGROUND)
            return
        for dependent in blocking:
            if not dependent.waits_for_dependents:
                self.queue.add(dependent.uid)

    async def _orphan_dependents(self, node: Node) -> None:
        turns = asyncio.Semaphore(self.workers)

        async def orphan(dependent: Node) -> None:
            async with turns:  # ten thousand at once would keep everybody else waiting
                await release(dependent)

        async def release(dependent: Node) -> None:
            try:
                fresh = await self.client.get(dependent.resource, dependent.name, dependent.namespace)
                if uid(fresh) == dependent.uid:
                    await self._set_owners(
                        dependent, fresh, graph.references_without(fresh, {node.uid: State.DANGLING})
                    )
            except ApiError as error:
                if not is_not_found(error):
                    raise

        raise_first(await gather_all(orphan(dependent) for dependent in self.graph.dependents(node.uid)))
        fresh = await self.client.get(node.resource, node.name, node.namespace)
        await self._drop_finalizer(node, fresh, graph.ORPHAN)

    # --- writes; each with the version it was decided on -------------------------------------------------------------

    async def _delete(self, node: Node, fresh: Obj, policy: Propagation) -> None:
        try:
            await self.client.delete(
                node.resource,
                node.name,
                node.namespace,
                uid=node.uid,
                resource_version=fresh["metadata"]["resourceVersion"],
                propagation=policy,
            )
        except ApiError as error:
            if not is_not_found(error):
                raise

    async def _set_owners(self, node: Node, fresh: Obj, references: list[Obj]) -> Obj:
        return await self._patch(node, fresh, {"ownerReferences": references or None})

    async def _unblock(self, node: Node, fresh: Obj) -> Obj:
        references = [{**r, "blockOwnerDeletion": False} for r in fresh["metadata"].get("ownerReferences") or ()]
        return await self._patch(node, fresh, {"ownerReferences": references})

    async def _drop_finalizer(self, node: Node, fresh: Obj, finalizer: str) -> None:
        rest = [holder for holder in finalizers(fresh) if holder != finalizer]
        try:
            await self._patch(node, fresh, {"finalizers": rest or None})
        except ApiError as error:
            if not is_not_found(error):
                raise

    async def _patch(self, node: Node, fresh: Obj, change: Obj) -> Obj:
        metadata = {**change, "uid": node.uid, "resourceVersion": fresh["metadata"]["resourceVersion"]}
        return await self.client.patch(node.resource, node.name, {"metadata": metadata}, node.namespace)
