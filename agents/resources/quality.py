"""A pod's quality of service, and how likely the kernel makes its containers victims when memory runs out. Pure.

Reference: k8s.io/kubernetes ``pkg/apis/core/v1/helper/qos`` and ``pkg/kubelet/qos``.
"""

from __future__ import annotations

from agents.resources.amounts import amounts_of, container_total, containers
from orca.api import qos
from orca.api.objects import Obj, meta
from orca.api.quantity import parse_cpu_milli, parse_int

GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000
SYSTEM_CRITICAL = 2_000_000_000
NODE_CRITICAL = SYSTEM_CRITICAL + 1000
_SOURCE = "kubernetes.io/config.source"
_MIRROR = "kubernetes.io/config.mirror"


def counted(holder: Obj, kind: str) -> Obj:
    """``resources.requests`` or ``resources.limits`` as numbers, without zero amounts of cpu and memory, and without
    anything else."""
    found = (holder.get("resources") or {}).get(kind) or {}
    kept: Obj = {}
    for name, amount in found.items():
        if name in ("cpu", "memory"):
            value = parse_cpu_milli(amount) if name == "cpu" else parse_int(amount)
            if value:
                kept[name] = value
    return kept


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort."""
    return qos.qos_class(pod.get("spec") or {})


def is_static(pod: Obj) -> bool:
    """From a file or an URL on this host, or the picture of such a pod in the API."""
    notes = meta(pod).get("annotations") or {}
    return _MIRROR in notes or notes.get(_SOURCE, "api") != "api"


def is_critical(pod: Obj) -> bool:
    """Static pods, and those of the two system priority classes."""
    return is_static(pod) or priority(pod) >= SYSTEM_CRITICAL


def is_node_critical(pod: Obj) -> bool:
    """The pods whose processes the kernel is to spare whatever they ask for."""
    return is_static(pod) or priority(pod) >= NODE_CRITICAL


def priority(pod: Obj) -> int:
    """``spec.priority``, 0 when missing."""
    return int((pod.get("spec") or {}).get("priority") or 0)


def oom_score(pod: Obj, container: Obj, node_memory: int) -> int:
    """``oom_score_adj`` of a container's processes; ``node_memory`` is the host's capacity in bytes.

    Burstable ones are the likelier victims the less they asked for. Memory that the pod asked for and no container did
    is shared out evenly, and a sidecar is never likelier than the containers it serves.
    """
    if is_node_critical(pod):
        return GUARANTEED_OOM_SCORE
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED_OOM_SCORE
    if quality == "BestEffort":
        return BEST_EFFORT_OOM_SCORE
    if not node_memory:
        return BEST_EFFORT_OOM_SCORE - 1
    share = _unclaimed_share(pod)
    score = _score(_memory_request(container) + share, node_memory)
    spec = pod.get("spec") or {}
    mains, sidecars = spec.get("containers") or (), spec.get("initContainers") or ()
    named = container.get("name")
    if mains and any(one.get("name") == named and one.get("restartPolicy") == "Always" for one in sidecars):
        score = min(score, _score(min(_memory_request(one) for one in mains) + share, node_memory))
    # Between the two others, whatever was asked for.
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)


def _score(request: int, node_memory: int) -> int:
    return 1000 - (1000 * request) // node_memory


def _unclaimed_share(pod: Obj) -> int:
    """Bytes for each container of what the pod as a whole asks for and no container of it does."""
    asked: int = amounts_of(((pod.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("memory", 0)
    if not asked:
        return 0
    return (asked - container_total(pod, "requests").get("memory", 0)) // sum(1 for _ in containers(pod))


def _memory_request(container: Obj) -> int:
    found: int = counted(container, "requests").get("memory", 0)
    return found
