"""What objects and events tell of a workload's life, in the order in which it happened. Pure.

Times of the API are whole seconds, so within one second things are put in the order in which they follow from each
other. What is gone is known from events alone (see ``gone``), for as long as they are kept. Something that happened
again and again is told when it happened first and when it happened last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from orca.api.objects import Obj, meta, name, uid
from orca.api.times import parse_time
from orca.explain.timeline.gone import Gone

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
    """One thing that happened. ``count``: it was the last of so many times; the first is an entry of its own."""

    at: datetime
    about: str
    what: str
    says: str = ""
    warning: bool = False
    count: int = 1


def tell(objects: Sequence[Obj], events: Iterable[Obj], *, since: datetime | None = None) -> list[Entry]:
    """``objects`` are the workload (the first one) and all it owns or uses, ``events`` those of its namespace."""
    listed = list(events)
    concerned = {uid(obj) for obj in objects}
    gone = Gone(objects, listed)
    told = [one for one in listed if (one.get("involvedObject") or {}).get("uid") in concerned or gone.concerns(one)]
    found = [entry for event in told for entry in _of_event(event)]
    starts = {(entry.about, entry.at) for entry in found if entry.what == "Started"}
    for obj in objects:
        # Objects tell the last start of a container; events mostly do so as well.
        found += [one for one in _of_object(obj) if one.what != "started" or not _is_near(one, starts)]
    return sorted((entry for entry in found if since is None or entry.at >= since), key=_when)


def _is_near(entry: Entry, starts: Collection[tuple[str, datetime]]) -> bool:
    return any(about == entry.about and abs((at - entry.at).total_seconds()) <= 2 for about, at in starts)


def _when(entry: Entry) -> tuple[datetime, int, str, str]:
    what = f"{entry.about.partition('/')[0]} {entry.what}"
    return entry.at, _RANK.get(what, _RANK.get(entry.what, len(_ORDER))), entry.about, entry.says


def _of_object(obj: Obj) -> Iterator[Entry]:
    about = title(obj["kind"], name(obj))
    yield Entry(parse_time(meta(obj)["creationTimestamp"]), about, "created")
    status = obj.get("status") or {}
    for one in status.get("conditions") or ():
        # A Deployment's Progressing goes on without a transition, as from "progressing" to "has progressed".
        at = one.get("lastUpdateTime") or one.get("lastTransitionTime")
        if not at or (obj["kind"] == "Pod" and one["type"] in _TOLD_BY_EVENTS):
            continue
        state = {"True": "", "False": "not ", "Unknown": "unknown: "}.get(one.get("status"), "")
        because = ": ".join(text for text in (one.get("reason"), one.get("message")) if text)
        bad = one.get("status") != "True" and one["type"] in ("Ready", "Available", "Progressing")
        yield Entry(parse_time(at), about, f"{state}{one['type']}", because, warning=bad)
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(field) or ():
            yield from _of_container(f"{about}/{one['name']}", one)
    if meta(obj).get("deletionTimestamp"):
        yield Entry(parse_time(meta(obj)["deletionTimestamp"]), about, "to be gone", "its grace period ends")


def _of_container(about: str, one: Obj) -> Iterator[Entry]:
    for state in (one.get("lastState") or {}, one.get("state") or {}):
        if running := state.get("running"):
            if running.get("startedAt"):
                yield Entry(parse_time(running["startedAt"]), about, "started")
        elif ended := state.get("terminated"):
            if ended.get("startedAt"):
                yield Entry(parse_time(ended["startedAt"]), about, "started")
            if ended.get("finishedAt"):
                code = ended.get("exitCode")
                says = f"exit code {code}, {ended.get('reason') or ''}".rstrip(", ")
                yield Entry(parse_time(ended["finishedAt"]), about, "ended", says, warning=bool(code))


def _of_event(event: Obj) -> Iterator[Entry]:
    series = event.get("series") or {}
    first = event.get("firstTimestamp") or event.get("eventTime") or meta(event).get("creationTimestamp")
    if not first:
        return
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or first
    about = event.get("involvedObject") or {}
    count = int(series.get("count") or event.get("count") or 1)
    at, until = parse_time(first), parse_time(last)
    field = str(about.get("fieldPath") or "").partition("{")[2].rstrip("}")
    says = " ".join(str(event.get("message") or "").split())
    whom = title(str(about.get("kind") or ""), str(about.get("name") or "")) + (f"/{field}" if field else "")
    warning = event.get("type") == "Warning"
    yield Entry(at, whom, str(event.get("reason") or ""), says, warning)
    if count > 1 and until > at:
        yield Entry(until, whom, str(event.get("reason") or ""), says, warning, count)


def title(kind: str, called: str) -> str:
    """ "kind/name"."""
    return f"{kind.lower()}/{called}"
