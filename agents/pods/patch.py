"""The smallest strategic merge patch that turns the status in the API into the one wanted. Pure."""

from __future__ import annotations

from agents.pods.conditions import OWN, RESIZE, SHARED
from orca.api.objects import Obj, meta

_MERGED_LISTS = ("podIPs", "hostIPs")
"""Lists the schema merges by ``ip``; they are replaced as a whole."""


def status_patch(pod: Obj, before: Obj, wanted: Obj) -> Obj | None:
    """None when nothing differs. ``before`` is the status the API is known to have; the uid makes the patch fail for a
    newer pod of the same name."""
    changes: Obj = {}
    for name, value in wanted.items():
        if name == "conditions" or before.get(name) == value:
            continue
        if name in _MERGED_LISTS and before.get(name):
            changes[name] = [*value, {"$patch": "replace"}]
        else:
            changes[name] = value
    for name in ("reason", "message"):
        # Why a pod was failed stays, whoever failed it.
        if name in before and name not in wanted and before.get("phase") != "Failed":
            changes[name] = None
    known = {item.get("type"): _comparable(item) for item in before.get("conditions") or ()}
    conditions = []
    for item in wanted.get("conditions") or ():
        old = known.get(item["type"])
        if item["type"] in (*OWN, *SHARED) and _differs(old, item):
            # Items merge by type: what is not said any more has to be taken away.
            conditions.append({**item, **{name: None for name in old or () if name not in item}})
        elif item["type"] in RESIZE and old != _comparable(item):
            conditions.append({**item, **{name: None for name in old or () if name not in item}})
    told = {item["type"] for item in wanted.get("conditions") or ()}
    conditions += [{"$patch": "delete", "type": kind} for kind in RESIZE if kind in known and kind not in told]
    if conditions:
        changes["conditions"] = conditions
    if not changes:
        return None
    return {"metadata": {"uid": meta(pod).get("uid")}, "status": changes}


def _differs(known: Obj | None, wanted: Obj) -> bool:
    if wanted["type"] == "PodScheduled":
        # The scheduler writes it; a pod that came with its node has nobody else to do it, and what became of the spec
        # since it has a node only this host tells.
        return known is None or known.get("observedGeneration") != wanted.get("observedGeneration")
    return known != _comparable(wanted)


def _comparable(item: Obj) -> Obj:
    return {name: value for name, value in item.items() if value is not None and name != "lastProbeTime"}
