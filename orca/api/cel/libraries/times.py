"""Timestamps and durations. Reference: cel-spec ``doc/langdef.md``, Go's ``time.ParseDuration``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare
from orca.api.cel.libraries.standard import duration, timestamp
from orca.api.cel.values import Duration, Timestamp
from orca.api.durations import parse_nanoseconds

_NANO = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)")


def parse_timestamp(text: str) -> Timestamp:
    """From RFC 3339. Raises CelError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise CelError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"')
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    zone = match[8]
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        offset = 0
        if zone not in ("Z", "z"):
            offset = (int(zone[1:3]) * 60 + int(zone[4:6])) * 60
            if zone[0] == "-":
                offset = -offset
    except ValueError as error:
        raise CelError(f'parsing time "{text}": {error}') from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - offset
    nanos = int((match[7] or ".0")[1:10].ljust(9, "0"))
    return timestamp(seconds * _NANO + nanos)


def parse_duration(text: str) -> Duration:
    """From Go's form, ``1h30m``. Raises CelError."""
    try:
        return duration(parse_nanoseconds(text))
    except ValueError as error:
        raise CelError(str(error)) from None


def show_timestamp(value: Timestamp) -> str:
    """RFC 3339 in UTC, with as much of the fraction as there is."""
    seconds, nanos = divmod(value.nanos, _NANO)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{text}{fraction}Z"


def show_duration(value: Duration) -> str:
    """Seconds: ``5400s``, ``0.5s``."""
    sign = "-" if value.nanos < 0 else ""
    seconds, nanos = divmod(abs(value.nanos), _NANO)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{sign}{seconds}{fraction}s"


def _zone(name: str) -> tzinfo:
    match = _OFFSET.fullmatch(name)
    if match is not None:
        delta = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-delta if match[1] == "-" else delta)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise CelError(f"unknown time zone {name}") from None


def _local(value: Timestamp, zone: str = "UTC") -> datetime:
    where = UTC if zone in ("UTC", "") else _zone(zone)
    moment = _EPOCH + timedelta(seconds=value.nanos // _NANO)
    try:
        return moment.astimezone(where)
    except OverflowError:
        raise CelError("timestamp overflow") from None


def _milliseconds(value: Timestamp, zone: str = "UTC") -> int:
    return value.nanos % _NANO // 1_000_000


_PARTS: dict[str, Any] = {
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDate": lambda t: t.day,
    "getDayOfWeek": lambda t: t.isoweekday() % 7,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
}


def _part(read: Any) -> Any:
    return lambda value, zone="UTC": read(_local(value, zone))


def _whole(unit: int) -> Any:
    def run(value: Duration) -> int:
        whole = abs(value.nanos) // unit
        return -whole if value.nanos < 0 else whole

    return run


for _name, _read in _PARTS.items():
    declare(_name, "timestamp.() -> int; timestamp.(string) -> int", _part(_read))
declare("getMilliseconds", "timestamp.() -> int; timestamp.(string) -> int", _milliseconds)
declare("getHours", "duration.() -> int", _whole(3600 * _NANO))
declare("getMinutes", "duration.() -> int", _whole(60 * _NANO))
declare("getSeconds", "duration.() -> int", _whole(_NANO))
declare("getMilliseconds", "duration.() -> int", _whole(1_000_000))
declare("timestamp", "(string) -> timestamp", parse_timestamp)
declare("timestamp", "(timestamp) -> timestamp", lambda value: value)
declare("timestamp", "(int) -> timestamp", lambda value: timestamp(value * _NANO))
declare("duration", "(string) -> duration", parse_duration)
declare("duration", "(duration) -> duration", lambda value: value)
declare("duration", "(int) -> duration", lambda value: duration(value))
