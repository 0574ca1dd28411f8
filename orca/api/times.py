"""Times on the wire: ``metav1.Time`` (seconds) and ``metav1.MicroTime`` (six digits), always UTC."""

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(r"^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$")


def format_time(when: datetime) -> str:
    """``2026-01-02T03:04:05Z``."""
    return when.astimezone(UTC).isoformat(timespec="seconds")[:-6] + "Z"


def format_micro(when: datetime) -> str:
    """``2026-01-02T03:04:05.000006Z``."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_time(text: str) -> datetime:
    """RFC 3339 with or without fraction and offset, to an aware UTC datetime.

    Raises ValueError.
    """
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    micro = int((match[7] or "0").ljust(6, "0")[:6])
    when = datetime(year, month, day, hour, minute, min(second, 59), micro, tzinfo=UTC)
    if match[8]:
        offset = timedelta(hours=int(match[9]), minutes=int(match[10]))
        when += -offset if match[8] == "+" else offset
    return when


def human_duration(elapsed: timedelta) -> str:
    """As ``kubectl`` prints ages: ``5s``, ``2m3s``, ``7m``, ``3h12m``, ``11h``, ``2d4h``, ``9d``, ``2y30d``."""
    seconds = int(elapsed.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        rest = seconds % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = seconds // 3600
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    if days < 365 * 8:
        rest = days % 365
        return f"{years}y{rest}d" if rest else f"{years}y"
    return f"{years}y"
