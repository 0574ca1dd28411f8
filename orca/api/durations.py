"""Durations as Go writes them: ``1m30s``, ``500ms``, ``-1.5h``, ``0``. Reference: Go's ``time.ParseDuration``."""

import re
from decimal import Decimal
from fractions import Fraction

_SECOND = 10**9
_LIMIT = 1 << 63
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # micro sign
    "μs": 10**3,  # Greek letter mu
    "ms": 10**6,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_BELOW_SECONDS = (("ms", Decimal("1e-3")), ("µs", Decimal("1e-6")), ("ns", Decimal("1e-9")))


def parse_nanoseconds(text: str) -> int:
    """Exactly; parts of a nanosecond are cut off. Raises ValueError, also for what 64 bits do not hold (292 years)."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits == "0":
        return 0
    total, at = Fraction(0), 0
    while part := _PART.match(digits, at):
        total += Fraction(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not digits or at < len(digits) or total >= _LIMIT:
        raise ValueError(f'time: invalid duration "{text}"')
    return -int(total) if text[0] == "-" else int(total)


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError."""
    return parse_nanoseconds(text) / _SECOND


def format_duration(seconds: float) -> str:
    """As Go prints a duration: ``1h0m0s``, ``1.5s``, ``100ms``."""
    sign, left = ("-" if seconds < 0 else ""), Decimal(str(abs(seconds)))
    if not left:
        return "0s"
    if left < 1:
        unit, size = next(((unit, size) for unit, size in _BELOW_SECONDS if left >= size), _BELOW_SECONDS[-1])
        return f"{sign}{_plain(left / size)}{unit}"
    minutes, rest = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{_plain(rest)}s"
    return f"{sign}{minutes}m{_plain(rest)}s" if minutes else f"{sign}{_plain(rest)}s"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
