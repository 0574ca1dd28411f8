"""What may be written into a Job's status: by this server's controller, or by another that ``managedBy`` names.

Reference: k8s.io/kubernetes ``pkg/apis/batch/validation`` ValidateJobStatusUpdate and the options that
``pkg/registry/batch/job`` chooses: what did not change is let be, as older servers stored it.
"""

from __future__ import annotations

from orca.api.errors import FieldError
from orca.api.times import parse_time
from orca.api.validation import common
from orca.api.validation.job_policies import IndexesError, intervals
from orca.api.validation.registry import Errors, Obj

_CONDITIONS = "status.conditions"
_COUNTS = ("active", "succeeded", "failed", "ready", "terminating")


def _true(status: Obj) -> set[str]:
    return {one.get("type") or "" for one in status.get("conditions") or () if one.get("status") == "True"}


def _uncounted(status: Obj, out: Errors) -> None:
    seen = set()
    for kind in ("succeeded", "failed"):
        for i, uid in enumerate((status.get("uncountedTerminatedPods") or {}).get(kind) or ()):
            at = f"status.uncountedTerminatedPods.{kind}[{i}]"
            if not uid:
                out.append(FieldError.invalid(at, uid, "must not be empty"))
            elif uid in seen:
                out.append(FieldError.duplicate(at, uid))
            seen.add(uid)


class _Change:
    """A status, the one before, and what became true between them."""

    def __init__(self, new: Obj, old: Obj) -> None:
        self.now, self.was = new.get("status") or {}, old.get("status") or {}
        self.spec = new.get("spec") or {}
        self.true, self.before = _true(self.now), _true(self.was)

    def moved(self, *keys: str) -> bool:
        """Whether one of the fields, or of the conditions (upper case), differs from before."""
        return any(
            (key in self.true) != (key in self.before) if key[0].isupper() else self.now.get(key) != self.was.get(key)
            for key in keys
        )


def _refuse(out: Errors, text: str) -> None:
    out.append(FieldError.invalid_without_value(_CONDITIONS, text))


def _conditions(change: _Change, out: Errors) -> None:
    true, before = change.true, change.before
    pairs = (
        ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
        ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
        ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        ("SuccessCriteriaMet", "FailureTarget", "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
    )
    for one, other, text in pairs:
        if {one, other} <= true and change.moved(one, other):
            _refuse(out, text)
    if "Failed" in true and "FailureTarget" not in true and change.moved("Failed", "FailureTarget"):
        _refuse(out, "cannot set Failed=True condition without the FailureTarget=true condition")
    if "Complete" in true and "SuccessCriteriaMet" not in true and change.moved("Complete", "SuccessCriteriaMet"):
        _refuse(out, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
    for kind in ("Failed", "Complete", "FailureTarget"):
        if kind in before and kind not in true:
            _refuse(out, f"cannot disable the terminal {kind}=True condition")
    if "SuccessCriteriaMet" in before and "SuccessCriteriaMet" not in true:
        _refuse(out, "cannot disable the SuccessCriteriaMet=True condition")


def _times(change: _Change, out: Errors) -> None:
    now, was = change.now, change.was
    start, end = now.get("startTime"), now.get("completionTime")
    complete = "Complete" in change.true
    if change.moved("Complete", "completionTime"):
        if end is not None and not complete:
            text = "cannot set completionTime when there is no Complete=True condition"
            out.append(FieldError.invalid("status.completionTime", end, text))
        if end is None and complete:
            text = "completionTime is required for Complete jobs"
            out.append(FieldError.required("status.completionTime", text))
    if start and end and change.moved("startTime", "completionTime") and parse_time(end) < parse_time(start):
        text = "must be equal to or after `startTime`"
        out.append(FieldError.invalid("status.completionTime", end, text))
    if end is not None and was.get("completionTime") is not None and end != was["completionTime"]:
        out.append(FieldError.invalid("status.completionTime", end, common.IMMUTABLE))
    # One that is resumed begins anew, in the write that says so.
    resumed = "Suspended" in change.before and "Suspended" not in change.true
    fixed = was.get("startTime") is not None and not change.spec.get("suspend") and not resumed
    if fixed and change.moved("startTime"):
        text = "field is immutable for unsuspended job once set"
        out.append(FieldError.invalid("status.startTime", start, text))


def _finished(change: _Change, out: Errors) -> None:
    now = change.now
    if not change.true & {"Complete", "Failed"}:
        return
    new = change.moved("Complete", "Failed")
    for key in ("active", "terminating"):
        if (now.get(key) or 0) > 0 and (new or change.moved(key)):
            text = f"{key}>0 is invalid for finished job"
            out.append(FieldError.invalid(f"status.{key}", now[key], text))
    if now.get("startTime") is None and (new or change.moved("startTime")):
        out.append(FieldError.required("status.startTime", "startTime is required for finished job"))
    waiting = now.get("uncountedTerminatedPods") or {}
    if any(waiting.values()) and (new or change.moved("uncountedTerminatedPods")):
        text = "must be empty for finished job"
        out.append(FieldError.invalid("status.uncountedTerminatedPods", waiting, text))


def _parsed(key: str, change: _Change, out: Errors) -> list[tuple[int, int]]:
    text = change.now.get(key) or ""
    try:
        return list(intervals(text, change.spec.get("completions") or 0))
    except IndexesError as error:
        if change.moved(key):
            out.append(FieldError.invalid(f"status.{key}", text, f"error parsing {key}: {error}"))
        return []


def _indexes(change: _Change, out: Errors) -> None:
    done, failed = change.now.get("completedIndexes") or "", change.now.get("failedIndexes")
    if not done and failed is None:
        return
    if done and change.spec.get("completionMode") != "Indexed" and change.moved("completedIndexes"):
        text = "cannot set non-empty completedIndexes when non-indexed completion mode"
        out.append(FieldError.invalid("status.completedIndexes", done, text))
    limited = change.spec.get("backoffLimitPerIndex") is not None
    if failed is not None and not limited and change.moved("failedIndexes"):
        text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        out.append(FieldError.invalid("status.failedIndexes", failed, text))
    if change.spec.get("completions") is None or not change.moved("completedIndexes", "failedIndexes"):
        return
    left = _parsed("completedIndexes", change, out)
    right = _parsed("failedIndexes", change, out) if limited else []
    i = j = 0
    while i < len(left) and j < len(right):
        first, last = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if first <= last:
            text = f"failedIndexes and completedIndexes overlap at index: {first}"
            out.append(FieldError.invalid("status.failedIndexes", failed, text))
            return
        i, j = (i + 1, j) if left[i][0] <= right[j][0] else (i, j + 1)


def changed(new: Obj, old: Obj, out: Errors) -> None:
    """The status of *new* where it differs from that of *old*."""
    change = _Change(new, old)
    now, was = change.now, change.was
    for key in _COUNTS:
        common.non_negative(now, key, "status", out)
    if now.get("uncountedTerminatedPods"):
        _uncounted(now, out)
    if change.true or change.before:
        _conditions(change, out)
    _times(change, out)
    _finished(change, out)
    _indexes(change, out)
    if (now.get("ready") or 0) > (now.get("active") or 0) and change.moved("ready", "active"):
        text = "cannot set more ready pods than active"
        out.append(FieldError.invalid("status.ready", now.get("ready") or 0, text))
    if (now.get("failed") or 0) < (was.get("failed") or 0):
        out.append(FieldError.invalid("status.failed", now.get("failed") or 0, "cannot decrease the failed counter"))
    spec = change.spec
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not elastic and (now.get("succeeded") or 0) < (was.get("succeeded") or 0):
        text = "cannot decrease the succeeded counter"
        out.append(FieldError.invalid("status.succeeded", now.get("succeeded") or 0, text))
