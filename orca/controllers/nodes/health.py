"""When is a node given up: heartbeats are what changes, measured with this process's own monotonic clock. Pure.

A node's clock may be wrong, so the times it writes are only compared with each other: a heartbeat happened when its
lease or status was seen to change. After a restart every node therefore has the whole grace period again. Neither is
this host's wall clock compared with anything: no node is lost because somebody set it, nor because this process stood
still for a while (``orca.controllers.awake``).
"""

from dataclasses import dataclass
from datetime import datetime

from orca.api.objects import Obj, meta
from orca.api.times import format_time
from orca.controllers import conditions

PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
UNKNOWN = ("NodeStatusUnknown", "Kubelet stopped posting node status.")
NEVER = ("NodeStatusNeverUpdated", "Kubelet never posted node status.")


@dataclass(slots=True)
class Heartbeat:
    """The last sign of life: what was written, and the second of ``AwakeTime`` in which that was seen."""

    mark: tuple[str, str] = ("", "")
    seen: float | None = None

    def observe(self, mark: tuple[str, str], now: float) -> float:
        """Takes in (lease renewTime, Ready heartbeat time); ``now`` is in seconds of ``AwakeTime``. Answers those since
        the last sign of life."""
        if self.seen is None or (mark != self.mark and any(mark)):
            self.mark, self.seen = mark, now
        return now - self.seen


def mark_of(node: Obj, lease: Obj | None) -> tuple[str, str]:
    """What changes with every heartbeat."""
    ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready")
    renewed = ((lease or {}).get("spec") or {}).get("renewTime") or ""
    return renewed, (ready or {}).get("lastHeartbeatTime") or ""


def time_left(node: Obj, silent: float, grace: float, startup_grace: float) -> float:
    """Seconds (to the millisecond) until the node counts as lost unless it shows a sign of life, 0 or less if it does.

    ``silent`` are the seconds since its last sign of life was seen. A node that never reported has longer.
    """
    return round((grace if conditions.status_of(node, "Ready") else startup_grace) - silent, 3)


def lost_conditions(node: Obj, now: datetime) -> list[Obj] | None:
    """The conditions of a node that stopped reporting; None when they say so already."""
    found: list[Obj] = list((node.get("status") or {}).get("conditions") or ())
    stamp = format_time(now)
    changed = False
    for kind in ("Ready", *PRESSURES):
        current = conditions.find(found, kind)
        if current is not None and current["status"] == "Unknown":
            continue
        changed = True
        reason, message = UNKNOWN if current is not None else NEVER
        heartbeat = (current or {}).get("lastHeartbeatTime") or meta(node).get("creationTimestamp") or stamp
        lost = {
            "type": kind,
            "status": "Unknown",
            "lastHeartbeatTime": heartbeat,
            "lastTransitionTime": stamp,
            "reason": reason,
            "message": message,
        }
        found = [lost if one.get("type") == kind else one for one in found] if current else [*found, lost]
    return found if changed else None
