"""Things found by a pod's labels without asking every one: an index over selectors.

A selector that names an exact label can only match pods that carry it, so it is filed under that label; the few that
name none are asked always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from orca.api.selectors import Selector

T = TypeVar("T")


class SelectorIndex(Generic[T]):
    """Items by their selectors. An item is in it once, however often it is added."""

    def __init__(self) -> None:
        self._filed: dict[tuple[str, str], dict[T, None]] = {}
        self._others: dict[T, None] = {}

    def add(self, item: T, selector: Selector) -> None:
        """File an item."""
        label = _exact(selector)
        if label is None:
            self._others[item] = None
        else:
            self._filed.setdefault(label, {})[item] = None

    def discard(self, item: T, selector: Selector) -> None:
        """Forget an item; `selector` as it was added with."""
        label = _exact(selector)
        if label is None:
            self._others.pop(item, None)
        elif label in self._filed:
            self._filed[label].pop(item, None)
            if not self._filed[label]:
                del self._filed[label]

    def clear(self) -> None:
        """Forget everything."""
        self._filed.clear()
        self._others.clear()

    def about(self, labels: Mapping[str, str]) -> Iterator[T]:
        """Items whose selectors may match (they still have to be asked)."""
        if self._others:
            yield from self._others
        if self._filed:
            for label in labels.items():
                found = self._filed.get(label)
                if found:
                    yield from found


def _exact(selector: Selector) -> tuple[str, str] | None:
    for one in selector.requirements:
        if one.operator == "in" and len(one.values) == 1:
            return one.key, next(iter(one.values))
    return None
