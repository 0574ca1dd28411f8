"""ResourceQuota status: what is used of what is allowed.

Admission adds to it what it lets in; here it is counted anew whenever something that counts has changed or gone.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence

from orca.api.builtin import RESOURCEQUOTAS
from orca.api.objects import Obj, key, namespace
from orca.api.podsizes import held, held_whole
from orca.api.quantity import Quantity
from orca.api.quota.usage import counted_by, in_scopes, usage_of
from orca.api.resources import Resource
from orca.api.volumes import attributes_classes
from orca.controllers.cache import Cache
from orca.controllers.harness import DONE, Coalescer, Context, Controller, Outcome

WINDOW = 0.25
"""Seconds in which changes of one namespace are counted once."""


def new_status(quota: Obj, objects: Mapping[str, tuple[Resource, Sequence[Obj]]]) -> Obj:
    """The whole status. `objects`: name in `spec.hard` -> the resource it counts and all of the namespace. Pure.

    Names that count nothing here keep the use that something else may have written, as upstream.
    """
    hard: dict[str, str] = (quota.get("spec") or {}).get("hard") or {}
    before = (quota.get("status") or {}).get("used") or {}
    used: dict[str, str] = {name: before[name] for name in hard if name in before and name not in objects}
    by_resource: dict[Resource, tuple[Sequence[Obj], set[str]]] = {}
    for name in hard:
        if name in objects:
            resource, found = objects[name]
            by_resource.setdefault(resource, (found, set()))[1].add(name)
    for resource, (found, names) in by_resource.items():
        total = dict.fromkeys(names, Quantity.parse("0"))
        for obj in found:
            if not in_scopes(resource, obj, quota):
                continue
            usage = usage_of(resource, obj)
            for name in names & usage.keys():
                total[name] = total[name] + usage[name]
        used.update({name: str(amount) for name, amount in total.items()})
    return {"hard": dict(hard), "used": {name: used[name] for name in hard if name in used}}


def _tell(controller: "ResourceQuotaController | None", what: str, row: Resource) -> None:
    if controller is not None:
        controller.row_changed(what, row)


class ResourceQuotaController(Controller):
    """Keys are quotas. Watches only what some quota counts."""

    name = "resourcequota-controller"
    resource = RESOURCEQUOTAS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._table = context.config.table
        self._quotas = self.caches.of(RESOURCEQUOTAS)
        self._followed: dict[Resource, Cache] = {}
        self._soon = Coalescer(self.queue, self.clock, WINDOW)
        self._quotas.informer.on_add(self.enqueue)
        self._quotas.informer.on_update(lambda _, new: self.enqueue(new))
        self._quotas.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        # The table outlives this controller: it must not be kept alive.
        myself = weakref.ref(self)
        self._table.subscribe(lambda what, row: _tell(myself(), what, row))

    def row_changed(self, what: str, row: Resource) -> None:
        """A custom kind came, went or changed: quotas may count it."""
        if what == "removed" and self._followed.pop(row, None) is not None:
            self.caches.drop(row)
        wanted = f"count/{row.group_resource}"
        for quota in self._quotas.all():
            if wanted in _hard(quota):
                self.enqueue(quota)

    def _follow(self, resource: Resource) -> Cache:
        cache = self._followed.get(resource)
        if cache is None:
            cache = self._followed[resource] = self.caches.of(resource)
            changed = self._changed(resource)
            cache.informer.on_add(changed)
            cache.informer.on_delete(changed)
            cache.informer.on_update(lambda old, new: changed(new) if _counts_anew(old, new) else None)
        return cache

    def _changed(self, resource: Resource) -> Callable[[Obj], None]:
        def changed(obj: Obj) -> None:
            for quota in self._quotas.informer.by_index("namespace", namespace(obj)):
                if any(counted_by(name, self._table) == resource for name in _hard(quota)):
                    self._soon.add(key(quota))

        return changed

    async def sync(self, key: str) -> Outcome:
        """One quota."""
        quota = self._quotas.get(key)
        if quota is None:
            return DONE
        counted = {name: resource for name in _hard(quota) if (resource := counted_by(name, self._table))}
        for resource in dict.fromkeys(counted.values()):
            await self._follow(resource).informer.synced()
        space = namespace(quota)
        objects = {
            name: (resource, self._followed[resource].by_index("namespace", space))
            for name, resource in counted.items()
        }
        if new_status(quota, objects) == quota.get("status"):
            return DONE
        # Admission adds what it lets in to this status, on the quota's revision. So it is only overwritten by a count
        # that shows all that was let in before that revision, which the caches need not do yet: ask anew.
        newest: dict[Resource, Sequence[Obj]] = {
            resource: (await self.client.list(resource, space)).items for resource in dict.fromkeys(counted.values())
        }
        status = new_status(quota, {name: (resource, newest[resource]) for name, resource in counted.items()})
        if status != quota.get("status"):
            await self._quotas.update_status(quota, status)
        return DONE


def _hard(quota: Obj) -> dict[str, str]:
    return (quota.get("spec") or {}).get("hard") or {}


def allocated(claim: Obj) -> Obj:
    """What a claim has of its volume while that grows."""
    return (claim.get("status") or {}).get("allocatedResources") or {}


def _counts_anew(old: Obj, new: Obj) -> bool:
    """Whether an update can change what an object counts for."""
    phases = [(obj.get("status") or {}).get("phase") for obj in (old, new)]
    return (
        phases[0] != phases[1]
        or old.get("spec") != new.get("spec")
        or attributes_classes(old) != attributes_classes(new)
        or allocated(old) != allocated(new)
        or held(old) != held(new)
        or held_whole(old) != held_whole(new)
    )
