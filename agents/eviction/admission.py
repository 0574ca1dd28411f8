"""Whether a pod may come while the node is under pressure. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agents.eviction import messages
from agents.eviction.ranking import is_critical
from agents.pods.memory import Doom
from agents.pods.refusal import refused
from agents.pods.resources import qos_class
from orca.api.objects import Obj

MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


def objection(pod: Obj, conditions: Sequence[str]) -> Doom | None:
    """Under memory pressure alone only BestEffort pods that do not tolerate it are kept out; otherwise all that are not
    critical."""
    if not conditions or is_critical(pod):
        return None
    if tuple(conditions) == ("MemoryPressure",) and (qos_class(pod) != "BestEffort" or _tolerates_pressure(pod)):
        return None
    return refused(messages.REASON, messages.node_has(conditions))


def _tolerates_pressure(pod: Obj) -> bool:
    for toleration in (pod.get("spec") or {}).get("tolerations") or ():
        if toleration.get("effect") not in (None, "", "NoSchedule"):
            continue
        if toleration.get("key") not in (None, "", MEMORY_TAINT):
            continue
        if toleration.get("operator") == "Exists":
            return True
        if toleration.get("key") == MEMORY_TAINT and not toleration.get("value"):
            return True
    return False
