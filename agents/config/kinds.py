"""How the values of a configuration are written in its file, and what they become.

A field of a configuration class is made with :func:`setting`, which notes its wire name and its kind; :func:`decode`
and :func:`encode` go by those notes. As in upstream's Go types, a plain field that is zero counts as not set, while one
that is ``explicit`` (a pointer there) keeps a zero that was written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from orca.api.durations import format_duration, parse_duration
from orca.api.quantity import Quantity

T = TypeVar("T")

Problems = list[str]
"""Found while decoding; each names its field."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``read`` raises ValueError for what is not of this kind; ``write`` is its inverse."""

    what: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = lambda value: value


def setting(wire: str, kind: Kind | type, default: Any, *, explicit: bool = False) -> Any:
    """A field of a configuration class. ``kind``: a class of settings makes a nested object."""
    notes = {"wire": wire, "kind": kind, "explicit": explicit}
    if isinstance(default, (dict, list)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=notes)
    return dataclasses.field(default=default, metadata=notes)


def decode(cls: type[T], raw: Any, path: str, problems: Problems) -> T:
    """An object of ``cls`` from parsed YAML or JSON; what is wrong is added to ``problems``."""
    if not isinstance(raw, Mapping):
        problems.append(f"{path or 'the document'}: expected an object, got {_shown(raw)}")
        return cls()
    known = {one.metadata["wire"]: one for one in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in known:
            problems.append(f'unknown field "{name}"')
            continue
        if value is None:
            continue
        one = known[key]
        decoded = _decode(one.metadata["kind"], value, name, problems)
        if decoded is not _WRONG and (decoded or one.metadata["explicit"]):
            values[one.name] = decoded
    return cls(**values)


def encode(settings: Any) -> dict[str, Any]:
    """The object as its file would say it, every default written out; values that are None are left out."""
    written = {}
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if value is not None:
            written[one.metadata["wire"]] = _encode(one.metadata["kind"], value)
    return written


_WRONG = object()


def _decode(kind: Kind | type, value: Any, path: str, problems: Problems) -> Any:
    if not isinstance(kind, Kind):
        return decode(kind, value, path, problems)
    try:
        return kind.read(value)
    except _Nested as nested:
        problems.extend(f"{path}{where}: {what}" if what else f"{path}{where}" for where, what in nested.problems)
    except ValueError as error:
        problems.append(f"{path}: {error}" if str(error) else f"{path}: expected {kind.what}, got {_shown(value)}")
    return _WRONG


def _encode(kind: Kind | type, value: Any) -> Any:
    return kind.write(value) if isinstance(kind, Kind) else encode(value)


class _Nested(ValueError):
    """Problems in the parts of a list or map: (where below the field, what)."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("nested")
        self.problems = problems


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else repr(value)


# --- the kinds


def _typed(*types: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ValueError
        return value

    return read


def _integer(bits: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise ValueError(f"{value} does not fit in {bits} bits")
        return value

    return read


def _seconds(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError
    return parse_duration(value)


def _seconds_or_nanoseconds(value: Any) -> float:
    if isinstance(value, int) and not isinstance(value, bool):
        return value / 1e9
    return _seconds(value)


def _quantity(value: Any) -> Quantity:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError
    return Quantity.parse(value)


BOOL = Kind("true or false", _typed(bool))
TEXT = Kind("a string", _typed(str))
INT = Kind("an integer", _integer(32))
LONG = Kind("an integer", _integer(64))
FLOAT = Kind("a number", lambda value: float(_typed(int, float)(value)))
SECONDS = Kind("a duration such as 1m30s", _seconds, format_duration)
SECONDS_OR_NANOSECONDS = Kind("a duration such as 1m30s", _seconds_or_nanoseconds, format_duration)
QUANTITY = Kind("a quantity such as 100Mi", _quantity, str)


def list_of(part: Kind | type) -> Kind:
    """A list, read as a tuple."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError
        problems: list[tuple[str, str]] = []
        found = [_part(part, one, f"[{index}]", problems) for index, one in enumerate(value)]
        if problems:
            raise _Nested(problems)
        return tuple(found)

    return Kind("a list", read, lambda values: [_encode(part, value) for value in values])


def map_of(part: Kind) -> Kind:
    """A map with strings as keys."""

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError
        problems: list[tuple[str, str]] = []
        found = {str(key): _part(part, one, f"[{key}]", problems) for key, one in value.items()}
        if problems:
            raise _Nested(problems)
        return found

    return Kind("a map", read, lambda values: {key: _encode(part, value) for key, value in values.items()})


def _part(kind: Kind | type, value: Any, where: str, problems: list[tuple[str, str]]) -> Any:
    found: Problems = []
    decoded = _decode(kind, value, "", found)
    problems.extend((where, text.removeprefix(": ").removeprefix(".")) for text in found)
    return decoded
