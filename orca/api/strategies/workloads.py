"""Jobs: the selector and the labels the API server gives them. Kinds older than garbage collection leave their pods."""

from __future__ import annotations

from uuid import uuid4

from orca.api.builtin import JOBS, REPLICATIONCONTROLLERS
from orca.api.objects import Obj, ensure_meta
from orca.api.strategy import register

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"


def _create_job(obj: Obj) -> None:
    """A selector that no other job can share: by uid, which therefore has to be known here."""
    spec = obj.setdefault("spec", {})
    template = spec.get("template")
    own = (spec.get("selector") or {}).get("matchLabels") or {}
    if spec.get("manualSelector") or template is None or (spec.get("selector") and set(own) != {CONTROLLER_UID}):
        return
    meta = ensure_meta(obj)
    uid, name = meta.setdefault("uid", str(uuid4())), meta.get("name") or ""
    labels = ensure_meta(template).setdefault("labels", {})
    labels.update({CONTROLLER_UID: uid, JOB_NAME: name, "controller-uid": uid, "job-name": name})
    spec["selector"] = {"matchLabels": {CONTROLLER_UID: uid}}


register(JOBS, prepare_create=_create_job, dependents="orphan")
register(REPLICATIONCONTROLLERS, dependents="orphan")
