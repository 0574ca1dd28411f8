"""Taints that follow from a node's conditions. Pure; how fast nodes may be given them says ``zones``."""

from datetime import datetime

from orca.api.objects import Obj
from orca.api.times import format_time
from orca.controllers import conditions

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_OF_CONDITION = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_NO_SCHEDULE = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_OF_CONDITION.values()})
_NO_EXECUTE = frozenset({NOT_READY, UNREACHABLE})


def spec_of(node: Obj) -> Obj:
    """`spec`, which a node that was just registered may lack."""
    return node.get("spec") or {}


def is_ours(taint: Obj) -> bool:
    """It is put and taken away by conditions; others belong to people."""
    effect, key = taint.get("effect"), taint.get("key")
    return (effect == "NoSchedule" and key in _NO_SCHEDULE) or (effect == "NoExecute" and key in _NO_EXECUTE)


def required(node: Obj) -> set[tuple[str, str]]:
    """(key, effect) of every taint the node's conditions ask for."""
    found: set[tuple[str, str]] = set()
    ready = conditions.status_of(node, "Ready")
    if ready == "False":
        found |= {(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")}
    elif ready == "Unknown":
        found |= {(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")}
    elif not ready:
        # Registered, but has not said yet that it is ready.
        found.add((NOT_READY, "NoSchedule"))
    for kind, key in _OF_CONDITION.items():
        if conditions.status_of(node, kind) == "True":
            found.add((key, "NoSchedule"))
    if spec_of(node).get("unschedulable"):
        found.add((UNSCHEDULABLE, "NoSchedule"))
    return found


def adjusted(node: Obj, now: datetime, *, may_evict: bool, blind: bool = False) -> list[Obj] | None:
    """The node's taints as they should be; None when they are. Without `may_evict` no NoExecute taint is added to a
    node that has none of ours yet; taints that are no longer called for go in any case, and `blind` calls for no
    NoExecute taint at all."""
    current: list[Obj] = list(spec_of(node).get("taints") or ())
    wanted = required(node)
    evicting = any(is_ours(taint) and taint["effect"] == "NoExecute" for taint in current)
    if blind or (not may_evict and not evicting):
        wanted = {(key, effect) for key, effect in wanted if effect != "NoExecute"}
    present = {(taint["key"], taint["effect"]) for taint in current}
    kept = [taint for taint in current if not is_ours(taint) or (taint["key"], taint["effect"]) in wanted]
    added = [{"key": key, "effect": effect, "timeAdded": format_time(now)} for key, effect in sorted(wanted - present)]
    return None if not added and len(kept) == len(current) else kept + added


def awaits_eviction(node: Obj) -> bool:
    """Its conditions call for a NoExecute taint and it has none of ours."""
    if not any(effect == "NoExecute" for _, effect in required(node)):
        return False
    return not any(is_ours(t) and t["effect"] == "NoExecute" for t in spec_of(node).get("taints") or ())
