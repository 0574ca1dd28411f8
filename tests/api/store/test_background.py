"""What the store does by itself as time goes by: compaction, bookmarks, leases a minute."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orca.api.builtin import CONFIGMAPS, EVENTS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.store import Store
from orca.store.outcomes import EtcdCompacted
from orca.store.paging import ContinueExpired
from tests.api.store.things import config
from tests.support.etcd import PrivateEtcd


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(etcd: PrivateEtcd, clock: VirtualClock) -> AsyncIterator[Store]:
    made = Store(etcd.endpoint, clock=clock)
    await made.start()
    yield made
    await made.close()


def event(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"}}


async def test_etcd_forgets_what_is_older_than_five_minutes(store: Store, clock: VirtualClock) -> None:
    first = await store.create(CONFIGMAPS, config("aging"))
    await store.fresh()
    await clock.advance(301)
    # The clock is virtual, etcd is not: ask until it has taken note.
    for _ in range(100):
        await store.ping()
    kept = await store.create(CONFIGMAPS, config("young"))
    await store.fresh()
    pages = store._etcd.pages
    async for _ in pages(b"/registry/", b"/registry0", first.revision):
        pass
    await clock.advance(301)
    # And until it has done it.
    for _ in range(100):
        await store.ping()
    with pytest.raises(EtcdCompacted):
        async for _ in pages(b"/registry/", b"/registry0", first.revision - 1):
            pass
    async for _ in pages(b"/registry/", b"/registry0", kept.revision):
        pass


async def test_pages_end_with_what_etcd_forgot_also_where_it_is_remembered(store: Store, clock: VirtualClock) -> None:
    """Nothing of the kind changed meanwhile, so that the old state could be told; clients wait for the end."""
    for number in range(3):
        await store.create(CONFIGMAPS, config(f"page-{number}", "paged"))
    first = await store.list(CONFIGMAPS, "paged", limit=1)
    for _ in range(3):
        rest = await store.list(CONFIGMAPS, "paged", limit=1, continue_=first.continue_)
        assert [entry.name for entry in rest.entries] == ["page-1"]
        await clock.advance(301)
        for _ in range(100):
            await store.ping()
    with pytest.raises(ContinueExpired) as caught:
        await store.list(CONFIGMAPS, "paged", limit=1, continue_=first.continue_)
    rest = await store.list(CONFIGMAPS, "paged", limit=1, continue_=caught.value.token)
    assert [entry.name for entry in rest.entries] == ["page-1"]
    assert rest.revision > first.revision
    with pytest.raises(ApiError) as refused:
        await store.list(CONFIGMAPS, "paged", resource_version=str(first.revision), match="Exact")
    assert refused.value.code == 410


async def test_quiet_watchers_get_bookmarks(store: Store, clock: VirtualClock) -> None:
    watch = store.watch(CONFIGMAPS, "quiet", since=store.revision, bookmarks=True)
    silent = store.watch(CONFIGMAPS, "quiet", since=store.revision)
    await watch.start()
    await silent.start()
    await store.create(CONFIGMAPS, config("elsewhere"))
    await store.fresh()
    await clock.advance(61)
    (mark,) = await watch.batch()
    assert mark.type == "BOOKMARK"
    assert mark.entry.obj["metadata"]["resourceVersion"] == str(store.revision)
    assert mark.entry.obj["kind"] == "ConfigMap"
    assert not silent._pending


async def test_events_of_a_minute_share_a_lease(store: Store, clock: VirtualClock) -> None:
    leases = set()
    for number in range(4):
        await store.create(EVENTS, event(f"shared-{number}"))
        leases.add(store._leases._current[3600][0])
        await clock.advance(25)
    assert len(leases) == 2


async def test_a_lease_that_is_gone_is_replaced(store: Store, clock: VirtualClock) -> None:
    await store.create(EVENTS, event("before"))
    store._leases._current[3600] = (12345, clock.monotonic() + 60)
    assert (await store.create(EVENTS, event("after"))).revision
