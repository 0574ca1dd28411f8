"""Ages and durations as kubectl shows them ("5m12s", "3d", "2y100d")."""

from __future__ import annotations

from datetime import datetime, timedelta

from orca.api.times import human_duration

UNKNOWN = "<unknown>"


def human(seconds: float) -> str:
    """*seconds* shortened to two or three significant figures."""
    return human_duration(timedelta(seconds=seconds))


def since(stamp: str | None, now: datetime) -> str:
    """Age of an RFC 3339 *stamp*; ``<unknown>`` when there is none or it cannot be read."""
    if not stamp:
        return UNKNOWN
    try:
        return human_duration(now - datetime.fromisoformat(stamp))
    except (ValueError, TypeError):
        return UNKNOWN


def between(start: str | None, end: str | None, now: datetime) -> str:
    """Time from *start* to *end*, or to *now* while it has not ended; empty before it starts."""
    if not start:
        return ""
    try:
        last = datetime.fromisoformat(end) if end else now
        return human_duration(last - datetime.fromisoformat(start))
    except (ValueError, TypeError):
        return UNKNOWN
