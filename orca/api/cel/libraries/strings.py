"""More functions of strings. Reference: cel-go ``ext/strings.go`` (version 2), ``ext/formatting.go``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import ceil, isinf, isnan
from typing import Any

from orca.api.cel.errors import CelError
from orca.api.cel.functions import afford, declare, of_result, traverse
from orca.api.cel.libraries.conversions import show_bool, show_double
from orca.api.cel.libraries.times import show_duration, show_timestamp
from orca.api.cel.values import Duration, Timestamp, TypeValue, type_name

_UPPER = {i: i - 32 for i in range(ord("a"), ord("z") + 1)}
_LOWER = {i: i + 32 for i in range(ord("A"), ord("Z") + 1)}
_CLAUSE = re.compile(r"%(?:(%)|(?:\.(\d+))?(.)?)", re.DOTALL)
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
# Go's unicode.IsSpace
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


def _char_at(text: str, at: int) -> str:
    if 0 <= at < len(text):
        return text[at]
    if at == len(text):
        return ""
    raise CelError(f"index out of range: {at}")


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not part:
        return start
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return len(text) if not part else text.rfind(part)
    if not part:
        return start
    if not 0 <= start < max(1, len(text)):
        raise CelError(f"index out of range: {start}")
    return text.rfind(part, 0, start + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    if end is None:
        end = len(text)
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    if start > end:
        raise CelError(f"invalid substring range. start: {start}, end: {end}")
    if end > len(text):
        raise CelError(f"index out of range: {end}")
    return text[start:end]


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if limit == 1:
        return [text]
    if not separator:
        if limit < 0 or limit >= len(text):
            return list(text)
        return [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _join(parts: list[Any], separator: str = "") -> str:
    for part in parts:
        if not isinstance(part, str):
            raise CelError("no such overload")
    afford((sum(map(len, parts)) + len(separator) * len(parts)) * 0.2)
    return separator.join(parts)


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    grown = len(new) - len(old)
    if grown > 0:
        found = text.count(old)
        afford((found if limit < 0 else min(found, limit)) * grown / 10)
    return text.replace(old, new, limit)


def _quote(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char, char) for char in text) + '"'


def _format(template: str, args: list[Any]) -> str:
    """``%s``, ``%d``, ``%f``, ``%e``, ``%b``, ``%x``, ``%X``, ``%o``. Raises CelError."""
    used = made = 0

    def clause(match: re.Match[str]) -> str:
        nonlocal made
        text = shown(match)
        made += len(text)
        afford(made * 0.1)
        return text

    def shown(match: re.Match[str]) -> str:
        nonlocal used
        if match[1]:
            return "%"
        verb = match[3]
        if verb is None:
            raise CelError("unexpected end of string")
        if used >= len(args):
            raise CelError(f"index {used} out of range")
        value = args[used]
        used += 1
        if verb in "fe":
            return _float(value, verb, 6 if match[2] is None else int(match[2][:4]))
        run = _VERBS.get(verb)
        if run is None:
            raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')
        return run(value)

    return _CLAUSE.sub(clause, template)


def _shown(value: Any) -> str:
    """``%s``."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return show_bool(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return show_double(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Timestamp):
        return show_timestamp(value)
    if isinstance(value, Duration):
        return show_duration(value)
    if isinstance(value, TypeValue):
        return value.name
    if isinstance(value, list):
        return "[" + ", ".join(_shown(element) for element in value) + "]"
    if isinstance(value, dict):
        pairs = sorted((_shown(key), _shown(element)) for key, element in value.items())
        return "{" + ", ".join(f"{key}: {element}" for key, element in pairs) + "}"
    raise CelError(
        "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, "
        f"types, durations, and timestamps, was given {type_name(value)}"
    )


def _wrong(clause: str, kinds: str, value: Any) -> CelError:
    return CelError(
        f"error during formatting: {clause} clause can only be used on {kinds}, was given {type_name(value)}"
    )


def _decimal(value: Any) -> str:
    if isinstance(value, float) and (isnan(value) or isinf(value)):
        return "NaN" if isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong("decimal", "integers", value)
    return str(int(value))


def _float(value: Any, verb: str, precision: int) -> str:
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return value
    if isinstance(value, bool) or not isinstance(value, float | int):
        name = "fixed-point" if verb == "f" else "scientific"
        raise _wrong(name, "doubles", value)
    number = float(value)
    if isnan(number):
        return "NaN"
    if isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return f"{number:.{min(precision, 400)}{verb}}"


def _binary(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return f"{int(value):b}"
    raise _wrong("binary", "integers and bools", value)


def _hex(upper: bool) -> Any:
    def run(value: Any) -> str:
        if isinstance(value, str | bytes):
            text = (value.encode() if isinstance(value, str) else value).hex()
        elif isinstance(value, int) and not isinstance(value, bool):
            text = f"{int(value):x}"
        else:
            raise _wrong("hex", "integers, byte buffers, and strings", value)
        return text.upper() if upper else text

    return run


def _octal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong("octal", "integers", value)
    return f"{int(value):o}"


_VERBS = {"s": _shown, "d": _decimal, "b": _binary, "x": _hex(False), "X": _hex(True), "o": _octal}


def _walk(args: Sequence[Any], result: Any) -> int:
    return traverse()(args, result)


def _search_cost(args: Sequence[Any], result: Any) -> int:
    return max(1, len(args[0]) // 10)


def _replace_cost(args: Sequence[Any], result: Any) -> int:
    # What a result is longer than its origin counts, too: unlike upstream's, our evaluation makes it at once.
    return ceil(len(args[0]) * 0.2) + max(0, len(result) - len(args[0])) // 10


declare("charAt", "string.(int) -> string", _char_at)
declare("indexOf", "string.(string) -> int; string.(string, int) -> int", _index_of, _search_cost)
declare("lastIndexOf", "string.(string) -> int; string.(string, int) -> int", _last_index_of, _search_cost)
declare("join", "list(string).() -> string; list(string).(string) -> string", _join, of_result(0.2))
declare("lowerAscii", "string.() -> string", lambda text: text.translate(_LOWER), _walk)
declare("upperAscii", "string.() -> string", lambda text: text.translate(_UPPER), _walk)
declare(
    "replace",
    "string.(string, string) -> string; string.(string, string, int) -> string",
    _replace,
    _replace_cost,
)
declare("split", "string.(string) -> list(string); string.(string, int) -> list(string)", _split, traverse(0, 0.2))
declare("substring", "string.(int) -> string; string.(int, int) -> string", _substring, _walk)
declare("trim", "string.() -> string", lambda text: text.strip(_SPACE), _walk)
declare("format", "string.(list(dyn)) -> string", _format, lambda args, result: 1 + of_result(0.1)(args, result))
declare("strings.quote", "(string) -> string", _quote, _walk)
