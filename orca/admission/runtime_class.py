"""RuntimeClass: a pod that names a class gets its overhead and the nodes that have it; an unknown class is refused."""

from orca.admission.chain import CREATE, Attributes, Cluster, find
from orca.api.builtin import PODS, RUNTIMECLASSES
from orca.api.objects import Obj


class RuntimeClass:
    """As upstream's plugin of this name."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def admit(self, attrs: Attributes) -> None:
        """Raises ApiError 403 for a class that does not exist or contradicts the pod."""
        if not attrs.of(PODS, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.setdefault("spec", {})
        if not spec.get("runtimeClassName"):
            return
        found = await find(self._cluster, RUNTIMECLASSES, "", spec["runtimeClassName"])
        if found is None:
            raise attrs.forbidden(f'pod rejected: RuntimeClass "{spec["runtimeClassName"]}" not found')
        scheduling = found.get("scheduling") or {}
        _select(attrs, spec, scheduling.get("nodeSelector") or {})
        for toleration in scheduling.get("tolerations") or ():
            if toleration not in spec.setdefault("tolerations", []):
                spec["tolerations"].append(dict(toleration))
        fixed = (found.get("overhead") or {}).get("podFixed")
        if fixed:
            if spec.get("overhead") and spec["overhead"] != fixed:
                raise attrs.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = dict(fixed)

    async def validate(self, attrs: Attributes) -> None:
        """Nobody sets an overhead that no class defines. Raises ApiError 403."""
        if not attrs.of(PODS, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.get("spec") or {}
        if spec.get("overhead") and not spec.get("runtimeClassName"):
            raise attrs.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")


def _select(attrs: Attributes, spec: Obj, wanted: Obj) -> None:
    if not wanted:
        return
    own = spec.setdefault("nodeSelector", {})
    for label, value in wanted.items():
        if own.get(label, value) != value:
            raise attrs.forbidden(
                f"pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{label}] = {value}; "
                f"pod.spec.nodeSelector[{label}] = {own[label]}"
            )
        own[label] = value
