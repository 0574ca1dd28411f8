"""ResourceQuota: nothing is admitted that takes a namespace beyond its quotas.

Usage is counted from what exists, plus what was admitted a moment ago and is not visible yet: so that many requests at
once cannot pass together where only one fits. With several servers, each counts its own moment.
"""

from collections.abc import Iterator

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster
from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PODS, RESOURCEQUOTAS, SERVICES
from orca.api.objects import Obj, name, uid
from orca.api.quantity import Quantity
from orca.api.quota.amounts import Total
from orca.api.quota.usage import in_scopes, lacking, scoped, usage_of
from orca.api.resources import Resource
from orca.client.clock import Clock

# How long an admitted object may take to appear before its place is free again.
HOLD_SECONDS = 10.0
_UPDATED = (PODS, SERVICES, PERSISTENTVOLUMECLAIMS)


class ResourceQuota:
    """As upstream's plugin of this name; a quota's status is written by a controller alone, after the fact."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._held: dict[tuple[Resource, str], dict[str, tuple[Obj, float]]] = {}

    async def validate(self, attrs: Attributes) -> None:
        """Raises ApiError 403."""
        if attrs.obj is None or not attrs.namespace or attrs.resource.virtual:
            return
        if attrs.operation == CREATE and not attrs.subresource:
            old = None
        elif attrs.operation == UPDATE and attrs.subresource in ("", "resize") and attrs.resource in _UPDATED:
            old = attrs.old
        else:
            return
        quotas = self._cluster.peek_list(RESOURCEQUOTAS, attrs.namespace)
        if not quotas:
            return
        asked = usage_of(attrs.resource, attrs.obj)
        if old is not None:
            asked = _growth(asked, usage_of(attrs.resource, old))
        for quota in quotas:
            self._check(attrs, attrs.obj, quota, asked)
        if old is None and not attrs.dry_run:
            held = self._held.setdefault((attrs.resource, attrs.namespace), {})
            held[uid(attrs.obj)] = (attrs.obj, self._clock.monotonic() + HOLD_SECONDS)

    def _check(self, attrs: Attributes, obj: Obj, quota: Obj, asked: Total) -> None:
        if scoped(quota) and (attrs.resource is not PODS or not in_scopes(obj, quota)):
            return
        hard: dict[str, str] = (quota.get("spec") or {}).get("hard") or {}
        if attrs.resource is PODS:
            missing = lacking(obj, hard)
            if missing:
                listed = "; ".join(f"{key} for: {','.join(who)}" for key, who in missing.items())
                raise attrs.forbidden(f"failed quota: {name(quota)}: must specify {listed}")
        wanted = {key: amount for key, amount in asked.items() if key in hard and amount.value > 0}
        if not wanted:
            return
        used = self._used(attrs.resource, attrs.namespace, quota, set(wanted))
        beyond = [key for key in sorted(wanted) if (used[key] + wanted[key]).value > Quantity.parse(hard[key]).value]
        if beyond:
            raise attrs.forbidden(
                f"exceeded quota: {name(quota)}, requested: {_listed(wanted, beyond)}, used: {_listed(used, beyond)}, "
                f"limited: {_listed({key: Quantity.parse(hard[key]) for key in beyond}, beyond)}"
            )

    def _used(self, resource: Resource, namespace: str, quota: Obj, keys: set[str]) -> Total:
        total = {key: Quantity.parse("0") for key in keys}
        only_some = scoped(quota)
        for obj in self._counted(resource, namespace):
            if only_some and not in_scopes(obj, quota):
                continue
            usage = usage_of(resource, obj)
            for key in keys & usage.keys():
                total[key] = total[key] + usage[key]
        return total

    def _counted(self, resource: Resource, namespace: str) -> Iterator[Obj]:
        seen = set()
        for obj in self._cluster.peek_list(resource, namespace):
            seen.add(uid(obj))
            yield obj
        held = self._held.get((resource, namespace))
        if not held:
            return
        now = self._clock.monotonic()
        for who, (obj, until) in list(held.items()):
            if who in seen or now >= until:
                del held[who]
            else:
                yield obj


def _growth(new: Total, old: Total) -> Total:
    return {key: amount - old[key] if key in old else amount for key, amount in new.items()}


def _listed(amounts: Total, keys: list[str]) -> str:
    return ",".join(f"{key}={amounts[key]}" for key in keys)
