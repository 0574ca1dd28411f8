"""The Available condition of an APIService, as far as the cluster's objects decide it. Pure.

Reference: k8s.io/kube-aggregator ``pkg/controllers/status``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orca.api.objects import Obj
from orca.api.times import format_time
from orca.client.services import service_port

AVAILABLE = "Available"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``available`` with upstream's reason and message."""

    available: bool
    reason: str
    message: str


LOCAL = Verdict(True, "Local", "Local APIServices are always available")
PASSED = Verdict(True, "Passed", "all checks passed")


def check_service(where: Obj, service: Obj | None, slices: Sequence[Obj]) -> Verdict | None:
    """What is wrong with the Service behind an APIService; None when somebody can be asked there.

    ``where`` is the APIService's ``spec.service``.
    """
    space, name, port = where.get("namespace") or "", where.get("name") or "", where.get("port") or 443
    shown = f'service/{name} in "{space}"'
    if service is None:
        return Verdict(False, "ServiceNotFound", f"{shown} is not present")
    if (service.get("spec") or {}).get("type") == "ExternalName":
        return None
    entry = service_port(service, port)
    if entry is None:
        return Verdict(False, "ServicePortError", f"{shown} is not listening on port {port}")
    if not slices:
        return Verdict(False, "EndpointsNotFound", f"cannot find endpoints for {shown}")
    port_name = entry.get("name") or ""
    for piece in slices:
        if not any((one.get("name") or "") == port_name for one in piece.get("ports") or ()):
            continue
        if any((one.get("conditions") or {}).get("ready") is not False for one in piece.get("endpoints") or ()):
            return None
    text = f'endpoints for {shown} have no addresses with port name "{port_name}"'
    return Verdict(False, "MissingEndpoints", text)


def has_condition(service: Obj) -> bool:
    """Whether the APIService tells at all; somebody may have written its status without our condition."""
    return any(one.get("type") == AVAILABLE for one in (service.get("status") or {}).get("conditions") or ())


def with_condition(service: Obj, verdict: Verdict, now: datetime) -> Obj | None:
    """The APIService with its condition as the verdict says; None when it says so already."""
    status = service.get("status") or {}
    conditions = list(status.get("conditions") or ())
    at = next((i for i, one in enumerate(conditions) if one.get("type") == AVAILABLE), None)
    before = conditions[at] if at is not None else {}
    state = "True" if verdict.available else "False"
    if (before.get("status"), before.get("reason"), before.get("message")) == (state, verdict.reason, verdict.message):
        return None
    since = before.get("lastTransitionTime") if before.get("status") == state else None
    made = {
        "type": AVAILABLE,
        "status": state,
        "lastTransitionTime": since or format_time(now),
        "reason": verdict.reason,
        "message": verdict.message,
    }
    if at is None:
        conditions.append(made)
    else:
        conditions[at] = made
    return {**service, "status": {**status, "conditions": conditions}}
