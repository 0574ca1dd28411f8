"""Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, ControllerRevision."""

from __future__ import annotations

from typing import Any

from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import spec as pods
from orca.api.validation.registry import Errors, Obj, on_create, on_update

NO_MATCH = "`selector` does not match template `labels`"


def _template_labels(template: Obj | None) -> Obj:
    return ((template or {}).get("metadata") or {}).get("labels") or {}


def _selector(spec: Obj, out: Errors, *, kind: str) -> None:
    """There is a selector, it is not empty, and it selects the template."""
    selector = spec.get("selector")
    if selector is None:
        out.append(FieldError.required("spec.selector"))
        return
    common.label_selector(selector, "spec.selector", out)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        out.append(FieldError.invalid("spec.selector", selector, f"empty selector is invalid for {kind}"))
    elif common.selector_matches(selector, _template_labels(spec.get("template"))) is False:
        labels = _template_labels(spec.get("template"))
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, NO_MATCH))


def _is_zero(value: Any) -> bool:
    return value in (None, 0) or (isinstance(value, str) and value.rstrip("%").strip("0") == "" and value != "")


def _rolling(strategy: Obj, path: str, out: Errors) -> None:
    unavailable, surge = strategy.get("maxUnavailable"), strategy.get("maxSurge")
    common.int_or_percent(unavailable, f"{path}.maxUnavailable", out)
    common.int_or_percent(surge, f"{path}.maxSurge", out)
    if _is_zero(unavailable) and _is_zero(surge):
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
        out.append(FieldError.not_supported(f"{path}.type", kind or "", ("Recreate", "RollingUpdate")))


def _deadline(spec: Obj, out: Errors) -> None:
    seconds = spec.get("progressDeadlineSeconds")
    if seconds is not None:
        common.non_negative(spec, "progressDeadlineSeconds", "spec", out)
        if seconds <= (spec.get("minReadySeconds") or 0):
            text = "must be greater than minReadySeconds"
            out.append(FieldError.invalid("spec.progressDeadlineSeconds", seconds, text))


@on_create("apps", "Deployment")
def deployment(obj: Obj) -> Errors:
    """A Deployment."""
    out: Errors = []
    spec = obj.get("spec") or {}
    common.non_negative(spec, "replicas", "spec", out)
    _selector(spec, out, kind="deployment")
    pods.template(spec.get("template"), "spec.template", out)
    _deployment_strategy(spec.get("strategy") or {}, "spec.strategy", out)
    common.non_negative(spec, "minReadySeconds", "spec", out)
    common.non_negative(spec, "revisionHistoryLimit", "spec", out)
    _deadline(spec, out)
    return out


def _counts(state: Obj, keys: tuple[str, ...], out: Errors) -> None:
    for key in keys:
        common.non_negative(state, key, "status", out)


@on_update("apps", "Deployment")
def deployment_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Deployment; its selector stays."""
    out: Errors = []
    if subresource == "status":
        state = new.get("status") or {}
        _counts(state, ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
                        "unavailableReplicas", "collisionCount"), out)  # fmt: skip
        total = state.get("replicas") or 0
        for key in ("updatedReplicas", "readyReplicas", "availableReplicas"):
            if (state.get(key) or 0) > total:
                out.append(
                    FieldError.invalid(f"status.{key}", state.get(key) or 0, "cannot be greater than status.replicas")
                )
        if (state.get("availableReplicas") or 0) > (state.get("readyReplicas") or 0):
            text = "cannot be greater than readyReplicas"
            out.append(FieldError.invalid("status.availableReplicas", state.get("availableReplicas") or 0, text))
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
    _selector(spec, out, kind="deployment")
    pods.template(spec.get("template"), "spec.template", out)
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
    _counts(state, (*keys, "observedGeneration"), out)
    total = state.get("replicas") or 0
    for key in keys[1:]:
        if (state.get(key) or 0) > total:
            out.append(
                FieldError.invalid(f"status.{key}", state.get(key) or 0, "cannot be greater than status.replicas")
            )
    if (state.get("availableReplicas") or 0) > (state.get("readyReplicas") or 0):
        text = "cannot be greater than readyReplicas"
        out.append(FieldError.invalid("status.availableReplicas", state.get("availableReplicas") or 0, text))


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
    labels = _template_labels(template)
    if selector and template is not None and any(labels.get(key) != value for key, value in selector.items()):
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, NO_MATCH))
    pods.template(template, "spec.template", out)
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
    _selector(spec, out, kind="daemonset")
    pods.template(spec.get("template"), "spec.template", out)
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
        out.append(FieldError.not_supported("spec.updateStrategy.type", strategy, ("RollingUpdate", "OnDelete")))
    common.non_negative(spec, "revisionHistoryLimit", "spec", out)
    return out


def _daemon_rolling(rolling: Obj, path: str, out: Errors) -> None:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    for key, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        common.int_or_percent(value, f"{path}.{key}", out)
        common.percent_at_most_100(value, f"{path}.{key}", out)
    some_unavailable, some_surge = not _is_zero(unavailable), not _is_zero(surge)
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
                "observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable")  # fmt: skip
        _counts(new.get("status") or {}, keys, out)
        return out
    out = daemon_set(new)
    common.immutable((new.get("spec") or {}).get("selector"), old["spec"].get("selector"), "spec.selector", out)
    return out


@on_create("apps", "StatefulSet")
def stateful_set(obj: Obj) -> Errors:
    """A StatefulSet."""
    out: Errors = []
    spec = obj.get("spec") or {}
    policy = spec.get("podManagementPolicy")
    if not policy:
        out.append(FieldError.required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        text = "must be 'OrderedReady' or 'Parallel'"
        out.append(FieldError.invalid("spec.podManagementPolicy", policy, text))
    _stateful_strategy(spec.get("updateStrategy") or {}, out)
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        at = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
        common.choice(retention.get(key), ("Delete", "Retain"), at, out)
    common.non_negative(spec, "replicas", "spec", out)
    common.non_negative(spec, "minReadySeconds", "spec", out)
    ordinals = spec.get("ordinals")
    if ordinals:
        common.non_negative(ordinals, "start", "spec.ordinals", out)
    _selector(spec, out, kind="statefulset")
    pods.template(_with_claims(spec), "spec.template", out)
    for key in ("activeDeadlineSeconds",):
        if ((spec.get("template") or {}).get("spec") or {}).get(key) is not None:
            out.append(FieldError.forbidden(f"spec.template.spec.{key}", f"{key} in StatefulSet is not Supported"))
    return out


def _with_claims(spec: Obj) -> Obj | None:
    """The template with a volume for each claim template, so that mounts of them are found."""
    template = spec.get("template")
    claims = spec.get("volumeClaimTemplates")
    if not template or not claims:
        return template
    pod = template.get("spec") or {}
    own = {(claim.get("metadata") or {}).get("name"): claim for claim in claims}
    volumes = [volume for volume in pod.get("volumes") or () if volume.get("name") not in own]
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in own if name]
    return {**template, "spec": {**pod, "volumes": volumes}}


def _stateful_strategy(strategy: Obj, out: Errors) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    at = "spec.updateStrategy"
    if not kind:
        out.append(FieldError.required(at))
    elif kind == "OnDelete":
        if rolling is not None:
            text = f"only allowed for updateStrategy '{'RollingUpdate'}'"
            out.append(FieldError.invalid(f"{at}.rollingUpdate", rolling, text))
    elif kind == "RollingUpdate":
        if rolling is not None:
            common.non_negative(rolling, "partition", f"{at}.rollingUpdate", out)
            limit = rolling.get("maxUnavailable")
            if limit is not None:
                common.int_or_percent(limit, f"{at}.rollingUpdate.maxUnavailable", out)
                if _is_zero(limit):
                    out.append(FieldError.invalid(f"{at}.rollingUpdate.maxUnavailable", limit, "cannot be 0"))
                common.percent_at_most_100(limit, f"{at}.rollingUpdate.maxUnavailable", out)
    else:
        out.append(FieldError.invalid(at, strategy, "must be 'RollingUpdate' or 'OnDelete'"))


_STATEFUL_MUTABLE = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
                     "persistentVolumeClaimRetentionPolicy", "minReadySeconds")  # fmt: skip


@on_update("apps", "StatefulSet")
def stateful_set_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed StatefulSet: identity and storage stay."""
    if subresource == "status":
        out: Errors = []
        keys = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "observedGeneration",
                "collisionCount", "availableReplicas")  # fmt: skip
        _counts(new.get("status") or {}, keys, out)
        return out
    out = stateful_set(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    if any(wanted.get(key) != before.get(key) for key in {*wanted, *before} - set(_STATEFUL_MUTABLE)):
        text = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
            "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        )
        out.append(FieldError.forbidden("spec", text))
    return out


@on_create("apps", "ControllerRevision")
def controller_revision(obj: Obj) -> Errors:
    """A ControllerRevision."""
    out: Errors = []
    if obj.get("data") is None:
        out.append(FieldError.required("data", "data is mandatory"))
    if (obj.get("revision") or 0) < 0:
        out.append(FieldError.invalid("revision", obj["revision"], common.NON_NEGATIVE))
    return out


@on_update("apps", "ControllerRevision")
def controller_revision_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ControllerRevision; its data stays."""
    out = controller_revision(new)
    common.immutable(new.get("data"), old.get("data"), "data", out)
    return out
