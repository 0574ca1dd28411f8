"""How a kind declares its warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orca.api.objects import Obj

Rule = Callable[[Obj, Obj | None], Iterator[str]]
"""(new, old or None) -> texts."""

WARNINGS: dict[tuple[str, str], Rule] = {}


def warns(group: str, *names: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for the kinds *names* of *group*."""

    def register(rule: Rule) -> Rule:
        for kind in names:
            WARNINGS[group, kind] = rule
        return rule

    return register


def find(group: str, kind: str) -> Rule | None:
    """The rule of a kind, or None."""
    return WARNINGS.get((group, kind))
