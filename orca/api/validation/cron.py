"""The form of a cron schedule: five fields, or one of the named ones."""

from __future__ import annotations

from orca.api.durations import parse_duration

_FIELDS = (("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day of month", 1, 31, ()),
           ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
           ("day of week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")))  # fmt: skip
_NAMED = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def schedule_error(schedule: str) -> str:
    """What is wrong with *schedule*, or an empty string."""
    text = schedule
    if text.startswith(("TZ=", "CRON_TZ=")):
        text = text.partition(" ")[2].strip()
    if text.startswith("@"):
        if text in _NAMED:
            return ""
        if text.startswith("@every "):
            try:
                parse_duration(text.removeprefix("@every "))
            except ValueError as error:
                return f"failed to parse duration {text}: {error}"
            return ""
        return f"unrecognized descriptor: {text}"
    fields = text.split()
    if len(fields) != 5:
        return f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
    for value, (_, low, high, words) in zip(fields, _FIELDS, strict=True):
        for piece in value.split(","):
            wrong = _range_error(piece, low, high, words)
            if wrong:
                return wrong
    return ""


def _number(text: str, low: int, words: tuple[str, ...]) -> int | None:
    if text.lower() in words:
        return words.index(text.lower()) + low
    return int(text) if text.isdigit() else None


def _range_error(text: str, low: int, high: int, words: tuple[str, ...]) -> str:
    bounds, slash, step = text.partition("/")
    if slash and (not step.isdigit() or "/" in step):
        return f"too many slashes: {text}" if "/" in step else _not_a_number(step)
    if bounds in ("*", "?"):
        start, end = low, high
    else:
        first, dash, last = bounds.partition("-")
        if "-" in last:
            return f"too many hyphens: {text}"
        found = _number(first, low, words)
        if found is None:
            return _not_a_number(first)
        start = found
        end = start
        if dash:
            found = _number(last, low, words)
            if found is None:
                return _not_a_number(last)
            end = found
        elif slash:
            end = high
    if start < low:
        return f"beginning of range ({start}) below minimum ({low}): {text}"
    if end > high:
        return f"end of range ({end}) above maximum ({high}): {text}"
    if start > end:
        return f"beginning of range ({start}) beyond end of range ({end}): {text}"
    if slash and int(step) == 0:
        return f"step of range should be a positive number: {text}"
    return ""


def _not_a_number(text: str) -> str:
    return f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax'
