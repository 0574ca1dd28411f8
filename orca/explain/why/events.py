"""What events say of an object. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from orca.api.durations import format_duration
from orca.api.objects import Obj, meta
from orca.api.times import parse_time
from orca.explain.why.findings import World


def when(event: Obj) -> str:
    """The last time it happened, as the API writes it."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(
        series or event.get("lastTimestamp") or event.get("eventTime") or meta(event).get("creationTimestamp") or ""
    )


def of(world: World, obj: Obj, reasons: Collection[str] = (), *, container: str = "") -> list[Obj]:
    """Events of an object with one of the reasons (all, when none is named), the oldest first."""
    found = []
    for event in world.events:
        about = event.get("involvedObject") or {}
        if about.get("uid") != meta(obj).get("uid") or (reasons and event.get("reason") not in reasons):
            continue
        if not container or f"{{{container}}}" in (about.get("fieldPath") or ""):
            found.append(event)
    return sorted(found, key=when)


def newest(world: World, obj: Obj, reasons: Collection[str], *, container: str = "") -> Obj | None:
    """The last of them."""
    found = of(world, obj, reasons, container=container)
    return found[-1] if found else None


def text(event: Obj) -> str:
    """Its message on one line."""
    return " ".join(str(event.get("message") or "").split())


def ago(event: Obj, now: datetime) -> str:
    """How often and how long ago: " (3 times, last 12s ago)"; "" when that is unknown."""
    stamp = when(event)
    if not stamp:
        return ""
    count = int((event.get("series") or {}).get("count") or event.get("count") or 1)
    since = format_duration(max(0, int((now - parse_time(stamp)).total_seconds())))
    return f" ({count} times, last {since} ago)" if count > 1 else f" ({since} ago)"


def since(stamp: str | None, now: datetime) -> float:
    """Seconds from a time of the API until now; 0 when there is none."""
    return max(0.0, (now - parse_time(stamp)).total_seconds()) if stamp else 0.0


def last_each(events: Sequence[Obj]) -> list[Obj]:
    """The newest of each reason, in the order of their time."""
    found: dict[str, Obj] = {}
    for event in events:
        found.pop(str(event.get("reason")), None)
        found[str(event.get("reason"))] = event
    return list(found.values())
