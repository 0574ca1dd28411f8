"""StatefulSets, and the revisions that they and DaemonSets keep.

Reference: k8s.io/kubernetes ``pkg/apis/apps/validation`` and ``pkg/registry/apps``.
"""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.metadata import validate_annotations
from orca.api.validation import common, workloads
from orca.api.validation.claims import claim_spec
from orca.api.validation.comparison import plain
from orca.api.validation.pods import marks
from orca.api.validation.pods import spec as pods
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_AT = "spec.template"
_RETENTION = ("Retain", "Delete")
_MUTABLE = {"replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy", "minReadySeconds"}  # fmt: skip
_ONLY = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def _around_template(spec: Obj, out: Errors) -> bool:
    """All but the template, in two parts around which upstream judges it; whether the template is worth judging."""
    policy = spec.get("podManagementPolicy")
    if not policy:
        out.append(FieldError.required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        text = "must be 'OrderedReady' or 'Parallel'"
        out.append(FieldError.invalid("spec.podManagementPolicy", policy, text))
    _strategy(spec.get("updateStrategy") or {}, out)
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        common.choice(retention.get(key), _RETENTION, f"spec.persistentVolumeClaimRetentionPolicy.{key}", out)
    common.non_negative(spec, "replicas", "spec", out)
    common.non_negative(spec, "minReadySeconds", "spec", out)
    common.non_negative(spec.get("ordinals") or {}, "start", "spec.ordinals", out)
    return workloads.selects(spec, out, kind="statefulset", wrong="")


def _strategy(strategy: Obj, out: Errors) -> None:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    at = "spec.updateStrategy"
    if not kind:
        out.append(FieldError.required(at))
    elif kind == "OnDelete":
        if rolling is not None:
            text = "only allowed for updateStrategy 'RollingUpdate'"
            out.append(FieldError.invalid(f"{at}.rollingUpdate", rolling, text))
    elif kind != "RollingUpdate":
        out.append(FieldError.invalid(at, strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    elif rolling is not None:
        common.non_negative(rolling, "partition", f"{at}.rollingUpdate", out)
        limit = rolling.get("maxUnavailable")
        if limit is not None:
            common.int_or_percent(limit, f"{at}.rollingUpdate.maxUnavailable", out)
            if not workloads.amount(limit):
                out.append(FieldError.invalid(f"{at}.rollingUpdate.maxUnavailable", limit, "cannot be 0"))
            common.percent_at_most_100(limit, f"{at}.rollingUpdate.maxUnavailable", out)


def _template(spec: Obj, out: Errors) -> None:
    """The template, with a volume for each claim template, so that mounts of them are found."""
    template = spec.get("template")
    claims = spec.get("volumeClaimTemplates")
    if template and claims:
        pod = template.get("spec") or {}
        own = dict.fromkeys(name for claim in claims if (name := (claim.get("metadata") or {}).get("name")))
        volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in own]
        volumes += [volume for volume in pod.get("volumes") or () if volume.get("name") not in own]
        template = {**template, "spec": {**pod, "volumes": volumes}}
    pods.template(template, _AT, out, restart=())


def _lasting(template: Obj | None, out: Errors) -> None:
    """The pods never end by themselves."""
    policy = ((template or {}).get("spec") or {}).get("restartPolicy")
    if policy != "Always":
        out.append(FieldError.not_supported(f"{_AT}.spec.restartPolicy", policy or "", ("Always",)))
    workloads.no_deadline(template, "StatefulSet", out)


def _marks(template: Obj, out: Errors) -> None:
    """What is judged of a template that was not fine already when it was stored."""
    meta = template.get("metadata") or {}
    common.labels(meta.get("labels"), f"{_AT}.labels", out)
    out += validate_annotations(meta.get("annotations"), f"{_AT}.annotations")
    marks.specific(meta.get("annotations"), template.get("spec") or {}, f"{_AT}.annotations", out)


@on_create("apps", "StatefulSet")
def stateful_set(obj: Obj) -> Errors:
    """A StatefulSet with its claim templates, which may not change later."""
    out: Errors = []
    spec = obj.get("spec") or {}
    judged = _around_template(spec, out)
    for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec", out)
    service = spec.get("serviceName")
    if service:
        common.messages(names.dns1123_label(service), service, "spec.serviceName", out)
    if judged:
        _template(spec, out)
    _lasting(spec.get("template"), out)
    return out


def _changed_template(spec: Obj, old: Obj, out: Errors) -> None:
    """A template that was not fine when it was stored may stay so: older servers took any."""
    found: Errors = []
    _template(spec, found)
    if found:
        before: Errors = []
        if _around_template(old, before):
            _template(old, before)
        _lasting(old.get("template"), before)
        if before:
            found = []
            _marks(spec.get("template") or {}, found)
    out += found


def _identity(spec: Obj) -> Obj:
    kept: Obj = plain({key: value for key, value in spec.items() if key not in _MUTABLE})
    return kept


@on_update("apps", "StatefulSet")
def stateful_set_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed StatefulSet: identity and storage stay."""
    out: Errors = []
    if subresource == "status":
        state = new.get("status") or {}
        keys = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
        workloads.counts(state, (*keys, "observedGeneration", "collisionCount"), out)
        workloads.at_most(state, keys[1:], out, ready="status.readyReplicas")
        workloads.not_decremented(new, old, out)
        return out
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    if _around_template(wanted, out):
        _changed_template(wanted, before, out)
    _lasting(wanted.get("template"), out)
    if _identity(wanted) != _identity(before):
        out.append(FieldError.forbidden("spec", _ONLY))
    return out


def _revision(obj: Obj, out: Errors) -> None:
    if (obj.get("revision") or 0) < 0:
        out.append(FieldError.invalid("revision", obj["revision"], common.NON_NEGATIVE))


@on_create("apps", "ControllerRevision")
def controller_revision(obj: Obj) -> Errors:
    """A ControllerRevision: its data is an object."""
    out: Errors = []
    _revision(obj, out)
    data = obj.get("data")
    if data is None:
        out.append(FieldError.required("data", "data is mandatory"))
    elif not isinstance(data, dict):
        out.append(FieldError.required("data", "data must be a valid JSON object"))
    return out


@on_update("apps", "ControllerRevision")
def controller_revision_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ControllerRevision; its data stays."""
    del subresource
    out: Errors = []
    _revision(new, out)
    common.immutable(new.get("data"), old.get("data"), "data", out)
    return out
