"""Operators, ``size``, and the standard functions of strings. Reference: cel-spec ``doc/langdef.md``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, copysign, inf, isnan, nan
from typing import Any

from orca.api.cel.errors import CelError, no_such_overload
from orca.api.cel.functions import declare, traverse
from orca.api.cel.libraries.regex import matches
from orca.api.cel.values import (
    Duration,
    Optional,
    Timestamp,
    Uint,
    checked_int,
    checked_uint,
    compare,
    contains,
    equals,
    size_of,
)


def add(one: Any, other: Any) -> Any:
    """``+``."""
    kind, other_kind = type(one), type(other)
    if kind is other_kind:
        if kind is int:
            return checked_int(one + other)
        if kind in (str, float, bytes):
            return one + other
        if kind is Uint:
            return checked_uint(int(one) + int(other))
        if kind is Duration:
            return duration(one.nanos + other.nanos)
    if isinstance(one, list) and isinstance(other, list):
        return _add_lists(one, other)
    if kind is Timestamp and other_kind is Duration:
        return timestamp(one.nanos + other.nanos)
    if kind is Duration and other_kind is Timestamp:
        return timestamp(one.nanos + other.nanos)
    raise no_such_overload()


def _add_lists(one: list[Any], other: list[Any]) -> list[Any]:
    """Concatenation; lists that are sets or maps merge, as server-side apply would."""
    kind = type(one)
    if kind is list:
        return [*one, *other]
    from orca.api.cel.values import ListMap, ListSet

    if isinstance(one, ListSet):
        return ListSet([*one, *(element for element in other if not contains(one, element))])
    if isinstance(one, ListMap):
        place = {one.key_of(element): at for at, element in enumerate(one)}
        merged = list(one)
        for element in other:
            at = place.get(one.key_of(element))
            if at is None:
                merged.append(element)
            else:
                merged[at] = element
        return ListMap(merged, one.keys)
    return [*one, *other]


def duration(nanos: int) -> Duration:
    """Within what 64 bits of nanoseconds hold. Raises CelError."""
    if -(1 << 63) <= nanos < 1 << 63:
        return Duration(nanos)
    raise CelError("integer overflow")


_FIRST, _LAST = -62135596800, 253402300799  # years 1 to 9999


def timestamp(nanos: int) -> Timestamp:
    """From year 1 to year 9999. Raises CelError."""
    if _FIRST <= nanos // 1_000_000_000 <= _LAST:
        return Timestamp(nanos)
    raise CelError("timestamp overflow")


def subtract(one: Any, other: Any) -> Any:
    """``-`` of two."""
    kind, other_kind = type(one), type(other)
    if kind is other_kind:
        if kind is int:
            return checked_int(one - other)
        if kind is float:
            return one - other
        if kind is Uint:
            return checked_uint(int(one) - int(other))
        if kind in (Duration, Timestamp):
            return duration(one.nanos - other.nanos)
    if kind is Timestamp and other_kind is Duration:
        return timestamp(one.nanos - other.nanos)
    raise no_such_overload()


def multiply(one: Any, other: Any) -> Any:
    """``*``."""
    kind = type(one)
    if kind is type(other):
        if kind is int:
            return checked_int(one * other)
        if kind is float:
            return one * other
        if kind is Uint:
            return checked_uint(int(one) * int(other))
    raise no_such_overload()


def divide(one: Any, other: Any) -> Any:
    """``/``; integers towards zero."""
    kind = type(one)
    if kind is type(other):
        if kind is float:
            if other == 0:
                return nan if one == 0 or isnan(one) else copysign(inf, one) * copysign(1, other)
            return one / other
        if kind in (int, Uint):
            if other == 0:
                raise CelError("division by zero")
            quotient = abs(int(one)) // abs(int(other))
            if kind is Uint:
                return Uint(quotient)
            return checked_int(quotient if (one < 0) == (other < 0) else -quotient)
    raise no_such_overload()


def modulo(one: Any, other: Any) -> Any:
    """``%``; the sign is that of the first."""
    kind = type(one)
    if kind is type(other) and kind in (int, Uint):
        if other == 0:
            raise CelError("modulus by zero")
        rest = abs(int(one)) % abs(int(other))
        return Uint(rest) if kind is Uint else (-rest if one < 0 else rest)
    raise no_such_overload()


def negate(value: Any) -> Any:
    """``-`` of one."""
    if type(value) is int:
        return checked_int(-value)
    if type(value) is float:
        return -value
    raise no_such_overload()


def invert(value: Any) -> Any:
    """``!``."""
    if value is True:
        return False
    if value is False:
        return True
    raise no_such_overload()


def less(one: Any, other: Any) -> bool:
    """``<``."""
    return compare(one, other) < 0


def less_equal(one: Any, other: Any) -> bool:
    """``<=``."""
    return compare(one, other) <= 0


def greater(one: Any, other: Any) -> bool:
    """``>``."""
    return compare(one, other) > 0


def greater_equal(one: Any, other: Any) -> bool:
    """``>=``."""
    return compare(one, other) >= 0


def differs(one: Any, other: Any) -> bool:
    """``!=``."""
    return not equals(one, other)


def is_in(wanted: Any, values: Any) -> bool:
    """``in``."""
    if isinstance(values, list):
        if type(wanted) is str and type(values) is list:
            return wanted in values
        return contains(values, wanted)
    if isinstance(values, dict):
        return has_key(values, wanted)
    raise no_such_overload()


def has_key(values: dict[Any, Any], key: Any) -> bool:
    """Whether a map has the key; numbers across types, true is not 1."""
    if isinstance(key, list | dict):
        return False
    if type(key) is str:
        return key in values
    return key in values and any(equals(key, known) for known in values)


def index(value: Any, at: Any) -> Any:
    """``value[at]``. Raises CelError for a missing key and an index out of bounds."""
    if isinstance(value, dict):
        if type(at) is str:
            try:
                return value[at]
            except KeyError:
                raise CelError(f"no such key: {at}") from None
        if isinstance(at, list | dict):
            raise no_such_overload()
        if has_key(value, at):
            return value[at]
        raise CelError(f"no such key: {show(at)}")
    if isinstance(value, list):
        if type(at) is float and at.is_integer():
            at = int(at)
        if isinstance(at, bool) or not isinstance(at, int):
            raise CelError(f"unsupported index type '{type_of(at)}' in list")
        if 0 <= at < len(value):
            return value[at]
        raise CelError(f"index out of bounds: {at}")
    if isinstance(value, Optional):
        return Optional(True, index(value.value, at)) if value.present and _holds(value.value, at) else Optional.NONE
    raise no_such_overload()


def _holds(value: Any, at: Any) -> bool:
    if isinstance(value, dict):
        return has_key(value, at)
    if isinstance(value, list):
        return type(at) in (int, Uint) and 0 <= at < len(value)
    raise no_such_overload()


def optional_index(value: Any, at: Any) -> Optional:
    """``value[?at]`` and ``value.?at``: none instead of an error."""
    if isinstance(value, Optional):
        if not value.present:
            return Optional.NONE
        value = value.value
    return Optional(True, index(value, at)) if _holds(value, at) else Optional.NONE


def type_of(value: Any) -> str:
    """The type's short name, for messages."""
    from orca.api.cel.values import kind_name

    return kind_name(value)


def show(value: Any) -> str:
    """A key in a message."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def size(value: Any) -> int:
    """``size``: characters, bytes, elements, entries."""
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    raise no_such_overload()


def _compare_cost(args: Sequence[Any], result: Any) -> int:
    """Of ``==`` and the like: a tenth of the shorter side for what must be walked."""
    one, other = args
    if isinstance(one, str | bytes | list | dict):
        return max(1, ceil(min(_deep(one), _deep(other)) * 0.1))
    return 1


def _deep(value: Any) -> int:
    """What a comparison walks at most. Upstream counts only the outermost size; a list of large objects walks more."""
    if isinstance(value, list):
        return sum(_inner(element) for element in value)
    if isinstance(value, dict):
        return sum(_inner(element) for element in value.values())
    return size_of(value)


def _inner(value: Any) -> int:
    if isinstance(value, str | bytes):
        return 1 + len(value) // 10
    return 1 + _deep(value) if isinstance(value, list | dict) else 1


def _add_cost(args: Sequence[Any], result: Any) -> int:
    return ceil(size_of(result) * 0.1) if isinstance(result, str | bytes) else 1 + size_of(result) // 1000


def _in_cost(args: Sequence[Any], result: Any) -> int:
    return max(1, len(args[1])) if isinstance(args[1], list) else 1


def _contains_cost(args: Sequence[Any], result: Any) -> int:
    return ceil(size_of(args[0]) * 0.1) * ceil(size_of(args[1]) * 0.1)


def _matches_cost(args: Sequence[Any], result: Any) -> int:
    return ceil((1 + size_of(args[0])) * 0.1) * ceil(size_of(args[1]) * 0.25)


_NUMBERS = ("int", "uint", "double")
_ORDERED = [
    f"({one}, {one}) -> bool" for one in ("bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration")
]
_ORDERED += [f"({one}, {other}) -> bool" for one, other in product(_NUMBERS, _NUMBERS) if one != other]
_ORDER = ";".join(_ORDERED)

_MATH = ";".join(f"({one}, {one}) -> {one}" for one in _NUMBERS)

declare("_+_", _MATH, add, checks=True)
declare(
    "_+_",
    "(string, string) -> string; (bytes, bytes) -> bytes; (list(A), list(A)) -> list(A)",
    add,
    _add_cost,
    checks=True,
)
declare("_+_", "(timestamp, duration) -> timestamp; (duration, timestamp) -> timestamp", add, checks=True)
declare("_+_", "(duration, duration) -> duration", add, checks=True)
declare("_-_", _MATH, subtract, checks=True)
declare("_-_", "(timestamp, timestamp) -> duration; (timestamp, duration) -> timestamp", subtract, checks=True)
declare("_-_", "(duration, duration) -> duration", subtract, checks=True)
declare("_*_", _MATH, multiply, checks=True)
declare("_/_", _MATH, divide, checks=True)
declare("_%_", "(int, int) -> int; (uint, uint) -> uint", modulo, checks=True)
declare("-_", "(int) -> int; (double) -> double", negate, checks=True)
declare("!_", "(bool) -> bool", invert, checks=True)
for _name, _run in (("_<_", less), ("_<=_", less_equal), ("_>_", greater), ("_>=_", greater_equal)):
    declare(_name, _ORDER, _run, _compare_cost, checks=True)
declare("_==_", "(A, A) -> bool", equals, _compare_cost, checks=True)
declare("_!=_", "(A, A) -> bool", differs, _compare_cost, checks=True)
declare("@in", "(A, list(A)) -> bool; (A, map(A, B)) -> bool", is_in, _in_cost, checks=True)
declare(
    "_[_]",
    "(list(A), int) -> A; (map(A, B), A) -> B; (optional(list(A)), int) -> optional(A);"
    "(optional(map(A, B)), A) -> optional(B)",
    index,
    checks=True,
)
declare(
    "_[?_]",
    "(list(A), int) -> optional(A); (map(A, B), A) -> optional(B); (optional(list(A)), int) -> optional(A);"
    "(optional(map(A, B)), A) -> optional(B)",
    optional_index,
    checks=True,
)
declare("size", "(string) -> int; (bytes) -> int; (list(A)) -> int; (map(A, B)) -> int", size, checks=True)
declare("size", "string.() -> int; bytes.() -> int; list(A).() -> int; map(A, B).() -> int", size, checks=True)
# The evaluator does these itself (logic looks past errors, maps grow in place); here are only their types.
declare("_&&_", "(bool, bool) -> bool", lambda one, other: one and other)
declare("_||_", "(bool, bool) -> bool", lambda one, other: one or other)
declare("_?_:_", "(bool, A, A) -> A", lambda condition, one, other: one if condition else other)
declare("cel.@mapInsert", "(map(A, B), A, B) -> map(A, B); (map(A, B), map(A, B)) -> map(A, B)", lambda made, *_: made)
declare("@not_strictly_false", "(bool) -> bool", lambda value: value is not False)
declare("contains", "string.(string) -> bool", lambda text, part: part in text, _contains_cost)
declare("startsWith", "string.(string) -> bool", lambda text, part: text.startswith(part), traverse())
declare("endsWith", "string.(string) -> bool", lambda text, part: text.endswith(part), traverse())
declare("matches", "string.(string) -> bool; (string, string) -> bool", matches, _matches_cost)

__all__ = ["add", "duration", "index", "optional_index", "timestamp"]
