"""The node of a pod, as far as it explains something. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from orca.api.objects import Obj, name
from orca.api.times import format_time, parse_time
from orca.explain.why.findings import Finding, World
from orca.scheduler.filters.taint_toleration import tolerates


def node_of(pod: Obj, world: World) -> Obj | None:
    """None when it has none, or nothing is known of it."""
    where = pod["spec"].get("nodeName")
    return next((one for one in world.nodes if name(one) == where), None)


def is_ready(node: Obj) -> bool:
    """Its Ready condition is True."""
    ready = _ready(node)
    return ready is not None and ready.get("status") == "True"


def state_of(node: Obj) -> str:
    """What its Ready condition says."""
    ready = _ready(node)
    if ready is None:
        return "it has said nothing yet"
    return f"{ready.get('reason') or ready.get('status')}: {ready.get('message') or ''}".rstrip(": ")


def _ready(node: Obj) -> Obj | None:
    listed = (node.get("status") or {}).get("conditions") or ()
    return next((one for one in listed if one.get("type") == "Ready"), None)


def lost(pod: Obj, node: Obj, now: datetime) -> Finding:
    """A pod that runs, as far as anybody knows, on a node that does not answer, and when it is given up."""
    says = f"its node {name(node)} is not ready ({state_of(node)})"
    moves = ""
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint.get("effect") != "NoExecute" or not taint.get("timeAdded"):
            continue
        kept = [one for one in pod["spec"].get("tolerations") or () if tolerates(one, taint)]
        seconds = [one["tolerationSeconds"] for one in kept if one.get("tolerationSeconds") is not None]
        if kept and not seconds:
            moves = "; the pod tolerates that for ever"
        elif seconds:
            until = parse_time(taint["timeAdded"]) + timedelta(seconds=min(seconds))
            left = max(0, int((until - now).total_seconds()))
            moves = f"; the pod tolerates that until {format_time(until)[11:]} (another {left}s)"
    return Finding(f"{says}{moves}", f"bring the host, or its agent, back: kubectl describe node {name(node)}")
