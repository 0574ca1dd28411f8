"""Jobs and CronJobs."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.cron import schedule_error
from orca.api.validation.pods import spec as pods
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_ZONE = re.compile(r"^[A-Za-z0-9+\-_/]{1,}$")
_MAX_INDEXED = 100_000


def _failure_policy(spec: Obj, path: str, out: Errors) -> None:
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    rules = policy.get("rules") or []
    at = f"{path}.podFailurePolicy.rules"
    if len(rules) > 20:
        out.append(FieldError.too_many(at, len(rules), 20))
    for i, rule in enumerate(rules):
        action = rule.get("action")
        common.choice(action, _ACTIONS, f"{at}[{i}].action", out, required=True)
        if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            text = "requires the backoffLimitPerIndex to be set"
            out.append(FieldError.invalid(f"{at}[{i}].action", action, text))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None and conditions:
            text = "specifying both OnExitCodes and OnPodConditions is not supported"
            out.append(FieldError.invalid(f"{at}[{i}]", rule, text))
        if codes is None and not conditions:
            text = "specifying one of OnExitCodes and OnPodConditions is required"
            out.append(FieldError.invalid(f"{at}[{i}]", rule, text))
        if codes is not None:
            operator = codes.get("operator")
            common.choice(operator, ("In", "NotIn"), f"{at}[{i}].onExitCodes.operator", out, required=True)
            values = codes.get("values") or []
            if not values:
                text = "at least one value is required"
                out.append(FieldError.invalid(f"{at}[{i}].onExitCodes.values", values, text))
            if operator == "In" and 0 in values:
                text = "must not be 0 for the In operator"
                where = f"{at}[{i}].onExitCodes.values[{values.index(0)}]"
                out.append(FieldError.invalid(where, 0, text))
    policy_kind = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy")
    if policy_kind != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        out.append(FieldError.invalid(f"{path}.template.spec.restartPolicy", policy_kind, text))


def _success_policy(spec: Obj, path: str, out: Errors) -> None:
    policy = spec.get("successPolicy")
    if policy is None:
        return
    at = f"{path}.successPolicy"
    if spec.get("completionMode") != "Indexed":
        out.append(FieldError.invalid(at, policy, "requires indexed completion mode"))
    rules = policy.get("rules") or []
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        out.append(FieldError.required(f"{at}.rules", text))
    if len(rules) > 20:
        out.append(FieldError.too_many(f"{at}.rules", len(rules), 20))


def _indexed(spec: Obj, path: str, out: Errors) -> None:
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        out.append(FieldError.not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        if spec.get("completions") is None:
            text = "when completion mode is Indexed"
            out.append(FieldError.required(f"{path}.completions", text))
        parallelism = spec.get("parallelism")
        if parallelism is not None and parallelism > _MAX_INDEXED:
            text = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
            out.append(FieldError.invalid(f"{path}.parallelism", parallelism, text))
        return
    if spec.get("backoffLimitPerIndex") is not None:
        text = "requires indexed completion mode"
        out.append(FieldError.invalid(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], text))
    if spec.get("maxFailedIndexes") is not None:
        text = "requires indexed completion mode"
        out.append(FieldError.invalid(f"{path}.maxFailedIndexes", spec["maxFailedIndexes"], text))


def job_spec(spec: Obj, path: str, out: Errors) -> None:
    """What Jobs and the jobs of CronJobs have in common."""
    for key in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
                "backoffLimitPerIndex", "maxFailedIndexes"):  # fmt: skip
        common.non_negative(spec, key, path, out)
    _indexed(spec, path, out)
    _failure_policy(spec, path, out)
    _success_policy(spec, path, out)
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
        common.choice(replacement, allowed, f"{path}.podReplacementPolicy", out)
    managed = spec.get("managedBy")
    if managed is not None and (len(managed) > 63 or "/" not in managed):
        text = 'must be a domain-prefixed path (such as "acme.io/foo")'
        out.append(FieldError.invalid(f"{path}.managedBy", managed, text))
    common.label_selector(spec.get("selector"), f"{path}.selector", out)
    template = spec.get("template")
    pods.template(template, f"{path}.template", out, restart=())
    policy = ((template or {}).get("spec") or {}).get("restartPolicy")
    if policy == "Always":
        text = 'valid values: "OnFailure", "Never"'
        out.append(FieldError.required(f"{path}.template.spec.restartPolicy", text))


@on_create("batch", "Job")
def job(obj: Obj) -> Errors:
    """A Job."""
    out: Errors = []
    spec = obj.get("spec") or {}
    selector = spec.get("selector")
    if selector is None:
        out.append(FieldError.required("spec.selector"))
    elif not spec.get("manualSelector"):
        wanted = {"matchLabels": {_CONTROLLER_UID: obj["metadata"].get("uid")}}
        if {key: value for key, value in selector.items() if value} != wanted:
            out.append(FieldError.invalid("spec.selector", selector, "`selector` not auto-generated"))
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if selector and common.selector_matches(selector, labels) is False:
        text = "`selector` does not match template `labels`"
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, text))
    job_spec(spec, "spec", out)
    return out


_JOB_IMMUTABLE = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_WHILE_SUSPENDED = ("nodeSelector", "affinity", "tolerations", "schedulingGates", "priorityClassName")


def _template_change(new: Obj, old: Obj, state: Obj, out: Errors) -> None:
    """The template stays; where pods may run can change while the job waits for its first start."""
    if new.get("template") == old.get("template"):
        return
    wanted, before = new.get("template") or {}, old.get("template") or {}
    if old.get("suspend") and state.get("startTime") is None:
        spec = dict(wanted.get("spec") or {})
        kept = before.get("spec") or {}
        for key in _WHILE_SUSPENDED:
            spec.pop(key, None)
            if key in kept:
                spec[key] = kept[key]
        meta = {**(wanted.get("metadata") or {})}
        for key in ("labels", "annotations"):
            meta.pop(key, None)
            if key in (before.get("metadata") or {}):
                meta[key] = before["metadata"][key]
        wanted = {**wanted, "metadata": meta, "spec": spec}
    common.immutable(wanted, before, "spec.template", out)


@on_update("batch", "Job")
def job_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Job."""
    if subresource == "status":
        out: Errors = []
        for key in ("active", "succeeded", "failed", "ready", "terminating"):
            common.non_negative(new.get("status") or {}, key, "status", out)
        return out
    out = job(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    elastic = before.get("completionMode") == "Indexed" and wanted.get("completions") == wanted.get("parallelism")
    if not elastic:
        common.immutable(wanted.get("completions"), before.get("completions"), "spec.completions", out)
    common.immutable(wanted.get("selector"), before.get("selector"), "spec.selector", out)
    _template_change(wanted, before, old.get("status") or {}, out)
    for key in _JOB_IMMUTABLE:
        common.immutable(wanted.get(key), before.get(key), f"spec.{key}", out)
    return out


def _zone(name: str, path: str, out: Errors) -> None:
    if not name:
        text = "timeZone must be nil or non-empty string"
        out.append(FieldError.invalid(path, name, text))
    elif name.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        out.append(FieldError.invalid(path, name, text))
    elif not _ZONE.match(name):
        out.append(FieldError.invalid(path, name, f"unknown time zone {name}"))
    else:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            out.append(FieldError.invalid(path, name, f"unknown time zone {name}"))


@on_create("batch", "CronJob")
def cron_job(obj: Obj) -> Errors:
    """A CronJob."""
    out: Errors = []
    spec = obj.get("spec") or {}
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not schedule:
        out.append(FieldError.required("spec.schedule"))
    else:
        wrong = schedule_error(schedule)
        if wrong:
            out.append(FieldError.invalid("spec.schedule", schedule, wrong))
        if "TZ" in schedule:
            text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            out.append(FieldError.invalid("spec.schedule", schedule, text))
    common.non_negative(spec, "startingDeadlineSeconds", "spec", out)
    if zone is not None:
        _zone(zone, "spec.timeZone", out)
    allowed = ("Allow", "Forbid", "Replace")
    common.choice(spec.get("concurrencyPolicy"), allowed, "spec.concurrencyPolicy", out, required=True)
    common.non_negative(spec, "successfulJobsHistoryLimit", "spec", out)
    common.non_negative(spec, "failedJobsHistoryLimit", "spec", out)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    if template.get("manualSelector"):
        out.append(FieldError.not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false")))
    job_spec(template, "spec.jobTemplate.spec", out)
    return out


@on_update("batch", "CronJob")
def cron_job_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CronJob."""
    return [] if subresource == "status" else cron_job(new)
