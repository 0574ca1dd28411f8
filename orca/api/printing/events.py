"""Events, in both API groups that serve them."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing.columns import Cells, Column, Obj, name, printer, text, wide
from orca.api.printing.duration import UNKNOWN, since

_COLUMNS = (
    text("Last Seen", "When the event was last observed."),
    text("Type", "Normal or Warning."),
    text("Reason", "Why it happened, for machines."),
    text("Object", "What it is about."),
    wide(text("Subobject", "Which part of the object.")),
    wide(text("Source", "Which component reported it, and from where.")),
    text("Message", "What happened, for people."),
    wide(text("First Seen", "When the event was first observed.")),
    wide(text("Count", "How often it was observed.")),
    Column("Name", priority=1, format="name", description="Name of the event."),
)


@printer("", "Event", *_COLUMNS)
@printer("events.k8s.io", "Event", *_COLUMNS)
def event(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get events -o wide``; field names of either group are understood."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    first = since(obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime"), now)
    last_stamp = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    last = since(last_stamp, now) if last_stamp else first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = obj.get("series")
    if series:
        observed = series.get("lastObservedTime")
        last, count = (since(observed, now) if observed else UNKNOWN), series.get("count") or 0
    target = (about.get("kind") or "").lower()
    if about.get("name"):
        target = f"{target}/{about['name']}"
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return [
        last,
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        about.get("fieldPath") or "",
        f"{component}, {host}" if host else component,
        (obj.get("message") or obj.get("note") or "").strip(),
        first,
        count,
        name(obj),
    ]
