"""ResourceQuota: nothing is admitted that takes a namespace beyond its quotas, however many servers admit.

What a write needs is added to the quotas' ``status.used`` in the very transaction that makes the write, on the
condition that the quota is still the one that was looked at. So a quota's revision moves with everything it counts:
who counted at one revision knows of all that was admitted before it. Reference: k8s.io/apiserver
``pkg/admission/plugin/resourcequota`` (rules and messages; there the status is written before the object).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from weakref import WeakValueDictionary

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster
from orca.admission.first_look import FirstLook
from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PODS, RESOURCEQUOTAS, SERVICES
from orca.api.errors import conflict
from orca.api.objects import Obj, name, namespace
from orca.api.quantity import Quantity
from orca.api.quota.amounts import Total
from orca.api.quota.usage import in_scopes, lacking, usage_of
from orca.api.resources import Resource
from orca.store import Also, Raced

_UPDATED = (PODS, SERVICES, PERSISTENTVOLUMECLAIMS)
_ATTEMPTS = 100
T = TypeVar("T")


class ResourceQuota:
    """As upstream's plugin of this name, except that deletions count at once, without waiting for the controller."""

    def __init__(self, cluster: Cluster, first: FirstLook | None = None) -> None:
        self._cluster = cluster
        self._first = first or FirstLook(cluster)
        # Within one process writers take turns: racing each other, most would only have to try again.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def validate(self, attrs: Attributes) -> None:
        """Refuses a dry run that would not fit; what is written passes :meth:`guard`. Raises ApiError 403."""
        if attrs.dry_run and (self._concerns(attrs) or self._may_have_missed(attrs)):
            await self._cluster.fresh()
            self._reserve(attrs)

    def guard(self, attrs: Attributes, write: Callable[[Sequence[Also]], Awaitable[T]]) -> Awaitable[T]:
        """Write together with the quotas' new status. Raises ApiError 403; 409 when others are always faster."""
        if self._concerns(attrs):
            return self._in_turn(attrs, write)
        return self._after_a_look(attrs, write) if self._may_have_missed(attrs) else write(())

    def _may_have_missed(self, attrs: Attributes) -> bool:
        """Whether there may be a quota that this server has not heard of."""
        if not _may_take(attrs) or not self._first.due(attrs.namespace):
            return False
        return not self._cluster.peek_list(RESOURCEQUOTAS, attrs.namespace)

    async def _after_a_look(self, attrs: Attributes, write: Callable[[Sequence[Also]], Awaitable[T]]) -> T:
        await self._first.take(attrs.namespace)
        return await (self._in_turn(attrs, write) if self._concerns(attrs) else write(()))

    async def _in_turn(self, attrs: Attributes, write: Callable[[Sequence[Also]], Awaitable[T]]) -> T:
        turn = self._turns.get(attrs.namespace)
        if turn is None:
            turn = self._turns[attrs.namespace] = asyncio.Lock()
        async with turn:
            for _ in range(_ATTEMPTS):
                await self._cluster.fresh()
                reserved = self._reserve(attrs)
                try:
                    return await write(reserved)
                except Raced as raced:
                    # Another server admitted something, or a status was written: look at what is there now.
                    if raced.lost.resource is not RESOURCEQUOTAS:
                        raise
        raise conflict(RESOURCEQUOTAS, reserved[0].name)

    def _concerns(self, attrs: Attributes) -> bool:
        """Whether a quota may have something to say, so that it has to be looked at in turn."""
        if not _may_take(attrs):
            return False
        quotas = self._cluster.peek_list(RESOURCEQUOTAS, attrs.namespace)
        if not quotas or attrs.resource is PODS:  # of pods a quota may want more than that there is room
            return bool(quotas)
        counted = usage_of(attrs.resource, attrs.obj).keys() if attrs.obj is not None else ()
        return any(key in ((quota.get("spec") or {}).get("hard") or {}) for quota in quotas for key in counted)

    def _reserve(self, attrs: Attributes) -> list[Also]:
        """The quotas with what the request takes of them. Raises ApiError 403."""
        if attrs.obj is None or not _may_take(attrs):
            return []
        old = attrs.old if attrs.operation == UPDATE else None
        quotas = self._cluster.peek_list(RESOURCEQUOTAS, attrs.namespace)
        if not quotas:
            return []
        whole = usage_of(attrs.resource, attrs.obj)
        grown = _growth(whole, usage_of(attrs.resource, old)) if old is not None else whole
        found = []
        for quota in quotas:
            # What comes into a quota's scopes by a change counts wholly.
            counted = old is not None and in_scopes(attrs.resource, old, quota)
            status = self._fitted(attrs, attrs.obj, quota, grown if counted else whole)
            if status is not None:
                revision = int(quota["metadata"]["resourceVersion"])
                new = {**quota, "status": status}
                found.append(Also(RESOURCEQUOTAS, namespace(quota), name(quota), new, revision))
        return found

    def _fitted(self, attrs: Attributes, obj: Obj, quota: Obj, asked: Total) -> Obj | None:
        """The quota's status once the request is written; None when it does not concern it. Raises ApiError 403."""
        if not in_scopes(attrs.resource, obj, quota):
            return None
        hard: dict[str, str] = (quota.get("spec") or {}).get("hard") or {}
        if attrs.resource is PODS:
            missing = lacking(obj, hard)
            if missing:
                listed = "; ".join(f"{key} for: {','.join(who)}" for key, who in missing.items())
                raise attrs.forbidden(f"failed quota: {name(quota)}: must specify {listed}")
        wanted = {key: amount for key, amount in asked.items() if key in hard and amount.value > 0}
        if not wanted:
            return None
        told = (quota.get("status") or {}).get("used") or {}
        used = {key: Quantity.parse(told[key]) for key in wanted if key in told}
        if len(used) < len(wanted) or _beyond(used, wanted, hard):
            # Not counted yet, or something may have been deleted since.
            used = self._used(attrs.resource, attrs.namespace, quota, set(wanted))
        beyond = _beyond(used, wanted, hard)
        if beyond:
            raise attrs.forbidden(
                f"exceeded quota: {name(quota)}, requested: {_listed(wanted, beyond)}, used: {_listed(used, beyond)}, "
                f"limited: {_listed({key: Quantity.parse(hard[key]) for key in beyond}, beyond)}"
            )
        new = {**told, **{key: str(used[key] + wanted[key]) for key in wanted}}
        return {"hard": dict(hard), "used": {key: new[key] for key in hard if key in new}}

    def _used(self, resource: Resource, namespace: str, quota: Obj, keys: set[str]) -> Total:
        """What exists, as the cache shows it: it shows the quota, so it shows all that was admitted before it."""
        total = {key: Quantity.parse("0") for key in keys}
        for obj in self._cluster.peek_list(resource, namespace):
            if not in_scopes(resource, obj, quota):
                continue
            usage = usage_of(resource, obj)
            for key in keys & usage.keys():
                total[key] = total[key] + usage[key]
        return total


def _may_take(attrs: Attributes) -> bool:
    """Whether it is a request of the kind that quotas count."""
    if attrs.obj is None or not attrs.namespace or attrs.resource.virtual:
        return False
    if attrs.operation == CREATE:
        return not attrs.subresource
    return attrs.operation == UPDATE and attrs.subresource in ("", "resize") and attrs.resource in _UPDATED


def _beyond(used: Total, wanted: Total, hard: dict[str, str]) -> list[str]:
    return [key for key in sorted(wanted) if (used[key] + wanted[key]).value > Quantity.parse(hard[key]).value]


def _growth(new: Total, old: Total) -> Total:
    return {key: amount - old[key] if key in old else amount for key, amount in new.items()}


def _listed(amounts: Total, keys: list[str]) -> str:
    return ",".join(f"{key}={amounts[key]}" for key in keys)
