"""When a schedule fires, with the semantics of robfig/cron v3 that upstream uses. Pure.

Every minute whose wall clock in the time zone matches is a time of the schedule: one that a clock change leaves out
never comes, one that comes twice counts twice. Day of month and day of week both have to match when one of them is
`*`, else either. The libraries for Python differ in these points.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count
from zoneinfo import ZoneInfo

from orca.api.durations import parse_duration

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MINUTE = timedelta(minutes=1)
_HORIZON = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule; with `every` it has no calendar but a pace in seconds."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both_days: bool
    zone: tzinfo
    every: float = 0

    def next(self, after: datetime) -> datetime | None:
        """The first time later than `after`, in UTC; None when there is none within five years."""
        if self.every:
            return after.replace(microsecond=0) + timedelta(seconds=self.every)
        when = after.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        end = when + _HORIZON
        while when < end:
            local = when.astimezone(self.zone)
            if not self._day(local):
                when = max(_midnight(local, self.zone), when + _MINUTE)
            elif local.hour not in self.hours:
                when += _MINUTE * (60 - local.minute)
            elif local.minute not in self.minutes:
                when += _MINUTE
            else:
                return when
        return None

    def _day(self, local: datetime) -> bool:
        if local.month not in self.months:
            return False
        of_month, of_week = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return of_month and of_week if self.both_days else of_month or of_week


def _midnight(local: datetime, zone: tzinfo) -> datetime:
    """The beginning of the next day there."""
    day = local.date() + timedelta(days=1)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def parse(text: str, zone: str | None) -> Schedule:
    """Reads a schedule in a zone of the IANA database (UTC without one). ValueError, ZoneInfoNotFoundError."""
    if text.startswith(("TZ=", "CRON_TZ=")):
        given, _, text = text.partition(" ")
        zone = given.partition("=")[2]
    place: tzinfo = ZoneInfo(zone) if zone else UTC
    text = text.strip()
    nothing: frozenset[int] = frozenset()
    if text.startswith("@every "):
        seconds = parse_duration(text.removeprefix("@every ").strip())
        return Schedule(nothing, nothing, nothing, nothing, nothing, True, place, max(float(int(seconds)), 1.0))
    fields = _NAMED.get(text, text).split()
    if len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    starred = any(field.partition("/")[0] in ("*", "?") for field in (fields[2], fields[4]))
    return Schedule(
        _field(fields[0], 0, 59),
        _field(fields[1], 0, 23),
        _field(fields[2], 1, 31),
        _field(fields[3], 1, 12, _MONTHS),
        _field(fields[4], 0, 6, _DAYS),
        starred,
        place,
    )


def _field(text: str, low: int, high: int, words: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()

    def number(word: str) -> int:
        value = words.index(word.lower()) + low if word.lower() in words else int(word)
        if not low <= value <= high:
            raise ValueError(f"{value} is not between {low} and {high}: {text}")
        return value

    for piece in text.split(","):
        bounds, slash, step = piece.partition("/")
        if bounds in ("*", "?"):
            first, last = low, high
        else:
            start, dash, end = bounds.partition("-")
            first = number(start)
            last = number(end) if dash else (high if slash else first)
        pace = int(step) if slash else 1
        if pace < 1 or first > last:
            raise ValueError(f"not a range: {piece}")
        found.update(range(first, last + 1, pace))
    return frozenset(found)


def latest(schedule: Schedule, since: datetime, now: datetime) -> tuple[datetime | None, int]:
    """The last time after `since` and not after `now`, and about how many there were; (None, 0) without any."""
    first = schedule.next(since)
    if first is None or first > now:
        return None, 0
    second = schedule.next(first)
    if second is None or second > now:
        return first, 1
    gap = second - first
    missed = int((now - first) / gap) + 1
    if schedule.every:
        return first + gap * (missed - 1), missed
    found = first
    for power in count(1):
        start = max(now - gap * 2**power, first)
        later = schedule.next(start)
        if later is not None and later <= now:
            found = later
        if found > first or start == first:
            break
    while (after := schedule.next(found)) is not None and after <= now:
        found = after
    return found, missed
