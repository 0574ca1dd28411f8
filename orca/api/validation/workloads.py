"""Deployment, ReplicaSet, DaemonSet and ReplicationController.

Reference: k8s.io/kubernetes ``pkg/apis/apps/validation`` and, of ReplicationControllers, ``pkg/apis/core/validation``.
"""

from __future__ import annotations

from typing import Any

from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import spec as pods
from orca.api.validation.registry import Errors, Obj, on_create, on_update

NO_MATCH = "`selector` does not match template `labels`"


def template_labels(template: Obj | None) -> Obj:
    """Labels the pods get."""
    return ((template or {}).get("metadata") or {}).get("labels") or {}


def selects(spec: Obj, out: Errors, *, kind: str, wrong: str) -> bool:
    """There is a selector, it is not empty, and it selects the template. Whether the template is worth judging."""
    selector = spec.get("selector")
    labels = template_labels(spec.get("template"))
    if selector is None:
        out.append(FieldError.required("spec.selector"))
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, NO_MATCH))
        return True
    before = len(out)
    common.label_selector(selector, "spec.selector", out)
    if len(out) > before:
        out.append(FieldError.invalid("spec.selector", selector, wrong))
        return False
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        out.append(FieldError.invalid("spec.selector", selector, f"empty selector is invalid for {kind}"))
    elif not common.selector_matches(selector, labels):
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, NO_MATCH))
    return True


def no_deadline(template: Obj | None, owner: str, out: Errors) -> None:
    """Pods that are kept running have no end."""
    if ((template or {}).get("spec") or {}).get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {owner} is not Supported"
        out.append(FieldError.forbidden("spec.template.spec.activeDeadlineSeconds", text))


def amount(value: Any) -> int:
    """A number or percentage as a number; 0 for what is neither."""
    if isinstance(value, int):
        return value
    digits = value.removesuffix("%") if isinstance(value, str) else ""
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def not_decremented(new: Obj, old: Obj, out: Errors) -> None:
    """``status.collisionCount`` only grows: names of what was made follow from it."""
    now, was = ((obj.get("status") or {}).get("collisionCount") for obj in (new, old))
    if was is not None and (now is None or now < was):
        out.append(FieldError.invalid("status.collisionCount", now or 0, "cannot be decremented"))


def at_most(state: Obj, keys: tuple[str, ...], out: Errors, *, ready: str) -> None:
    """No count exceeds ``replicas``, nor what is available what is ready."""
    total = state.get("replicas") or 0
    for key in keys:
        if (state.get(key) or 0) > total:
            text = "cannot be greater than status.replicas"
            out.append(FieldError.invalid(f"status.{key}", state.get(key) or 0, text))
    if (state.get("availableReplicas") or 0) > (state.get("readyReplicas") or 0):
        text = f"cannot be greater than {ready}"
        out.append(FieldError.invalid("status.availableReplicas", state.get("availableReplicas") or 0, text))


def _rolling(strategy: Obj, path: str, out: Errors) -> None:
    unavailable, surge = strategy.get("maxUnavailable"), strategy.get("maxSurge")
    common.int_or_percent(unavailable, f"{path}.maxUnavailable", out)
    common.int_or_percent(surge, f"{path}.maxSurge", out)
    if not amount(unavailable) and not amount(surge):
        text = "may not be 0 when `maxSurge` is 0"
        shown = 0 if unavailable is None else unavailable
        out.append(FieldError.invalid(f"{path}.maxUnavailable", shown, text))
    common.percent_at_most_100(unavailable, f"{path}.maxUnavailable", out)


def _deployment_strategy(strategy: Obj, path: str, out: Errors) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            text = "may not be specified when strategy `type` is 'Recreate'"
            out.append(FieldError.forbidden(f"{path}.rollingUpdate", text))
    elif kind == "RollingUpdate":
        if rolling is None:
            out.append(FieldError.required(f"{path}.rollingUpdate", "this should be defaulted and never be nil"))
        else:
            _rolling(rolling, f"{path}.rollingUpdate", out)
    else:
        out.append(FieldError.not_supported(path, strategy, ("Recreate", "RollingUpdate")))


def _deadline(spec: Obj, out: Errors) -> None:
    seconds = spec.get("progressDeadlineSeconds")
    if seconds is not None:
        common.non_negative(spec, "progressDeadlineSeconds", "spec", out)
        if seconds <= (spec.get("minReadySeconds") or 0):
            text = "must be greater than minReadySeconds"
            out.append(FieldError.invalid("spec.progressDeadlineSeconds", seconds, text))


def _replicated(spec: Obj, out: Errors) -> None:
    """Selector and template of a Deployment or a ReplicaSet."""
    if selects(spec, out, kind="deployment", wrong="invalid label selector"):
        pods.template(spec.get("template"), "spec.template", out)
        no_deadline(spec.get("template"), "ReplicaSet", out)


@on_create("apps", "Deployment")
def deployment(obj: Obj) -> Errors:
    """A Deployment."""
    out: Errors = []
    spec = obj.get("spec") or {}
    common.non_negative(spec, "replicas", "spec", out)
    _replicated(spec, out)
    _deployment_strategy(spec.get("strategy") or {}, "spec.strategy", out)
    common.non_negative(spec, "minReadySeconds", "spec", out)
    common.non_negative(spec, "revisionHistoryLimit", "spec", out)
    _deadline(spec, out)
    return out


def counts(state: Obj, keys: tuple[str, ...], out: Errors) -> None:
    """None of these numbers of a status is negative."""
    for key in keys:
        common.non_negative(state, key, "status", out)


@on_update("apps", "Deployment")
def deployment_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Deployment; its selector stays."""
    out: Errors = []
    if subresource == "status":
        state = new.get("status") or {}
        counts(state, ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
                        "unavailableReplicas", "collisionCount"), out)  # fmt: skip
        at_most(state, ("updatedReplicas", "readyReplicas", "availableReplicas"), out, ready="readyReplicas")
        not_decremented(new, old, out)
        return out
    out += deployment(new)
    common.immutable((new.get("spec") or {}).get("selector"), old["spec"].get("selector"), "spec.selector", out)
    return out


@on_create("apps", "ReplicaSet")
def replica_set(obj: Obj) -> Errors:
    """A ReplicaSet."""
    out: Errors = []
    spec = obj.get("spec") or {}
    common.non_negative(spec, "replicas", "spec", out)
    common.non_negative(spec, "minReadySeconds", "spec", out)
    _replicated(spec, out)
    return out


@on_update("apps", "ReplicaSet")
def replica_set_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ReplicaSet; its selector stays."""
    out: Errors = []
    if subresource == "status":
        _replica_status(new.get("status") or {}, out)
        return out
    out += replica_set(new)
    common.immutable((new.get("spec") or {}).get("selector"), old["spec"].get("selector"), "spec.selector", out)
    return out


def _replica_status(state: Obj, out: Errors) -> None:
    keys = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    counts(state, (*keys, "observedGeneration"), out)
    at_most(state, keys[1:], out, ready="readyReplicas")


@on_create("", "ReplicationController")
def replication_controller(obj: Obj) -> Errors:
    """A ReplicationController."""
    out: Errors = []
    spec = obj.get("spec") or {}
    common.non_negative(spec, "minReadySeconds", "spec", out)
    selector, template = spec.get("selector"), spec.get("template")
    if not selector:
        out.append(FieldError.required("spec.selector"))
    common.non_negative(spec, "replicas", "spec", out)
    labels = template_labels(template)
    if selector and template is not None and any(labels.get(key) != value for key, value in selector.items()):
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, NO_MATCH))
    pods.template(template, "spec.template", out)
    no_deadline(template, "ReplicationController", out)
    return out


@on_update("", "ReplicationController")
def replication_controller_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ReplicationController."""
    if subresource == "status":
        out: Errors = []
        _replica_status(new.get("status") or {}, out)
        return out
    return replication_controller(new)


@on_create("apps", "DaemonSet")
def daemon_set(obj: Obj) -> Errors:
    """A DaemonSet."""
    out: Errors = []
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template")
    common.label_selector(selector, "spec.selector", out)
    some = bool(selector and (selector.get("matchLabels") or selector.get("matchExpressions")))
    labels = template_labels(template)
    if selector is None or (some and not out and not common.selector_matches(selector, labels)):
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, NO_MATCH))
    if selector is not None and not some:
        out.append(FieldError.invalid("spec.selector", selector, "empty selector is invalid for daemonset"))
    pods.template(template, "spec.template", out)
    no_deadline(template, "DaemonSet", out)
    common.non_negative(spec, "minReadySeconds", "spec", out)
    strategy = spec.get("updateStrategy") or {}
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "RollingUpdate":
        at = "spec.updateStrategy.rollingUpdate"
        if rolling is None:
            out.append(FieldError.required(at))
        else:
            _daemon_rolling(rolling, at, out)
    elif kind != "OnDelete":
        out.append(FieldError.not_supported("spec.updateStrategy", strategy, ("RollingUpdate", "OnDelete")))
    common.non_negative(spec, "revisionHistoryLimit", "spec", out)
    return out


def _daemon_rolling(rolling: Obj, path: str, out: Errors) -> None:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    common.int_or_percent(unavailable, f"{path}.maxUnavailable", out)
    common.int_or_percent(surge, f"{path}.maxSurge", out)
    common.percent_at_most_100(unavailable, f"{path}.maxUnavailable", out)
    common.percent_at_most_100(surge, f"{path}.maxSurge", out)
    some_unavailable, some_surge = amount(unavailable) != 0, amount(surge) != 0
    if some_unavailable and some_surge:
        text = "may not be set when maxUnavailable is non-zero"
        out.append(FieldError.invalid(f"{path}.maxSurge", surge, text))
    elif not some_unavailable and not some_surge:
        text = "cannot be 0 when maxSurge is 0"
        out.append(FieldError.required(f"{path}.maxUnavailable", text))


@on_update("apps", "DaemonSet")
def daemon_set_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed DaemonSet; its selector stays."""
    if subresource == "status":
        out: Errors = []
        keys = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
                "observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable",
                "collisionCount")  # fmt: skip
        counts(new.get("status") or {}, keys, out)
        not_decremented(new, old, out)
        return out
    out = daemon_set(new)
    common.immutable((new.get("spec") or {}).get("selector"), old["spec"].get("selector"), "spec.selector", out)
    return out
