"""Requests and limits: quality of service, and the kernel's numbers. Pure."""

from __future__ import annotations

from agents.pods.containers import every_container, main_containers, spec_of
from agents.runtime.model import Resources
from orca.api.objects import Obj
from orca.api.quantity import parse_cpu_milli, parse_int

CPU_PERIOD = 100_000
MINIMUM_QUOTA = 1_000
SHARES_PER_CPU = 1024
MINIMUM_SHARES = 2
MAXIMUM_SHARES = 262_144
GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000


def amounts(container: Obj, kind: str) -> Obj:
    """``resources.requests`` or ``resources.limits`` without zero amounts of cpu and memory."""
    found = (container.get("resources") or {}).get(kind) or {}
    kept: Obj = {}
    for name, amount in found.items():
        if name in ("cpu", "memory"):
            value = parse_cpu_milli(amount) if name == "cpu" else parse_int(amount)
            if value:
                kept[name] = value
    return kept


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort, by cpu and memory of containers (pod-level resources first)."""
    whole = spec_of(pod).get("resources")
    subjects = [{"resources": whole}] if whole else every_container(pod)
    requests = [amounts(subject, "requests") for subject in subjects]
    limits = [amounts(subject, "limits") for subject in subjects]
    if not any(requests) and not any(limits):
        return "BestEffort"
    for request, limit in zip(requests, limits, strict=True):
        if set(limit) != {"cpu", "memory"} or any(
            request.get(name, amount) != amount for name, amount in limit.items()
        ):
            return "Burstable"
    return "Guaranteed"


def limits_of(container: Obj) -> Resources:
    """Shares from the request, quota and memory from the limits."""
    request, limit = amounts(container, "requests"), amounts(container, "limits")
    cpu: int = request["cpu"] if "cpu" in request else limit.get("cpu", 0)
    shares = min(max(cpu * SHARES_PER_CPU // 1000, MINIMUM_SHARES), MAXIMUM_SHARES)
    most: int = limit.get("cpu", 0)
    quota = max(most * CPU_PERIOD // 1000, MINIMUM_QUOTA) if most else 0
    return Resources(
        cpu_shares=shares,
        cpu_quota=quota,
        cpu_period=CPU_PERIOD if quota else 0,
        memory=limit.get("memory", 0),
    )


def oom_score(pod: Obj, container: Obj, node_memory: int) -> int:
    """As the kubelet ranks victims; ``node_memory`` in bytes."""
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED_OOM_SCORE
    if quality == "BestEffort":
        return BEST_EFFORT_OOM_SCORE
    request = amounts(container, "requests").get("memory", 0)
    score = 1000 - (1000 * request) // node_memory if node_memory else 999
    # Between the two others, whatever was asked for.
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)


def container_memory_limit(container: Obj) -> int:
    """Bytes, 0 when not limited."""
    memory: int = amounts(container, "limits").get("memory", 0)
    return memory


def pod_memory_limit(pod: Obj) -> int:
    """Bytes all main containers may use together, 0 when one of them is not limited."""
    each = [container_memory_limit(container) for container in main_containers(pod)]
    return sum(each) if all(each) else 0
