"""Jobs: the selector and the labels the API server gives them. DaemonSets: how often their template changed.

Kinds older than garbage collection leave their pods.
"""

from __future__ import annotations

import re
from uuid import uuid4

from orca.api.builtin import DAEMONSETS, JOBS, REPLICATIONCONTROLLERS
from orca.api.defaults.apps import TEMPLATE_GENERATION
from orca.api.errors import bad_request, quote
from orca.api.objects import Obj, ensure_meta
from orca.api.objects import annotations as annotations_of
from orca.api.strategy import register

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
_NUMBER = re.compile(r"[+-]?[0-9]+")
_DIGITS = 19  # of the largest


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
    before = _said(old)
    if _said(new) != before:
        _count(new)
    changed = not subresource and new["spec"].get("template") != old["spec"].get("template")
    # An object from before such words were refused counts from the beginning.
    _put_count(new, max(_parsed(before) or 0, 1) + changed)


def _said(obj: Obj) -> str:
    return annotations_of(obj).get(TEMPLATE_GENERATION, "0")


def _count(obj: Obj) -> int:
    """Raises ApiError 400 for what Go's ParseInt does not take."""
    said = _said(obj)
    found = _parsed(said)
    if found is None:
        why = "value out of range" if _NUMBER.fullmatch(said) else "invalid syntax"
        raise bad_request(f"strconv.ParseInt: parsing {quote(said)}: {why}")
    return found


def _parsed(text: str) -> int | None:
    if not _NUMBER.fullmatch(text) or len(text.lstrip("+-0")) > _DIGITS:
        return None
    found = int(text)
    return found if -(2**63) <= found < 2**63 else None


def _put_count(obj: Obj, count: int) -> None:
    meta = ensure_meta(obj)
    meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: str(count)}


register(DAEMONSETS, prepare_create=_create_daemon_set, prepare_update=_update_daemon_set)
register(JOBS, prepare_create=_create_job, dependents="orphan")
register(REPLICATIONCONTROLLERS, dependents="orphan")
