"""Jobs: the selector and the labels the API server gives them. DaemonSets: how often their template changed.

Kinds older than garbage collection leave their pods.
"""

from __future__ import annotations

from uuid import uuid4

from orca.api.builtin import DAEMONSETS, JOBS, REPLICATIONCONTROLLERS
from orca.api.defaults.apps import TEMPLATE_GENERATION
from orca.api.errors import bad_request
from orca.api.objects import Obj, ensure_meta
from orca.api.objects import annotations as annotations_of
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


def _create_daemon_set(obj: Obj) -> None:
    _put_count(obj, max(_count(obj), 1))


def _update_daemon_set(new: Obj, old: Obj, subresource: str) -> None:
    _count(new)
    changed = not subresource and new["spec"].get("template") != old["spec"].get("template")
    _put_count(new, max(_count(old), 1) + changed)


def _count(obj: Obj) -> int:
    said = annotations_of(obj).get(TEMPLATE_GENERATION, "0")
    try:
        return int(said)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{said}": invalid syntax') from None


def _put_count(obj: Obj, count: int) -> None:
    meta = ensure_meta(obj)
    meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: str(count)}


register(DAEMONSETS, prepare_create=_create_daemon_set, prepare_update=_update_daemon_set)
register(JOBS, prepare_create=_create_job, dependents="orphan")
register(REPLICATIONCONTROLLERS, dependents="orphan")
