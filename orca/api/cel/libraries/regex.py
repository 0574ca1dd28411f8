"""``matches``, ``find``, ``findAll``: with RE2, which takes linear time whatever the expression.

Reference: k8s.io/apiserver ``pkg/cel/library/regex.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from orca.api import patterns
from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare
from orca.api.cel.values import size_of


def matches(text: str, pattern: str) -> bool:
    """Whether the pattern is found anywhere. Raises CelError with Go's reason."""
    try:
        return patterns.matcher(pattern)(text)
    except patterns.BadPattern as error:
        raise CelError(str(error)) from None


def compiled(pattern: str) -> Any:
    """The expression. Raises CelError with Go's reason."""
    try:
        return patterns.compiled(pattern)
    except patterns.BadPattern as error:
        raise CelError(str(error)) from None


def find(text: str, pattern: str) -> str:
    """The first match, or nothing."""
    match = compiled(pattern).search(text)
    return "" if match is None else str(match.group())


def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    """All matches, or so many."""
    found: list[str] = []
    for match in compiled(pattern).finditer(text):
        if 0 <= limit <= len(found):
            break
        found.append(match.group())
    return found


def _cost(args: Sequence[Any], result: Any) -> int:
    return ceil((1 + size_of(args[0])) * 0.1) * ceil(size_of(args[1]) * 0.25)


declare("find", "string.(string) -> string", find, _cost)
declare("findAll", "string.(string) -> list(string); string.(string, int) -> list(string)", find_all, _cost)
