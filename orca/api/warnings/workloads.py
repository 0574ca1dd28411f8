"""Pods, and what makes pods from templates.

A template is looked at when the desired state changes, a pod at its birth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orca.api import names
from orca.api.objects import Obj, meta
from orca.api.templates import Faultless, encoding
from orca.api.warnings.pods import claim
from orca.api.warnings.pods import pod as pod_warnings
from orca.api.warnings.registry import Rule, warns

_faultless = Faultless()
_SURPRISE = "which can result in surprising behavior; a DNS label is recommended"


def _label(obj: Obj, used_in: str) -> Iterator[str]:
    wrong = names.dns1123_label(meta(obj).get("name") or "")
    if wrong:
        yield f"metadata.name: this is used in {used_in}, {_SURPRISE}: [{' '.join(wrong)}]"


@warns("", "Pod")
def pod(new: Obj, old: Obj | None) -> Iterator[str]:
    """Only at birth: people seldom change pods themselves."""
    if old is None:
        yield from _label(new, "the Pod's hostname")
        yield from _of_pod(meta(new), new.get("spec") or {})


def _of_pod(fields: Obj, spec: Obj) -> Iterator[str]:
    key = None if fields.get("annotations") else encoding(spec)
    if key in _faultless:
        return
    faultless = True
    for text in pod_warnings(fields, spec, ""):
        faultless = False
        yield text
    if faultless and key is not None:
        _faultless.add(key)


def _desire_kept(new: Obj, old: Obj | None) -> bool:
    return old is not None and meta(new).get("generation") == meta(old).get("generation")


def _templated(*steps: str, named: bool) -> Rule:
    """A kind with a pod template at ``spec.<steps>``; *named*: its name becomes part of names of pods."""

    def rule(new: Obj, old: Obj | None) -> Iterator[str]:
        if old is None and named:
            yield from _label(new, "Pod names and hostnames")
        if _desire_kept(new, old):
            return
        found = new.get("spec") or {}
        for step in steps:
            found = found.get(step) or {}
        at = ".".join(("spec", *steps)) + "."
        yield from pod_warnings(found.get("metadata") or {}, found.get("spec") or {}, at)

    return rule


_deployment: Callable[[Obj, Obj | None], Iterator[str]] = _templated("template", named=True)
warns("apps", "Deployment", "ReplicaSet")(_deployment)
warns("", "ReplicationController")(_deployment)
warns("apps", "DaemonSet")(_templated("template", named=False))


@warns("", "PodTemplate")
def pod_template(new: Obj, old: Obj | None) -> Iterator[str]:
    """The template alone."""
    if not _desire_kept(new, old):
        found = new.get("template") or {}
        yield from pod_warnings(found.get("metadata") or {}, found.get("spec") or {}, "template.")


_STATEFUL = _templated("template", named=True)


@warns("apps", "StatefulSet")
def stateful_set(new: Obj, old: Obj | None) -> Iterator[str]:
    """The template, the claims, and how much history is kept."""
    yield from _STATEFUL(new, old)
    spec = new.get("spec") or {}
    if not _desire_kept(new, old):
        for i, template in enumerate(spec.get("volumeClaimTemplates") or ()):
            yield from claim(template.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec")
    if (spec.get("revisionHistoryLimit") or 0) < 0:
        yield (
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
        )


_JOB = _templated("template", named=True)
_MANY, _WIDE = 100_000, 10_000


@warns("batch", "Job")
def job(new: Obj, old: Obj | None) -> Iterator[str]:
    """The template, and indexes that are too many to be told apart when they fail."""
    yield from _JOB(new, old)
    spec = new.get("spec") or {}
    many = (spec.get("completions") or 0) > _MANY and (spec.get("parallelism") or 0) > _WIDE
    if old is None and spec.get("completionMode") == "Indexed" and many:
        yield (
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
            "Kubernetes might not be able to track completionIndexes when a big number of indexes fail"
        )


_CRON_JOB = _templated("jobTemplate", "spec", "template", named=False)


@warns("batch", "CronJob")
def cron_job(new: Obj, old: Obj | None) -> Iterator[str]:
    """The template, and time zones in the schedule."""
    if old is None:
        yield from _label(new, "Pod names and hostnames")
    yield from _CRON_JOB(new, old)
    if old is not None and "TZ" in str((new.get("spec") or {}).get("schedule") or ""):
        yield (
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see "
            "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        )
