"""Namespaces: the default ones exist, and one that is being deleted is emptied and then let go.

Emptying follows upstream's order: pods first, so that nothing that serves them vanishes under them, then everything
else side by side. The namespace's conditions tell what it is still waiting for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orca.api.builtin import EVENTS_V1, NAMESPACES, PODS
from orca.api.errors import ApiError, is_already_exists, is_not_found
from orca.api.objects import Obj, finalizers, is_terminating, key, namespace
from orca.api.resources import Resource, ResourceTable
from orca.controllers import conditions
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter, gather_all

DEFAULT_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
FINALIZER = "kubernetes"
LOOK_AGAIN = 2.0
"""Seconds between looks at a namespace whose contents are still going away; its last pod going is noticed at once."""


@dataclass(frozen=True, slots=True)
class Left:
    """What remains of one resource."""

    resource: Resource
    objects: tuple[Obj, ...] = ()
    error: str = ""


def deletable(table: ResourceTable) -> list[Resource]:
    """One row for everything that can be stored in a namespace, whatever number of versions it has."""
    found: dict[str, Resource] = {}
    for row in table:
        if row.namespaced and not row.virtual and {"list", "delete"} <= set(row.verbs) and row != EVENTS_V1:
            found.setdefault(row.storage, row)
    return list(found.values())


def new_conditions(
    current: Sequence[Obj] | None, left: Sequence[Left], now: datetime, failing: Sequence[str] = ()
) -> list[Obj]:
    """The conditions upstream shows while a namespace is emptied; ``failing`` are groups nobody can tell of now."""
    failed = sorted(f"{found.resource.group_resource}: {found.error}" for found in left if found.error)
    counted = sorted((f"{f.resource.plural}.{f.resource.group}", len(f.objects)) for f in left if f.objects)
    remaining = ", ".join(f"{what} has {count} resource instances" for what, count in counted)
    holders: dict[str, int] = {}
    for found in left:
        for obj in found.objects:
            for finalizer in finalizers(obj):
                holders[finalizer] = holders.get(finalizer, 0) + 1
    held = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(holders.items()))
    undiscovered = ""
    if failing:
        undiscovered = (
            f"Discovery failed for some groups, {len(failing)} failing: "
            f"unable to retrieve the complete list of server APIs: {', '.join(failing)}"
        )
    verdicts = [
        (
            "NamespaceDeletionDiscoveryFailure",
            undiscovered,
            "DiscoveryFailed" if failing else "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "; ".join(failed) and f"Failed to delete all resource types, {len(failed)} remaining: {'; '.join(failed)}",
            "ContentDeletionFailed" if failed else "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            remaining and f"Some resources are remaining: {remaining}",
            "SomeResourcesRemain" if remaining else "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            held and f"Some content in the namespace has finalizers remaining: {held}",
            "SomeFinalizersRemain" if held else "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]
    result = list(current or ())
    for kind, problem, reason, fine in verdicts:
        built = conditions.build(kind, "True" if problem else "False", reason, problem or fine, now)
        before = conditions.find(result, kind)
        if before is not None and before.get("message") != built["message"] and before["status"] == built["status"]:
            # The count of what is left goes down: the message follows, the time of the transition stays.
            built["lastTransitionTime"] = before.get("lastTransitionTime", built["lastTransitionTime"])
            result = [*conditions.without(result, kind), built]
        else:
            result = conditions.put(result, built)
    return result


class NamespaceController(Controller):
    """Empties namespaces that are being deleted."""

    name = "namespace-controller"
    resource = NAMESPACES

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = self.caches.of(NAMESPACES)
        self._table = context.config.table
        self._remote = context.config.remote
        self._namespaces.informer.on_add(self.enqueue)
        self._namespaces.informer.on_update(lambda _, new: self.enqueue(new))
        self._namespaces.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        self._pods = self.caches.of(PODS)
        self._pods.informer.on_delete(self._pod_gone)

    def _pod_gone(self, pod: Obj) -> None:
        space = self._namespaces.get(namespace(pod))
        if space is not None and is_terminating(space) and not self._pods.by_index("namespace", key(space)):
            self.enqueue(space)

    async def run(self) -> None:
        """Makes the default namespaces first."""
        for default in DEFAULT_NAMESPACES:
            if self._namespaces.get(default) is None:
                try:
                    await self._namespaces.create(
                        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": default}}
                    )
                except ApiError as error:
                    if not is_already_exists(error):
                        raise
        await super().run()

    async def sync(self, key: str) -> Outcome:
        """One namespace."""
        space = self._namespaces.get(key)
        if space is None or not is_terminating(space) or FINALIZER not in _finalizers(space):
            return DONE
        if (space.get("status") or {}).get("phase") != "Terminating":
            status = {**(space.get("status") or {}), "phase": "Terminating"}
            space = await self._namespaces.update({**space, "status": status}, subresource="status")
        left = await self._empty(key)
        # What is in the namespace there nobody knows, so it stays until that server is back, or its APIService gone.
        failing = self._remote.failing() if self._remote is not None else ()
        if failing or any(found.objects or found.error for found in left):
            await self._report(space, left, failing)
            return RetryAfter(LOOK_AGAIN)
        await self._finalize(space)
        return DONE

    async def _empty(self, space: str) -> list[Left]:
        """Deletes what there is; answers what is still there afterwards."""
        pods = await self._empty_of(PODS, space)
        if pods.objects or pods.error:
            return [pods]
        rows = [row for row in deletable(self._table) if row != PODS]
        found: list[Left] = []

        async def empty(row: Resource) -> None:
            found.append(await self._empty_of(row, space))

        async def empty_elsewhere(row: Resource) -> None:
            assert self._remote is not None
            try:
                found.append(Left(row, tuple(await self._remote.empty(row, space))))
            except ApiError as error:
                found.append(Left(row, error=str(error)))

        remote = self._remote.deletable() if self._remote is not None else ()
        errors = await gather_all([*map(empty, rows), *map(empty_elsewhere, remote)])
        if errors:
            raise errors[0]
        return found

    async def _empty_of(self, resource: Resource, space: str) -> Left:
        try:
            # Most resources have nothing here: one cached list is cheaper than a deletion.
            found = (await self.client.list(resource, space)).items
            if any(not is_terminating(obj) for obj in found):
                await self.client.delete_collection(resource, space, propagation="Background")
                found = (await self.client.list(resource, space)).items
        except ApiError as error:
            # A row of a CustomResourceDefinition may go while we look.
            return Left(resource) if is_not_found(error) else Left(resource, error=str(error))
        return Left(resource, tuple(found))

    async def _report(self, space: Obj, left: Sequence[Left], failing: Sequence[str]) -> None:
        status = space.get("status") or {}
        found = new_conditions(status.get("conditions"), left, self.clock.now(), failing)
        if found != status.get("conditions"):
            changed = {**space, "status": {**status, "conditions": found}}
            await self._namespaces.update(changed, subresource="status")

    async def _finalize(self, space: Obj) -> None:
        rest = [finalizer for finalizer in _finalizers(space) if finalizer != FINALIZER]
        changed = {**space, "spec": {**space["spec"], "finalizers": rest}}
        try:
            await self._namespaces.update(changed, subresource="finalize")
        except ApiError as error:
            if not is_not_found(error):
                raise


def _finalizers(space: Obj) -> list[str]:
    """`spec.finalizers`, which hold a namespace until they are taken away through its subresource."""
    return (space.get("spec") or {}).get("finalizers") or []
