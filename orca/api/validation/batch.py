"""Jobs and CronJobs.

Reference: k8s.io/kubernetes ``pkg/apis/batch/validation``.
"""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common, job_policies, job_status
from orca.api.validation.comparison import plain
from orca.api.validation.cron import schedule_error
from orca.api.validation.pods import spec as pods
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_ZONE_PART = re.compile(r"[A-Za-z.\-_0-9+]{1,14}")
_MAX_INDEXED = 100_000
_MAX_OF_MANY = 10_000
_MAX_MANAGER = 63
_MAX_CRON_NAME = 52


def _indexed(spec: Obj, path: str, out: Errors) -> None:
    mode, limit, most = spec.get("completionMode"), spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        out.append(FieldError.not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode in (None, "NonIndexed"):
        for key, value in (("backoffLimitPerIndex", limit), ("maxFailedIndexes", most)):
            if value is not None:
                out.append(FieldError.invalid(f"{path}.{key}", value, "requires indexed completion mode"))
    if mode != "Indexed":
        return
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    if completions is None:
        out.append(FieldError.required(f"{path}.completions", "when completion mode is Indexed"))
    if parallelism is not None and parallelism > _MAX_INDEXED:
        text = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
        out.append(FieldError.invalid(f"{path}.parallelism", parallelism, text))
    if completions is not None and most is not None and most > completions:
        text = "must be less than or equal to completions"
        out.append(FieldError.invalid(f"{path}.maxFailedIndexes", most, text))
    if most is not None and most > _MAX_INDEXED:
        text = f"must be less than or equal to {_MAX_INDEXED}"
        out.append(FieldError.invalid(f"{path}.maxFailedIndexes", most, text))
    if completions is not None and completions > _MAX_INDEXED and limit is not None:
        _very_many(parallelism, most, path, out)


def _very_many(parallelism: int | None, most: int | None, path: str, out: Errors) -> None:
    """Limits of jobs with more indexes than can all be told of."""
    if most is None:
        text = f"must be specified when completions is above {_MAX_INDEXED}"
        out.append(FieldError.required(f"{path}.maxFailedIndexes", text))
    for key, value in (("parallelism", parallelism), ("maxFailedIndexes", most)):
        if value is not None and value > _MAX_OF_MANY:
            text = (
                f"must be less than or equal to {_MAX_OF_MANY} when completions are above {_MAX_INDEXED} and used "
                "with backoff limit per index"
            )
            out.append(FieldError.invalid(f"{path}.{key}", value, text))


def _manager(name: str, path: str, out: Errors) -> None:
    common.domain_prefixed_path(name, path, out)
    if len(name.encode()) > _MAX_MANAGER:
        out.append(FieldError.too_long(path, "", _MAX_MANAGER))


def job_spec(spec: Obj, path: str, out: Errors) -> None:
    """What Jobs and the jobs of CronJobs have in common."""
    for key in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
                "backoffLimitPerIndex", "maxFailedIndexes"):  # fmt: skip
        common.non_negative(spec, key, path, out)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        out.append(FieldError.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.get("managedBy") is not None:
        _manager(spec["managedBy"], f"{path}.managedBy", out)
    _indexed(spec, path, out)
    job_policies.failure(spec, path, out)
    job_policies.success(spec, path, out)
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
        if replacement not in allowed:
            out.append(FieldError.not_supported(f"{path}.podReplacementPolicy", replacement, allowed))
    template = spec.get("template")
    pods.template(template, f"{path}.template", out, restart=())
    _restarts(((template or {}).get("spec") or {}).get("restartPolicy"), spec, f"{path}.template.spec", out)


def _restarts(policy: str | None, spec: Obj, path: str, out: Errors) -> None:
    at = f"{path}.restartPolicy"
    if policy in (None, "", "Always"):
        out.append(FieldError.required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        out.append(FieldError.not_supported(at, policy, ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        out.append(FieldError.invalid(at, policy, text))


def _generated(obj: Obj, spec: Obj, labels: Obj, out: Errors) -> None:
    """A selector that the server made names this job alone, and the template carries its labels."""
    uid, name = obj["metadata"].get("uid") or "", obj["metadata"].get("name") or ""
    expected = {_CONTROLLER_UID: uid, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name}
    for key, value in expected.items():
        at = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            out.append(FieldError.required(at, f"must be '{value}'"))
        elif labels[key] != value:
            out.append(FieldError.invalid(at, labels, f"must be '{value}'"))
    if common.selector_matches(spec["selector"], expected) is False:
        out.append(FieldError.invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))


def _job(obj: Obj, out: Errors) -> None:
    spec = obj.get("spec") or {}
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    job_spec(spec, "spec", out)
    if selector is None:
        out.append(FieldError.required("spec.selector"))
        return
    common.label_selector(selector, "spec.selector", out)
    if common.selector_matches(selector, labels) is False:
        text = "`selector` does not match template `labels`"
        out.append(FieldError.invalid("spec.template.metadata.labels", labels, text))


@on_create("batch", "Job")
def job(obj: Obj) -> Errors:
    """A Job."""
    out: Errors = []
    spec = obj.get("spec") or {}
    if spec.get("selector") is not None and not spec.get("manualSelector"):
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        _generated(obj, spec, labels, out)
    _job(obj, out)
    completions = spec.get("completions") or 0
    if spec.get("completionMode") == "Indexed" and completions > 0:
        name = obj["metadata"].get("name") or ""
        host = f"{name}-{completions - 1}"
        if names.dns1123_label(host):
            text = f"will not able to create pod with invalid DNS label: {host}"
            out.append(FieldError.invalid("metadata.name", name, text))
    return out


_JOB_IMMUTABLE = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_WHILE_SUSPENDED = ("nodeSelector", "tolerations", "schedulingGates")


def _may_move(old: Obj) -> bool:
    """Whether the job stands still, so that where its pods run, and with how much, may change."""
    state = old.get("status") or {}
    if not (old.get("spec") or {}).get("suspend") or state.get("active"):
        return False
    return state.get("startTime") is None or any(
        one.get("type") == "Suspended" and one.get("status") == "True" for one in state.get("conditions") or ()
    )


def _with_own_resources(spec: Obj, before: Obj) -> Obj:
    """*before* with the resources of the containers of *spec* that are the same ones."""
    found = dict(before)
    for key in ("containers", "initContainers"):
        now, was = spec.get(key) or [], before.get(key) or []
        if len(now) == len(was):
            found[key] = [
                {**old, "resources": new.get("resources")} if new.get("name") == old.get("name") else old
                for new, old in zip(now, was, strict=True)
            ]
    return found


def _template_change(new: Obj, old: Obj, out: Errors) -> None:
    """The template stays; where pods run and what they get may change while the job stands still."""
    wanted, before = (new.get("spec") or {}).get("template") or {}, (old.get("spec") or {}).get("template") or {}
    if wanted == before:
        return
    if not _may_move(old):
        if plain(wanted) != plain(before):
            out.append(FieldError.invalid("spec.template", wanted, common.IMMUTABLE))
        return
    spec, kept = wanted.get("spec") or {}, _with_own_resources(wanted.get("spec") or {}, before.get("spec") or {})
    for key in _WHILE_SUSPENDED:
        kept[key] = spec.get(key)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity")
    kept["affinity"] = {**(kept.get("affinity") or {}), "nodeAffinity": affinity}
    if plain(spec) != plain(kept):
        out.append(FieldError.invalid("spec.template.spec", spec, common.IMMUTABLE))


@on_update("batch", "Job")
def job_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Job."""
    out: Errors = []
    if subresource == "status":
        job_status.changed(new, old, out)
        return out
    _job(new, out)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    completions, had = wanted.get("completions"), before.get("completions")
    if wanted.get("completionMode") != "Indexed":
        common.immutable(completions, had, "spec.completions", out)
    elif completions is not None and completions not in (had, wanted.get("parallelism")):
        text = "can only be modified in tandem with spec.parallelism"
        out.append(FieldError.invalid("spec.completions", completions, text))
    common.immutable(wanted.get("selector"), before.get("selector"), "spec.selector", out)
    _template_change(new, old, out)
    for key in _JOB_IMMUTABLE:
        common.immutable(wanted.get(key), before.get(key), f"spec.{key}", out)
    return out


def _zone(name: str, path: str, out: Errors) -> None:
    if not name:
        out.append(FieldError.invalid(path, name, "timeZone must be nil or non-empty string"))
        return
    unknown = FieldError.invalid(path, name, f"unknown time zone {name}")
    parts = name.split("/")
    if any(part in (".", "..") or part.startswith("-") or not _ZONE_PART.fullmatch(part) for part in parts):
        out.append(unknown)
        return
    if name.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        out.append(FieldError.invalid(path, name, text))
        return
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        out.append(unknown)


def _schedule(spec: Obj, before: Obj | None, out: Errors) -> None:
    schedule = spec.get("schedule") or ""
    at = "spec.schedule"
    if not schedule:
        out.append(FieldError.required(at))
        return
    wrong = schedule_error(schedule)
    if wrong:
        out.append(FieldError.invalid(at, schedule, wrong))
    if "TZ" not in schedule:
        return
    if "TZ" not in ((before or {}).get("schedule") or ""):
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        out.append(FieldError.invalid(at, schedule, text))
    elif spec.get("timeZone") is not None:
        text = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        out.append(FieldError.invalid(at, schedule, text))


def _cron_job(spec: Obj, before: Obj | None, out: Errors) -> None:
    _schedule(spec, before, out)
    common.non_negative(spec, "startingDeadlineSeconds", "spec", out)
    zone = spec.get("timeZone")
    if zone is not None and (before is None or before.get("timeZone") != zone):
        _zone(zone, "spec.timeZone", out)
    allowed = ("Allow", "Forbid", "Replace")
    common.choice(spec.get("concurrencyPolicy"), allowed, "spec.concurrencyPolicy", out, required=True)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    at = "spec.jobTemplate.spec"
    job_spec(template, at, out)
    if template.get("selector") is not None:
        text = "`selector` will be auto-generated"
        out.append(FieldError.invalid(f"{at}.selector", template["selector"], text))
    if template.get("manualSelector"):
        out.append(FieldError.not_supported(f"{at}.manualSelector", True, ("nil", "false")))
    common.non_negative(spec, "successfulJobsHistoryLimit", "spec", out)
    common.non_negative(spec, "failedJobsHistoryLimit", "spec", out)


@on_create("batch", "CronJob")
def cron_job(obj: Obj) -> Errors:
    """A CronJob; the names of its jobs, which end in the time, fit into labels."""
    out: Errors = []
    _cron_job(obj.get("spec") or {}, None, out)
    name = obj["metadata"].get("name") or ""
    if len(name.encode()) > _MAX_CRON_NAME:
        out.append(FieldError.invalid("metadata.name", name, names.max_length(_MAX_CRON_NAME)))
    return out


@on_update("batch", "CronJob")
def cron_job_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CronJob."""
    out: Errors = []
    if subresource != "status":
        _cron_job(new.get("spec") or {}, old.get("spec") or {}, out)
    return out
