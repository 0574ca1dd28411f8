"""What objects and events tell of a workload's life, in the order in which it happened. Pure.

Times of the API are whole seconds, so within one second things are put in the order in which they follow from each
other. Pods that are gone are known from their events alone, for as long as events are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from orca.api.objects import Obj, meta, name, uid
from orca.api.times import parse_time

_ORDER = (
    "created",
    "ScalingReplicaSet",
    "replicaset created",
    "job created",
    "SuccessfulCreate",
    "pod created",
    "FailedScheduling",
    "Scheduled",
    "PodScheduled",
    "Pulling",
    "Pulled",
    "Created",
    "Started",
    "started",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    "Unhealthy",
    "Killing",
    "deleted",
    "ended",
    "BackOff",
    "SuccessfulDelete",
)
_RANK = {what: place for place, what in enumerate(_ORDER)}
_TOLD_BY_EVENTS = frozenset({"PodScheduled", "PodReadyToStartContainers", "ContainersReady"})
"""Conditions of pods that add nothing to what events and other conditions say."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. ``until`` and ``count``: it happened again, the last time then."""

    at: datetime
    about: str
    what: str
    says: str = ""
    warning: bool = False
    until: datetime | None = None
    count: int = 1


def tell(objects: Sequence[Obj], events: Iterable[Obj], *, since: datetime | None = None) -> list[Entry]:
    """``objects`` are the workload and all it owns, ``events`` those of its namespace."""
    found = [entry for obj in objects for entry in _of_object(obj)]
    concerned = {uid(obj) for obj in objects}
    prefixes = tuple(f"{name(obj)}-" for obj in objects if obj["kind"] != "Pod")
    for event in events:
        about = event.get("involvedObject") or {}
        gone = about.get("kind") == "Pod" and str(about.get("name") or "").startswith(prefixes) and bool(prefixes)
        if about.get("uid") in concerned or gone:
            entry = _of_event(event)
            if entry is not None:
                found.append(entry)
    found = [entry for entry in found if since is None or (entry.until or entry.at) >= since]
    return sorted(found, key=_when)


def _when(entry: Entry) -> tuple[datetime, int, str, str]:
    what = f"{entry.about.partition('/')[0]} {entry.what}"
    return entry.at, _RANK.get(what, _RANK.get(entry.what, len(_ORDER))), entry.about, entry.says


def _of_object(obj: Obj) -> Iterator[Entry]:
    about = title(obj["kind"], name(obj))
    yield Entry(parse_time(meta(obj)["creationTimestamp"]), about, "created")
    status = obj.get("status") or {}
    for one in status.get("conditions") or ():
        if not one.get("lastTransitionTime") or (obj["kind"] == "Pod" and one["type"] in _TOLD_BY_EVENTS):
            continue
        state = {"True": "", "False": "not ", "Unknown": "unknown: "}.get(one.get("status"), "")
        because = ": ".join(text for text in (one.get("reason"), one.get("message")) if text)
        bad = one.get("status") != "True" and one["type"] in ("Ready", "Available", "Progressing")
        yield Entry(parse_time(one["lastTransitionTime"]), about, f"{state}{one['type']}", because, warning=bad)
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(field) or ():
            yield from _of_container(about, one)
    if meta(obj).get("deletionTimestamp"):
        yield Entry(parse_time(meta(obj)["deletionTimestamp"]), about, "to be gone", "its grace period ends")


def _of_container(about: str, one: Obj) -> Iterator[Entry]:
    for state in (one.get("lastState") or {}, one.get("state") or {}):
        if running := state.get("running"):
            if running.get("startedAt"):
                yield Entry(parse_time(running["startedAt"]), about, "started", f"container {one['name']}")
        elif ended := state.get("terminated"):
            if ended.get("startedAt"):
                yield Entry(parse_time(ended["startedAt"]), about, "started", f"container {one['name']}")
            if ended.get("finishedAt"):
                code = ended.get("exitCode")
                says = f"container {one['name']}: exit code {code}, {ended.get('reason') or ''}".rstrip(", ")
                yield Entry(parse_time(ended["finishedAt"]), about, "ended", says, warning=bool(code))


def _of_event(event: Obj) -> Entry | None:
    series = event.get("series") or {}
    first = event.get("firstTimestamp") or event.get("eventTime") or meta(event).get("creationTimestamp")
    if not first:
        return None
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or first
    about = event.get("involvedObject") or {}
    count = int(series.get("count") or event.get("count") or 1)
    at, until = parse_time(first), parse_time(last)
    field = str(about.get("fieldPath") or "").partition("{")[2].rstrip("}")
    says = " ".join(str(event.get("message") or "").split())
    return Entry(
        at,
        title(str(about.get("kind") or ""), str(about.get("name") or "")) + (f"/{field}" if field else ""),
        str(event.get("reason") or ""),
        says,
        warning=event.get("type") == "Warning",
        until=until if until > at else None,
        count=count,
    )


def title(kind: str, called: str) -> str:
    """ "kind/name"."""
    return f"{kind.lower()}/{called}"
