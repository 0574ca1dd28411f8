"""The pod of a job. Pure."""

from orca.api.builtin import JOBS
from orca.api.objects import Obj, annotations, finalizers, name
from orca.controllers.job.indexes import INDEX
from orca.controllers.podcontrol import pod_from_template

TRACKING = "batch.kubernetes.io/job-tracking"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
INDEX_ENV = "JOB_COMPLETION_INDEX"
_LONGEST_PREFIX = 58
"""Of a pod's name: the server adds 5 characters, and the name must stay a host name."""


def is_tracked(pod: Obj) -> bool:
    """Its end has not been counted for good."""
    return TRACKING in finalizers(pod)


def count_of(pod: Obj, annotation: str) -> int:
    """Failures of the index before this pod."""
    text = annotations(pod).get(annotation, "")
    return int(text) if text.isdigit() else 0


def make_pod(job: Obj, index: int | None, last_failed: Obj | None = None, *, ignored: bool = False) -> Obj:
    """The pod to create; `last_failed` is the one of the same index it replaces, `ignored` that it is not counted."""
    pod = pod_from_template(JOBS, job, job["spec"]["template"])
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["finalizers"] = [*(one for one in metadata.get("finalizers", ()) if one != TRACKING), TRACKING]
    if index is None:
        return pod
    suffix = f"-{index}-"
    metadata["generateName"] = name(job)[: _LONGEST_PREFIX - len(suffix)] + suffix
    metadata["labels"] = {**metadata.get("labels", {}), INDEX: str(index)}
    notes = metadata["annotations"] = {**metadata.get("annotations", {}), INDEX: str(index)}
    if job["spec"].get("backoffLimitPerIndex") is not None:
        failures = count_of(last_failed, FAILURES) if last_failed else 0
        skipped = count_of(last_failed, IGNORED) if last_failed else 0
        notes[FAILURES] = str(failures + (last_failed is not None and not ignored))
        if skipped or ignored:
            notes[IGNORED] = str(skipped + ignored)
    spec["hostname"] = f"{name(job)}-{index}"
    source = {"name": INDEX_ENV, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}}
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        env = container.get("env") or []
        if all(one["name"] != INDEX_ENV for one in env):
            container["env"] = [*env, source]
    return pod
