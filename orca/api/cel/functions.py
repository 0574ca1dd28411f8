"""The table of functions: signatures for the checker, implementations and costs for evaluation.

A module of ``orca.api.cel.libraries`` declares its functions while it is imported; ``table`` imports them all once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from math import ceil
from typing import Any

from orca.api.cel.budget import PER_CALL_LIMIT
from orca.api.cel.errors import EXCEEDED, CelCostError, no_such_overload
from orca.api.cel.types import Type, is_param, read_type
from orca.api.cel.values import kind_name, size_of

Cost = Callable[[Sequence[Any], Any], int]
"""Arguments (the target first) and result → cost units."""

_LIBRARY = (
    "standard",
    "conversions",
    "times",
    "strings",
    "lists",
    "optionals",
    "sets",
    "regex",
    "urls",
    "quantities",
    "network",
    "formats",
    "semver",
    "authorization",
    "patches",
)


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature. ``params`` has the target first for a member."""

    id: str
    params: tuple[Type, ...]
    result: Type
    member: bool
    run: Callable[..., Any]
    cost: Cost | None
    checks: bool = False
    """``run`` looks at the types itself and raises CelError for what does not fit."""

    def takes(self, args: Sequence[Any]) -> bool:
        """Whether these values fit, looking at the outermost type only."""
        return len(args) == len(self.params) and all(
            _fits(arg, param) for arg, param in zip(args, self.params, strict=True)
        )


@dataclass(slots=True)
class Function:
    """All overloads of a name."""

    name: str
    overloads: list[Overload] = field(default_factory=list)

    def choose(self, args: Sequence[Any]) -> Overload:
        """The overload for these values. Raises CelError when none fits."""
        for overload in self.overloads:
            if overload.takes(args):
                return overload
        raise no_such_overload()


def _fits(value: Any, param: Type) -> bool:
    return param.name == "dyn" or is_param(param) or param.name == kind_name(value)


_FUNCTIONS: dict[str, Function] = {}


def declare(
    name: str, signatures: str, run: Callable[..., Any], cost: Cost | None = None, *, checks: bool = False
) -> None:
    """Add overloads: ``"(string, int) -> bool"`` or, for a member, ``"string.(int) -> bool"``; several parted by ``;``.

    Without ``cost`` a call costs one unit.
    """
    function = _FUNCTIONS.setdefault(name, Function(name))
    for signature in signatures.split(";"):
        head, result = signature.split("->")
        target, args = _parts(head.strip())
        member = target.endswith(".")
        params = [*([target[:-1]] if member else []), *_split(args)]
        types = tuple(read_type(param) for param in params)
        overload_id = f"{name}_{len(function.overloads)}"
        function.overloads.append(Overload(overload_id, types, read_type(result), member, run, cost, checks))


def _parts(head: str) -> tuple[str, str]:
    """What stands before the last pair of parentheses, and within it."""
    depth = 0
    for at in range(len(head) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(head[at], 0)
        if not depth:
            return head[:at], head[at + 1 : -1]
    raise ValueError(f"signature {head!r}: parentheses do not match")


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and not depth:
            parts.append(text[start:at])
            start = at + 1
    if text[start:].strip():
        parts.append(text[start:])
    return parts


@cache
def table() -> dict[str, Function]:
    """All functions by name."""
    for module in _LIBRARY:
        import_module(f"orca.api.cel.libraries.{module}")
    return _FUNCTIONS


def afford(cost: float) -> None:
    """For what makes or compares much at once, before it does: costs are taken afterwards, when memory is full already
    and the time over. Raises CelCostError for what no evaluation may cost."""
    if cost > PER_CALL_LIMIT:
        raise CelCostError(EXCEEDED)


def fixed(cost: int) -> Cost:
    """The same cost always."""
    return lambda args, result: cost


def traverse(index: int = 0, factor: float = 0.1) -> Cost:
    """A tenth of a unit for each character (or ``factor``) of one argument."""
    return lambda args, result: ceil(size_of(args[index]) * factor)


def of_result(factor: float) -> Cost:
    """``factor`` for each character of the result."""
    return lambda args, result: ceil(size_of(result) * factor)


def elements(args: Sequence[Any], result: Any) -> int:
    """One unit for each element of the first argument."""
    return size_of(args[0])
