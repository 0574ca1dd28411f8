"""RuntimeClass: a pod names one that exists, and carries the overhead it declares.

Reference: k8s.io/kubernetes ``plugin/pkg/admission/runtimeclass``.
"""

from orca.admission.chain import CREATE, Attributes, Cluster, find
from orca.api.builtin import PODS, RUNTIMECLASSES
from orca.api.objects import Obj
from orca.api.quantity import parse_cpu_milli, parse_int


class RuntimeClass:
    """As upstream's plugin of this name."""

    kinds = frozenset({PODS})
    subresources = frozenset({""})

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def admit(self, attrs: Attributes) -> None:
        """Sets ``spec.overhead`` and scheduling constraints from the class. Raises ApiError 403."""
        if not attrs.of(PODS, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.get("spec") or {}
        found = await self._class(attrs, spec)
        if found is None:
            return
        fixed = (found.get("overhead") or {}).get("podFixed")
        if fixed:
            if spec.get("overhead") and not _same(spec["overhead"], fixed):
                raise attrs.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = dict(fixed)
        scheduling = found.get("scheduling") or {}
        selector = scheduling.get("nodeSelector") or {}
        own = spec.get("nodeSelector") or {}
        for key, value in selector.items():
            if own.get(key, value) != value:
                raise attrs.forbidden(
                    f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                    f"pod.spec.nodeSelector[{key}] = {own[key]}"
                )
        if selector:
            spec["nodeSelector"] = {**own, **selector}
        tolerations = list(spec.get("tolerations") or ())
        added = [one for one in scheduling.get("tolerations") or () if one not in tolerations]
        if added:
            spec["tolerations"] = [*tolerations, *added]

    async def validate(self, attrs: Attributes) -> None:
        """Overhead is the class's to declare, whoever changed it meanwhile. Raises ApiError 403."""
        if not attrs.of(PODS, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.get("spec") or {}
        if not spec.get("overhead") and not spec.get("runtimeClassName"):
            return
        found = await self._class(attrs, spec)
        fixed = ((found or {}).get("overhead") or {}).get("podFixed")
        if fixed and not _same(spec.get("overhead") or {}, fixed):
            raise attrs.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        if spec.get("overhead") and not fixed:
            raise attrs.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")

    async def _class(self, attrs: Attributes, spec: Obj) -> Obj | None:
        wanted = spec.get("runtimeClassName")
        if not wanted:
            return None
        found = await find(self._cluster, RUNTIMECLASSES, "", wanted)
        if found is None:
            raise attrs.forbidden(f'pod rejected: RuntimeClass "{wanted}" not found')
        return found


def _same(one: Obj, other: Obj) -> bool:
    if set(one) != set(other):
        return False
    return all(
        (parse_cpu_milli(one[key]) == parse_cpu_milli(other[key]))
        if key == "cpu"
        else (parse_int(one[key]) == parse_int(other[key]))
        for key in one
    )
