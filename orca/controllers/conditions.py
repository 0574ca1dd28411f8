"""Lists of conditions, as every status has them. Pure: functions answer new lists."""

from collections.abc import Sequence
from datetime import datetime

from orca.api.objects import Obj
from orca.api.times import format_time


def find(conditions: Sequence[Obj] | None, kind: str) -> Obj | None:
    """The condition of that type."""
    for condition in conditions or ():
        if condition.get("type") == kind:
            return condition
    return None


def status_of(obj: Obj, kind: str) -> str:
    """`True`, `False` or `Unknown` of a condition in the object's status; "" when it has none."""
    condition = find(obj.get("status", {}).get("conditions"), kind)
    return condition["status"] if condition else ""


def build(
    kind: str, status: str, reason: str, message: str, now: datetime, *, updated: bool = False, of: Obj | None = None
) -> Obj:
    """A condition that changed `now`; with `updated` it has a lastUpdateTime as those of Deployments, and with `of` it
    tells of which generation of that object it is, as those of pods."""
    stamp = format_time(now)
    condition: Obj = {"type": kind, "status": status}
    if updated:
        condition["lastUpdateTime"] = stamp
    condition["lastTransitionTime"] = stamp
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    if of is not None and of["metadata"].get("generation"):
        condition["observedGeneration"] = of["metadata"]["generation"]
    return condition


def put(conditions: Sequence[Obj] | None, condition: Obj) -> list[Obj]:
    """With `condition` in place of the one of its type.

    As upstream: nothing changes while status and reason stay the same, and lastTransitionTime only with the status.
    """
    kept = list(conditions or ())
    current = find(kept, condition["type"])
    if current is None:
        return [*kept, condition]
    if current["status"] == condition["status"] and current.get("reason") == condition.get("reason"):
        return kept
    if current["status"] == condition["status"] and current.get("lastTransitionTime"):
        condition = {**condition, "lastTransitionTime": current["lastTransitionTime"]}
    return [*without(kept, condition["type"]), condition]


def put_standard(conditions: Sequence[Obj] | None, condition: Obj) -> list[Obj]:
    """With `condition` in place of the one of its type, as those of `metav1.Condition` are set: reason, message and
    observedGeneration are always the newest, lastTransitionTime changes with the status alone, and the order stays."""
    kept = list(conditions or ())
    current = find(kept, condition["type"])
    if current is None:
        return [*kept, condition]
    if current["status"] == condition["status"] and current.get("lastTransitionTime"):
        condition = {**condition, "lastTransitionTime": current["lastTransitionTime"]}
    return [condition if one is current else one for one in kept]


def without(conditions: Sequence[Obj] | None, kind: str) -> list[Obj]:
    """All conditions but that type."""
    return [condition for condition in conditions or () if condition.get("type") != kind]
