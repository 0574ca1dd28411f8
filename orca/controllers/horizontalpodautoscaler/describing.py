"""How metrics are called in conditions, events and the status, in upstream's words. Pure."""

from __future__ import annotations

from decimal import Decimal

from orca.api.objects import Obj
from orca.api.quantity import Quantity
from orca.controllers.horizontalpodautoscaler.replicas import Proposal
from orca.controllers.selectortext import selector_text

FIELD_OF = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
"""Where an entry of ``spec.metrics`` of that type has its details."""


def status_of(metric: Obj, proposal: Proposal) -> Obj:
    """The entry of ``status.currentMetrics``."""
    kind = metric["type"]
    details = metric[FIELD_OF[kind]]
    current: Obj = {}
    if proposal.utilization is not None:
        current["averageUtilization"] = proposal.utilization
    by_value = kind in ("Object", "External") and details["target"].get("averageValue") is None
    current["value" if by_value else "averageValue"] = _quantity(proposal.value)
    kept = {part: details[part] for part in ("name", "container", "metric", "describedObject") if part in details}
    return {"type": kind, FIELD_OF[kind]: {**kept, "current": current}}


def name_of(metric: Obj) -> str:
    """How messages call a metric."""
    kind = metric["type"]
    details: Obj = metric[FIELD_OF[kind]]
    if kind in ("Resource", "ContainerResource"):
        container = "container " if kind == "ContainerResource" else ""
        if details["target"].get("averageValue") is not None:
            return f"{details['name']} {container}resource"
        return f"{details['name']} {container}resource utilization (percentage of request)"
    name = details["metric"]["name"]
    if kind == "Pods":
        return f"pods metric {name}"
    if kind == "Object":
        return f"{details['describedObject']['kind']} metric {name}"
    return f"external metric {name}({selector_text(details['metric'].get('selector'))})"


def prefix(metric: Obj) -> str:
    """What upstream puts before an error of a metric in its own event and in the condition."""
    kind = metric["type"]
    if kind not in ("Resource", "ContainerResource"):
        return ""
    details: Obj = metric[FIELD_OF[kind]]
    what = "usage" if details["target"].get("averageValue") is not None else "utilization"
    return f"failed to get {details['name']} {what}: "


def long_prefix(metric: Obj) -> str:
    """What it puts before all that in the event about all metrics together."""
    kind = metric["type"]
    details: Obj = metric[FIELD_OF[kind]]
    match kind:
        case "Resource":
            return f"failed to get {details['name']} resource metric value: "
        case "ContainerResource":
            return f"failed to get {details['name']} container resource metric value: "
    text = f"failed to get {kind.lower()} metric value: "
    per_pod = details["target"].get("averageValue") is not None
    if kind == "External" or (kind == "Object" and per_pod):
        text += f"failed to get {details['metric']['name']} {kind.lower()} metric: "
    return text


def _quantity(thousandths: int) -> str:
    return str(Quantity(Decimal(thousandths) / 1000))
