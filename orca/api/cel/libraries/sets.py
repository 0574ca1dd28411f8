"""Lists seen as sets. Reference: cel-go ``ext/sets.go``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orca.api.cel.functions import afford, declare
from orca.api.cel.values import contains


def _contains(one: list[Any], other: list[Any]) -> bool:
    afford(len(one) * len(other))
    return all(contains(one, element) for element in other)


def _intersects(one: list[Any], other: list[Any]) -> bool:
    afford(len(one) * len(other))
    return any(contains(other, element) for element in one)


def _cost(factor: int) -> Any:
    def cost(args: Sequence[Any], result: Any) -> int:
        return max(1, factor * len(args[0]) * len(args[1]))

    return cost


declare("sets.contains", "(list(A), list(A)) -> bool", _contains, _cost(1))
declare(
    "sets.equivalent",
    "(list(A), list(A)) -> bool",
    lambda one, other: _contains(one, other) and _contains(other, one),
    _cost(2),
)
declare("sets.intersects", "(list(A), list(A)) -> bool", _intersects, _cost(1))
