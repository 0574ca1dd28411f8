"""Values while evaluating: JSON values as they are, and classes for what JSON has not.

| CEL | here |
|---|---|
| null, bool, int, double, string, bytes | None, bool, int, float, str, bytes |
| list, map, objects | list, dict |
| uint | ``Uint`` |
| timestamp, duration | ``Timestamp``, ``Duration`` |
| type | ``TypeValue`` |
| optional_type | ``Optional`` |

Opaque types bring their own classes, which say their type in the attribute ``cel_type``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from orca.api.cel.errors import CelError, no_such_overload

INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


class Uint(int):
    """An unsigned number of 64 bits."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """Nanoseconds since 1970 UTC."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """Nanoseconds, may be negative."""

    nanos: int


@dataclass(frozen=True, slots=True)
class TypeValue:
    """What ``type(x)`` answers."""

    name: str


@dataclass(slots=True, eq=False)
class Optional:
    """A value or none. ``Optional.NONE`` is the only one without."""

    present: bool
    value: Any = None
    NONE: ClassVar[Optional]


Optional.NONE = Optional(False)


class ListSet(list[Any]):
    """A list with ``x-kubernetes-list-type: set``: the order does not matter for equality."""

    __slots__ = ()


class ListMap(list[Any]):
    """A list with ``x-kubernetes-list-type: map``: elements are known by ``keys``."""

    __slots__ = ("keys",)

    def __init__(self, elements: Iterable[Any], keys: tuple[str, ...]) -> None:
        super().__init__(elements)
        self.keys = keys

    def key_of(self, element: Any) -> tuple[Any, ...]:
        """The element's identity."""
        return tuple(element.get(key) for key in self.keys) if isinstance(element, dict) else ()


class Struct(dict[str, Any]):
    """An object made by ``Name{…}``; knows its type."""

    __slots__ = ("cel_type",)

    def __init__(self, fields: dict[str, Any], cel_type: str) -> None:
        super().__init__(fields)
        self.cel_type = cel_type


_PLAIN = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    ListSet: "list",
    ListMap: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    TypeValue: "type",
    Optional: "optional_type",
}
_SHORT = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}


def type_name(value: Any) -> str:
    """The type's name as ``type(value)`` shows it."""
    name = _PLAIN.get(type(value))
    return name if name is not None else str(value.cel_type)


def kind_name(value: Any) -> str:
    """The type's name as signatures write it (``timestamp``, not its message's name)."""
    name = type_name(value)
    return _SHORT.get(name, name)


def checked_int(value: int) -> int:
    """Raises CelError outside of 64 bits."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise CelError("integer overflow")


def checked_uint(value: int) -> Uint:
    """Raises CelError outside of 64 bits without sign."""
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise CelError("unsigned integer overflow")


_SCALARS = (str, int, float, type(None), bytes, Uint, Timestamp, Duration, TypeValue)
_NUMBERS = (int, float, Uint)


def equals(one: Any, other: Any) -> bool:
    """CEL's ``==``: numbers across types, everything else only within its type; lists and maps by content."""
    kind, other_kind = type(one), type(other)
    if kind is other_kind and kind in _SCALARS:
        return bool(one == other)
    if kind in _NUMBERS:
        return other_kind in _NUMBERS and bool(one == other)
    if kind is bool:
        return other_kind is bool and one is other
    if isinstance(one, list):
        return isinstance(other, list) and _equal_lists(one, other)
    if isinstance(one, dict):
        if not isinstance(other, dict) or len(one) != len(other):
            return False
        return all(key in other and equals(value, other[key]) for key, value in one.items())
    if kind is Optional:
        if other_kind is not Optional or one.present != other.present:
            return False
        return not one.present or equals(one.value, other.value)
    return kind is other_kind and bool(one == other)


def _equal_lists(one: list[Any], other: list[Any]) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, ListSet):
        return all(contains(other, element) for element in one)
    if isinstance(one, ListMap):
        by_key = {freeze(one.key_of(element)): element for element in other}
        for element in one:
            key = freeze(one.key_of(element))
            if key not in by_key or not equals(element, by_key[key]):
                return False
        return True
    return all(equals(a, b) for a, b in zip(one, other, strict=True))


def freeze(value: Any) -> Any:
    """Something hashable that is equal exactly for equal values."""
    if isinstance(value, list | tuple):
        return ("l", tuple(freeze(element) for element in value))
    if isinstance(value, dict):
        return ("d", frozenset((freeze(key), freeze(element)) for key, element in value.items()))
    if isinstance(value, bool):
        return ("b", value)
    return value


def contains(values: list[Any], wanted: Any) -> bool:
    """``wanted in values``."""
    return any(equals(wanted, value) for value in values)


def compare(one: Any, other: Any) -> int:
    """-1, 0 or 1. Raises CelError for what has no order, or not that one."""
    kind, other_kind = type(one), type(other)
    if (kind in _NUMBERS and other_kind in _NUMBERS) or (
        kind is other_kind and kind in (str, bytes, bool, Timestamp, Duration)
    ):
        if kind is str:
            # Upstream compares UTF-8 bytes, which order as code points do.
            return (one > other) - (one < other)
        if one != one or other != other:  # NaN is neither
            raise CelError("NaN values cannot be ordered")
        return (one > other) - (one < other)
    raise no_such_overload()


def size_of(value: Any) -> int:
    """Size of a value for costs: characters, bytes, elements, entries; 1 for the rest."""
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    return 1
