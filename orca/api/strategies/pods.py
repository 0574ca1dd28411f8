"""Pods: status at birth, quality of service, scheduling gates, graceful deletion."""

from __future__ import annotations

from copy import deepcopy

from orca.api.builtin import PODS
from orca.api.objects import Obj
from orca.api.podphase import is_finished
from orca.api.qos import qos_class
from orca.api.strategy import register


def _prepare_create(obj: Obj) -> None:
    spec = obj.get("spec") or {}
    status: Obj = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": None,
                "lastTransitionTime": None,
            }
        ]
    obj["status"] = status
    affinity, spreads = spec.get("affinity"), spec.get("topologySpreadConstraints")
    if affinity or spreads:
        labels = (obj.get("metadata") or {}).get("labels") or {}
        _merge_label_keys(affinity or {}, labels)
        for rule in spreads or ():
            _merge(rule, labels)


def _merge_label_keys(affinity: Obj, labels: Obj) -> None:
    """``matchLabelKeys`` and ``mismatchLabelKeys`` of pod (anti)affinity become expressions of the selector, in place.

    Keys that the pod does not carry and terms without a selector are left, as upstream does
    (``pkg/registry/core/pod`` applyMatchLabelKeysAndMismatchLabelKeys); so are those of spread constraints.
    """
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            _merge(term, labels)
        for one in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            _merge(one.get("podAffinityTerm") or {}, labels)


def _merge(rule: Obj, labels: Obj) -> None:
    selector = rule.get("labelSelector")
    if selector is None:
        return
    for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in rule.get(field) or ():
            if key in labels:
                added = {"key": key, "operator": operator, "values": [labels[key]]}
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), added]


def _prepare_update(new: Obj, old: Obj, subresource: str) -> None:
    status = new.get("status")
    before = (old.get("status") or {}).get("qosClass")
    if subresource == "status" and status is not None and before and not status.get("qosClass"):
        # The class is fixed at creation; an agent that leaves it out does not take it away.
        status["qosClass"] = before
    if subresource == "ephemeralcontainers":
        added = (new.get("spec") or {}).get("ephemeralContainers")
        new["spec"] = {**deepcopy(old.get("spec") or {}), "ephemeralContainers": added or []}

    elif subresource == "resize":
        new["spec"] = _resized(new.get("spec") or {}, old.get("spec") or {})


def _resized(wanted: Obj, before: Obj) -> Obj:
    """The old spec with all resources of *wanted*; other containers than before are left for validation to refuse."""
    spec = deepcopy(before)
    for key in ("containers", "initContainers"):
        now = wanted.get(key) or []
        if [one.get("name") for one in now] != [one.get("name") for one in spec.get(key) or ()]:
            return wanted
        for one, own in zip(now, spec.get(key) or (), strict=True):
            for field in ("resources", "resizePolicy"):
                own.pop(field, None)
                if field in one:
                    own[field] = one[field]
    spec.pop("resources", None)
    if "resources" in wanted:
        spec["resources"] = wanted["resources"]
    return spec


def _graceful(obj: Obj) -> int | None:
    """What the pod asks for; nothing to wait for when it never got a node or has already ended."""
    spec = obj.get("spec") or {}
    if not spec.get("nodeName") or is_finished(obj):
        return 0
    seconds = spec.get("terminationGracePeriodSeconds")
    if seconds is None:
        return 30
    return int(seconds) if seconds >= 0 else 1


register(PODS, prepare_create=_prepare_create, prepare_update=_prepare_update, graceful=_graceful)
