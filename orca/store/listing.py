"""Pages of lists, of now and of the past: made as far as they are asked for, whatever else there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice

from orca.store.cache import Bucket, Predicate
from orca.store.entries import Entry, Page
from orca.store.paging import Position, encode

Left = Callable[[str], int]
"""Key -> how many entries there are from it on; only asked when no selector hides some."""


def undone(
    bucket: Bucket, namespace: str, start: str, differs: dict[str, Entry | None]
) -> tuple[Iterator[Entry], Left]:
    """The state before `differs` happened, without making more of it than is asked for."""
    then = sorted(
        (entry for entry in differs.values() if entry is not None and _within(entry, namespace, start)), key=_by_key
    )
    kept = (entry for entry in bucket.select(namespace, start) if entry.key not in differs)

    def left(key: str) -> int:
        now = sum(1 for other in differs if other in bucket.entries and _within(bucket.entries[other], namespace, key))
        return bucket.count(namespace, key) - now + sum(1 for entry in then if entry.key >= key)

    return merge(kept, then, key=_by_key), left


def page_of(
    entries: Iterable[Entry], left: Left | None, predicate: Predicate | None, limit: int, revision: int
) -> Page:
    """The first `limit` of `entries` that `predicate` selects, or all for 0."""
    chosen = iter(entries) if predicate is None else (entry for entry in entries if predicate(entry.obj))
    if not limit:
        return Page(list(chosen), revision)
    found = list(islice(chosen, limit))
    if next(chosen, None) is None:
        return Page(found, revision)
    start = f"{found[-1].key}\0"
    remaining = None
    if predicate is None:
        remaining = left(start) if left is not None else 1 + sum(1 for _ in chosen)
    return Page(found, revision, encode(Position(revision, start)), remaining)


def _within(entry: Entry, namespace: str, start: str) -> bool:
    return (not namespace or entry.namespace == namespace) and entry.key >= start


def _by_key(entry: Entry) -> str:
    return entry.key
