"""How a kind declares its defaults: one function a kind that fills in missing fields of the object it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Obj = dict[str, Any]
Default = Callable[[Obj], None]

_DEFAULTS: dict[tuple[str, str], Default] = {}


def defaults(group: str, *kinds: str) -> Callable[[Default], Default]:
    """Register the decorated function for *kinds* of *group*."""

    def register(function: Default) -> Default:
        for kind in kinds:
            _DEFAULTS[group, kind] = function
        return function

    return register


def find(group: str, kind: str) -> Default | None:
    """The defaulting function of *kind* in *group*, or None."""
    return _DEFAULTS.get((group, kind))


def kinds() -> Iterable[tuple[str, str]]:
    """Every (group, kind) that has defaults."""
    return _DEFAULTS.keys()


def put(obj: Obj, **values: Any) -> None:
    """Set those of *values* whose key is missing or null in *obj*.

    Values must be immutable: they are shared between objects.
    """
    for key, value in values.items():
        if obj.get(key) is None:
            obj[key] = value


def put_text(obj: Obj, **values: str) -> None:
    """As ``put``, and an empty string counts as missing too."""
    for key, value in values.items():
        if not obj.get(key):
            obj[key] = value


def part(obj: Obj, key: str) -> Obj:
    """The object under *key*, created empty when it is missing or null."""
    value = obj.get(key)
    if value is None:
        value = obj[key] = {}
    return value  # type: ignore[no-any-return]
