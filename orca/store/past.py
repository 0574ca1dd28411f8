"""The state of a kind at a revision that the cache does not remember, as far as etcd still has it."""

from __future__ import annotations

from orca.api.resources import Resource
from orca.store.answers import as_api_error, entry_of, too_old
from orca.store.cache import Predicate
from orca.store.entries import Entry, Page
from orca.store.etcd import PAGE, Etcd, end_of
from orca.store.listing import page_of
from orca.store.outcomes import EtcdCompacted, EtcdError


async def page_at(
    etcd: Etcd,
    resource: Resource,
    namespace: str,
    start: str,
    revision: int,
    predicate: Predicate | None,
    limit: int,
    *,
    paging: bool,
) -> Page:
    """A page from key ``start`` on; ``paging``: it continues another one. ApiError 410 when etcd has forgotten the
    revision, 503 when it does not answer."""
    root = resource.storage.encode() + b"/"
    prefix = root + (f"{namespace}/".encode() if namespace else b"")
    first, end = max(prefix, root + start.encode()), end_of(prefix)
    wanted = limit if predicate is None else 0  # nobody knows how many must be read for so many that are selected
    found: list[Entry] = []
    total = 0
    try:
        if wanted:
            total = await etcd.count(first, end, revision)
        async for pairs, _ in etcd.pages(first, end, revision, wanted + 1 if wanted else PAGE):
            found += [entry_of(resource, pair) for pair in pairs]
            if 0 < wanted < len(found):
                break
    except EtcdCompacted as error:
        raise too_old(revision, start, paging=paging) from error
    except EtcdError as error:
        raise as_api_error(error) from error
    return page_of(found, (lambda _: total - wanted) if wanted else None, predicate, limit, revision)
