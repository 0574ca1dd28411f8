"""Events of both groups, which are one store.

Events of the core group are judged by what old clients may send, those of ``events.k8s.io`` strictly.
Reference: k8s.io/kubernetes ``pkg/apis/core/validation/events.go``.
"""

from __future__ import annotations

from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.comparison import plain
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_NEW = "events.k8s.io"
_LIMIT, _NOTE_LIMIT = 128, 1024
_NO_MATCH = "does not match event.namespace"
# Names of the fields in errors, and in objects of the strict group.
_DEPRECATED = {
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "source": "deprecatedSource",
}
_FIXED = {
    "involvedObject": "regarding",
    "reason": "reason",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "type": "type",
    "eventTime": "eventTime",
    "action": "action",
    "related": "related",
    "reportingController": "reportingController",
    "reportingInstance": "reportingInstance",
}


def _anybody(obj: Obj, *, about: str, controller: str, note: str) -> Errors:
    """What holds for every event; the arguments are the names of fields that differ between the groups."""
    out: Errors = []
    space = obj["metadata"].get("namespace") or ""
    theirs = (obj.get(about) or {}).get("namespace") or ""
    if not obj.get("eventTime"):
        wrong = space != theirs if theirs else space not in ("", "default")
    else:
        wrong = not theirs and space not in ("default", "kube-system")
    if wrong:
        out.append(FieldError.invalid("involvedObject.namespace", theirs, _NO_MATCH))
    if obj.get("eventTime"):
        _reported(obj, controller, note, out)
    return out


def _reported(obj: Obj, controller: str, note: str, out: Errors) -> None:
    name = obj.get(controller) or ""
    if not name:
        out.append(FieldError.required(controller))
    common.messages(names.qualified_name(name), name, controller, out)
    for key in ("reportingInstance", "action", "reason"):
        value = obj.get(key) or ""
        if not value:
            out.append(FieldError.required(key))
        if len(value.encode()) > _LIMIT:
            out.append(FieldError.invalid(key, "", f"can have at most {_LIMIT} characters"))
    if len((obj.get(note) or "").encode()) > _NOTE_LIMIT:
        out.append(FieldError.invalid("message", "", f"can have at most {_NOTE_LIMIT} characters"))


@on_create("", "Event")
def event(obj: Obj) -> Errors:
    """A core Event lives in the namespace of what it is about."""
    return _anybody(obj, about="involvedObject", controller="reportingComponent", note="message")


@on_update("", "Event")
def event_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed core Event: anything of it may change."""
    del old, subresource
    return event(new)


def _strict(obj: Obj) -> Errors:
    return _anybody(obj, about="regarding", controller="reportingController", note="note")


def _series(obj: Obj, out: Errors) -> None:
    series = obj.get("series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        out.append(FieldError.invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        out.append(FieldError.required("series.lastObservedTime"))


@on_create(_NEW, "Event")
def strict_event(obj: Obj) -> Errors:
    """An events.k8s.io Event: complete, and without what only old clients set."""
    out = _strict(obj)
    _series(obj, out)
    if not obj.get("eventTime"):
        out.append(FieldError.required("eventTime"))
    if obj.get("type") not in ("Normal", "Warning"):
        out.append(FieldError.invalid("type", "", f"has invalid value: {obj.get('type') or ''}"))
    for shown, key in _DEPRECATED.items():
        value: Any = obj.get(key)
        if any(value.values()) if isinstance(value, dict) else value:
            out.append(FieldError.invalid(shown, "", "needs to be unset"))
    return out


@on_update(_NEW, "Event")
def strict_event_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed events.k8s.io Event: only how often it was seen may change."""
    del subresource
    out = _strict(new)
    if plain(new.get("series")) != plain(old.get("series")):
        _series(new, out)
    for shown, key in _FIXED.items():
        common.immutable(plain(new.get(key)), plain(old.get(key)), shown, out)
    return out
