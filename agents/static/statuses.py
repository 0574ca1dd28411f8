"""The status of a static pod, kept here since no API keeps it: what a worker's patch makes of it. Pure."""

from __future__ import annotations

from orca.api.objects import Obj, meta

CARRIED = ("startTime", "conditions", "containerStatuses", "initContainerStatuses", "podIP", "podIPs", "hostIP")


def patched(status: Obj, patch: Obj) -> Obj:
    """``status`` after the changes of an ``agents.pods.patch.status_patch``: values are replaced, None takes a field
    away, conditions merge by type."""
    new = dict(status)
    for field, value in patch.items():
        if field == "conditions":
            new["conditions"] = _conditions(status.get("conditions") or [], value)
        elif value is None:
            new.pop(field, None)
        elif isinstance(value, list):
            new[field] = [item for item in value if not (isinstance(item, dict) and "$patch" in item)]
        else:
            new[field] = value
    return new


def _conditions(before: list[Obj], changes: list[Obj]) -> list[Obj]:
    found = {item["type"]: item for item in before}
    for item in changes:
        if item.get("$patch") == "delete":
            found.pop(item["type"], None)
            continue
        merged = {**found.get(item["type"], {}), **item}
        found[item["type"]] = {field: value for field, value in merged.items() if value is not None}
    return list(found.values())


def carried_over(pod: Obj, mirror: Obj | None) -> Obj:
    """The static pod with what its mirror tells of it, for an agent that was restarted. A pod that had ended is not
    carried over: static pods begin anew with the agent, and containers tell what became of them."""
    told = (mirror or {}).get("status") or {}
    if told.get("phase") not in ("Pending", "Running") or meta(pod).get("deletionTimestamp"):
        return pod
    kept = {field: told[field] for field in CARRIED if told.get(field)}
    return {**pod, "status": {**(pod.get("status") or {}), "phase": told["phase"], **kept}}
