"""What nodes and pods use. Reference: sigs.k8s.io/metrics-server ``pkg/api/table.go``."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing.columns import NAME, Cells, Obj, name, printer, text
from orca.api.quantity import Quantity

_USED = (
    text("cpu", "What was used of cpu."),
    text("memory", "What was used of memory."),
    text("Window", "Over how long it was measured."),
)


def _sum(usages: list[Obj], resource: str) -> str:
    values = [Quantity.parse(usage[resource]) for usage in usages if resource in usage]
    total = sum(values[1:], values[0]) if values else Quantity.parse("0")
    return str(total)


@printer("metrics.k8s.io", "NodeMetrics", NAME, *_USED)
def node_metrics(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get nodes.metrics.k8s.io``."""
    usage = obj.get("usage") or {}
    return [name(obj), _sum([usage], "cpu"), _sum([usage], "memory"), obj.get("window") or ""]


@printer("metrics.k8s.io", "PodMetrics", NAME, *_USED)
def pod_metrics(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get pods.metrics.k8s.io``."""
    usages = [one.get("usage") or {} for one in obj.get("containers") or ()]
    return [name(obj), _sum(usages, "cpu"), _sum(usages, "memory"), obj.get("window") or ""]
