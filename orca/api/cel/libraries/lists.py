"""Functions of lists. Reference: k8s.io/apiserver ``pkg/cel/library/lists.go``, cel-go ``ext/lists.go`` (version 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cmp_to_key, reduce
from itertools import pairwise
from typing import Any

from orca.api.cel.errors import CelError
from orca.api.cel.functions import afford, declare, elements
from orca.api.cel.libraries.standard import add
from orca.api.cel.values import Duration, Uint, compare, contains, equals, size_of

_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_RANGE_LIMIT = 1_000_000


def _is_sorted(values: list[Any]) -> bool:
    return all(compare(one, other) <= 0 for one, other in pairwise(values))


def _sum_from(zero: Any) -> Callable[[list[Any]], Any]:
    return lambda values: reduce(add, values) if values else zero


def _extreme(name: str, sign: int) -> Callable[[list[Any]], Any]:
    def run(values: list[Any]) -> Any:
        if not values:
            raise CelError(f"{name} called on empty list")
        best = values[0]
        for value in values[1:]:
            if compare(value, best) * sign > 0:
                best = value
        return best

    return run


def _index_of(values: list[Any], wanted: Any) -> int:
    return next((at for at, value in enumerate(values) if equals(value, wanted)), -1)


def _last_index_of(values: list[Any], wanted: Any) -> int:
    return next((at for at in range(len(values) - 1, -1, -1) if equals(values[at], wanted)), -1)


def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(values):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(values)}")
    return list(values[start:end])


def _flatten(values: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    flat: list[Any] = []
    for value in values:
        if isinstance(value, list) and depth > 0:
            flat.extend(_flatten(value, depth - 1))
        else:
            flat.append(value)
    return flat


def _distinct(values: list[Any]) -> list[Any]:
    afford(len(values) ** 2)
    kept: list[Any] = []
    for value in values:
        if not contains(kept, value):
            kept.append(value)
    return kept


def _range(count: int) -> list[int]:
    if count > _RANGE_LIMIT:
        raise CelError(f"lists.range({count}): at most {_RANGE_LIMIT}")
    return list(range(count))


def _sort(values: list[Any]) -> list[Any]:
    return sorted(values, key=cmp_to_key(compare))


def _by_key(keys: list[Any]) -> Callable[[int, int], int]:
    return lambda one, other: compare(keys[one], keys[other])


def _sort_by_keys(values: list[Any], keys: list[Any]) -> list[Any]:
    order = sorted(range(len(values)), key=cmp_to_key(_by_key(keys)))
    return [values[at] for at in order]


def _walk(args: Sequence[Any], result: Any) -> int:
    """One unit an element; of strings, a tenth for each character."""
    return max(1, sum(len(value) // 10 if isinstance(value, str | bytes) else 1 for value in args[0]))


def _quadratic(args: Sequence[Any], result: Any) -> int:
    return max(1, size_of(args[0]) ** 2)


_OF_EACH = ";".join(f"list({kind}).() -> bool" for kind in _COMPARABLE)
declare("isSorted", _OF_EACH, _is_sorted, _walk)
_ZEROS: dict[str, Any] = {"int": 0, "uint": Uint(0), "double": 0.0, "duration": Duration(0)}
for _kind, _zero in _ZEROS.items():
    declare("sum", f"list({_kind}).() -> {_kind}", _sum_from(_zero), _walk)
for _kind in _COMPARABLE:
    for _name, _sign in (("max", 1), ("min", -1)):
        declare(_name, f"list({_kind}).() -> {_kind}", _extreme(_name, _sign), _walk)
declare("indexOf", "list(A).(A) -> int", _index_of, _walk)
declare("lastIndexOf", "list(A).(A) -> int", _last_index_of, _walk)
declare("slice", "list(A).(int, int) -> list(A)", _slice, lambda args, result: 10 + len(result))
declare("flatten", "list(list(A)).() -> list(A); list(dyn).(int) -> list(dyn)", _flatten, lambda a, r: 10 + len(r))
declare("distinct", "list(A).() -> list(A)", _distinct, lambda args, result: 10 + _quadratic(args, result))
declare(
    "reverse", "list(A).() -> list(A)", lambda values: values[::-1], lambda args, result: 10 + elements(args, result)
)
declare("lists.range", "(int) -> list(int)", _range, lambda args, result: 10 + len(result))
for _kind in _COMPARABLE:
    declare("sort", f"list({_kind}).() -> list({_kind})", _sort, lambda args, result: 10 + _quadratic(args, result))
    declare(
        "@sortByAssociatedKeys",
        f"list(A).(list({_kind})) -> list(A)",
        _sort_by_keys,
        lambda args, result: 10 + _quadratic(args, result),
    )
