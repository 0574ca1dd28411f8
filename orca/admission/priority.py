"""Priority: the name of a pod's PriorityClass becomes a number, so that the scheduler need not look it up."""

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster, find
from orca.api.builtin import PODS, PRIORITYCLASSES
from orca.api.objects import Obj, name

_PREEMPT = "PreemptLowerPriority"


class Priority:
    """As upstream's plugin of this name."""

    kinds = frozenset({PODS, PRIORITYCLASSES})
    validates = frozenset({PRIORITYCLASSES})
    subresources = frozenset({""})

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._default_at = -1  # the change of classes that ``_default_class`` is of
        self._default_class: Obj | None = None

    async def admit(self, attrs: Attributes) -> None:
        """Raises ApiError 403 for an unknown class or a number of the pod's own."""
        if attrs.obj is None or attrs.subresource:
            return
        if attrs.resource is PODS:
            if attrs.operation == CREATE:
                await self._resolve(attrs, attrs.obj)
            elif attrs.operation == UPDATE and attrs.old is not None:
                _keep(attrs.obj, attrs.old)

    async def validate(self, attrs: Attributes) -> None:
        """At most one class is the default. Raises ApiError 403."""
        if not attrs.of(PRIORITYCLASSES, CREATE, UPDATE) or attrs.obj is None or not attrs.obj.get("globalDefault"):
            return
        for other in self._cluster.peek_list(PRIORITYCLASSES):
            if other.get("globalDefault") and name(other) != name(attrs.obj):
                text = f"PriorityClass {name(other)} is already marked as default. Only one default can exist"
                raise attrs.forbidden(text)

    async def _resolve(self, attrs: Attributes, pod: Obj) -> None:
        spec = pod.setdefault("spec", {})
        wanted = spec.get("priorityClassName")
        if wanted:
            found = await find(self._cluster, PRIORITYCLASSES, "", wanted)
            if found is None:
                raise attrs.forbidden(f"no PriorityClass with name {wanted} was found")
        else:
            found = self._default()
            if found is not None:
                spec["priorityClassName"] = name(found)
        value = found.get("value", 0) if found else 0
        policy = (found.get("preemptionPolicy") if found else None) or _PREEMPT
        if spec.get("priority") is not None and spec["priority"] != value:
            raise attrs.forbidden(
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name"
            )
        if spec.get("preemptionPolicy") is not None and spec["preemptionPolicy"] != policy:
            raise attrs.forbidden(
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name"
            )
        spec["priority"], spec["preemptionPolicy"] = value, policy

    def _default(self) -> Obj | None:
        change = self._cluster.last_change(PRIORITYCLASSES)
        if change != self._default_at:
            defaults = [one for one in self._cluster.peek_list(PRIORITYCLASSES) if one.get("globalDefault")]
            self._default_class = min(defaults, key=lambda one: one.get("value", 0), default=None)
            self._default_at = change
        return self._default_class


def _keep(pod: Obj, old: Obj) -> None:
    """A client that sends a manifest again leaves out what we computed."""
    before = old.get("spec") or {}
    for field in ("priority", "preemptionPolicy"):
        if (pod.get("spec") or {}).get(field) is None and before.get(field) is not None:
            pod["spec"][field] = before[field]
