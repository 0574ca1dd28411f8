"""Requests and limits: quality of service, and the kernel's numbers. Pure."""

from __future__ import annotations

from agents.resources.limits import PERIOD, SHARES_PER_CPU, quota_of, shares_of
from agents.resources.quality import counted as amounts
from agents.resources.quality import oom_score, qos_class
from agents.runtime.model import Resources
from orca.api.objects import Obj

__all__ = [
    "SHARES_PER_CPU",
    "amounts",
    "limits_of",
    "oom_score",
    "qos_class",
]


def limits_of(container: Obj, whole: Obj | None = None, *, period: int = PERIOD) -> Resources:
    """Shares from the request, quota and memory from the limits. Where the container has no limit, that of the pod as a
    ``whole`` (its ``resources``) holds. ``period`` is that of quotas in microseconds, 0 for no quotas."""
    request = amounts(container, "requests")
    limit = {**amounts({"resources": whole or {}}, "limits"), **amounts(container, "limits")}
    cpu: int = request["cpu"] if "cpu" in request else limit.get("cpu", 0)
    quota = quota_of(limit.get("cpu", 0), period) if period else 0
    return Resources(
        cpu_shares=shares_of(cpu),
        cpu_quota=quota,
        cpu_period=period if quota else 0,
        memory=limit.get("memory", 0),
    )
