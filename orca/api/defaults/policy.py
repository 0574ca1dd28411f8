"""Autoscaling, RBAC, priorities, flow control, tokens and dynamic resources."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from orca.api.defaults.registry import Obj, defaults, part, put, put_text

RBAC = "rbac.authorization.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"

_SCALE_UP: Obj = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SCALE_DOWN: Obj = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
_CPU_80: Obj = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}


def _rules(behavior: Obj, key: str, wanted: Obj) -> None:
    rules: Any = behavior.get(key)
    if rules is None:
        behavior[key] = deepcopy(wanted)
        return
    for field, value in wanted.items():
        if rules.get(field) is None:
            rules[field] = deepcopy(value)


@defaults("autoscaling", "HorizontalPodAutoscaler")
def autoscaler(obj: Obj) -> None:
    """Defaults of an autoscaler in either version: one replica at least, 80 % of requested CPU."""
    spec = part(obj, "spec")
    put(spec, minReplicas=1)
    if (obj.get("apiVersion") or "").endswith("/v1"):
        put(spec, targetCPUUtilizationPercentage=80)
        return
    if not spec.get("metrics"):
        spec["metrics"] = [deepcopy(_CPU_80)]
    behavior = spec.get("behavior")
    if behavior is not None:
        _rules(behavior, "scaleUp", _SCALE_UP)
        _rules(behavior, "scaleDown", _SCALE_DOWN)


@defaults(RBAC, "RoleBinding", "ClusterRoleBinding")
def role_binding(obj: Obj) -> None:
    """API groups of the role and of the subjects."""
    role = obj.get("roleRef")
    if role is not None:
        put_text(role, apiGroup=RBAC)
    for subject in obj.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = RBAC


@defaults(RBAC, "ClusterRole", "Role")
def role(obj: Obj) -> None:
    """A role without rules has an empty list."""
    if "rules" not in obj:
        obj["rules"] = None if obj.get("kind") == "ClusterRole" and obj.get("aggregationRule") else []


@defaults("scheduling.k8s.io", "PriorityClass")
def priority_class(obj: Obj) -> None:
    """Pods preempt lower ones unless their class says never."""
    put(obj, preemptionPolicy="PreemptLowerPriority")


@defaults(_FLOW, "FlowSchema")
def flow_schema(obj: Obj) -> None:
    """Matching precedence in the middle."""
    spec = part(obj, "spec")
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


@defaults(_FLOW, "PriorityLevelConfiguration")
def priority_level(obj: Obj) -> None:
    """Shares and queue sizes."""
    spec = part(obj, "spec")
    limited, exempt = spec.get("limited"), spec.get("exempt")
    if spec.get("type") == "Exempt" and exempt is None:
        exempt = spec["exempt"] = {}
    if exempt is not None:
        put(exempt, nominalConcurrencyShares=0, lendablePercent=0)
    if limited is not None:
        put(limited, nominalConcurrencyShares=30, lendablePercent=0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for key, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
                if not queuing.get(key):
                    queuing[key] = value


@defaults("authentication.k8s.io", "TokenRequest")
def token_request(obj: Obj) -> None:
    """Tokens live for an hour."""
    put(part(obj, "spec"), expirationSeconds=3600)


def _device_request(request: Obj) -> None:
    put_text(request, allocationMode="ExactCount")
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1
    for toleration in request.get("tolerations") or ():
        put_text(toleration, operator="Equal")


def _claim(spec: Obj | None) -> None:
    for request in ((spec or {}).get("devices") or {}).get("requests") or ():
        exactly = request.get("exactly")
        if exactly is not None:
            _device_request(exactly)
        for one in request.get("firstAvailable") or ():
            _device_request(one)


@defaults("resource.k8s.io", "ResourceClaim")
def resource_claim(obj: Obj) -> None:
    """Each request is for exactly one device unless it says otherwise."""
    _claim(obj.get("spec"))


@defaults("resource.k8s.io", "ResourceClaimTemplate")
def resource_claim_template(obj: Obj) -> None:
    """As the claims made from it."""
    _claim((obj.get("spec") or {}).get("spec"))
