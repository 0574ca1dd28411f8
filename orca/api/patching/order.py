"""The order of a merged list: items of the patch in the patch's order, all others where the server had them."""

from collections.abc import Callable
from typing import Any


def reorder(items: list[Any], wanted: list[Any], before: list[Any], merge_key: str) -> list[Any]:
    """``items`` with those that ``wanted`` lists in its order, and the rest in the order of ``before``.

    Where both orders say something about a pair of a listed and an unlisted item, the server's earlier one goes first.
    ``wanted`` holds values, or maps with the merge key.
    """
    identity = _identity(merge_key)
    asked = _ranks(wanted, identity)
    known = _ranks(before, identity)
    listed = sorted((item for item in items if identity(item) in asked), key=lambda item: asked[identity(item)])
    others = [item for item in items if identity(item) not in asked]
    others.sort(key=lambda item: known.get(identity(item), len(known)))
    merged: list[Any] = []
    left = right = 0
    while left < len(others) and right < len(listed):
        mine, theirs = known.get(identity(others[left])), known.get(identity(listed[right]))
        if mine is not None and theirs is not None and mine <= theirs:
            merged.append(others[left])
            left += 1
        else:
            merged.append(listed[right])
            right += 1
    return merged + others[left:] + listed[right:]


def _identity(merge_key: str) -> Callable[[Any], Any]:
    def identity(item: Any) -> Any:
        return comparable(item.get(merge_key) if isinstance(item, dict) else item)

    return identity


def comparable(value: Any) -> Any:
    """What equal values have in common, to be looked up by."""
    return value if isinstance(value, (str, int, float, bool)) or value is None else repr(value)


def _ranks(items: list[Any], identity: Callable[[Any], Any]) -> dict[Any, int]:
    ranks: dict[Any, int] = {}
    for rank, item in enumerate(items):
        ranks.setdefault(identity(item), rank)
    return ranks
