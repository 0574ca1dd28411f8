"""A story for people (coloured on a terminal, plain in a pipe) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import orjson
from rich.console import Console
from rich.text import Text

from orca.api.durations import format_duration
from orca.explain.timeline.story import Entry


def show(console: Console, entries: Sequence[Entry], *, since: datetime | None = None) -> None:
    """Time of day, time since the beginning, whom it is about, what happened. ``since``: nobody asked for what was
    before."""
    if not entries:
        of_when = f"of its time since {since:%H:%M:%S} UTC" if since else "of it"
        console.print(f"nothing is known {of_when} (events are kept for an hour)")
        return
    began, day = entries[0].at, None
    width = min(max(len(entry.about) for entry in entries), 48)
    for entry in entries:
        if entry.at.date() != day:
            day = entry.at.date()
            console.print(Text(f"{day:%Y-%m-%d} (UTC)", style="dim"))
        elapsed = format_duration(int((entry.at - began).total_seconds()))
        style = "yellow" if entry.warning else ""
        line = Text.assemble(
            f"{entry.at:%H:%M:%S} ",
            (f"{'+' + elapsed:>9}  ", "dim"),
            f"{entry.about:<{width}}  ",
            (entry.what, f"bold {style}".strip()),
            (f"  {entry.says}" if entry.says else "", style),
            (_again(entry), "dim"),
        )
        console.print(line, soft_wrap=True)


def _again(entry: Entry) -> str:
    return f"  (the last of {entry.count} times)" if entry.count > 1 else ""


def as_json(entries: Sequence[Entry]) -> bytes:
    """A list of entries."""
    return orjson.dumps([asdict(entry) for entry in entries], option=orjson.OPT_INDENT_2, default=_text)


def _text(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
