"""The store on a real etcd: writes, reads, lists, watches."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from orca.api.builtin import CONFIGMAPS, EVENTS, PODS
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj
from orca.store import Event, Store, Watch
from orca.store.watch import BATCH_BYTES
from tests.api.store.things import config, pod, with_data
from tests.support.etcd import PrivateEtcd
from tests.support.patience import PATIENCE


async def take(watch: Watch, count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found += await watch.batch()
    return found


async def test_what_is_written_is_read(store: Store) -> None:
    made = await store.create(CONFIGMAPS, config("read", a="1"))
    assert made.obj["metadata"]["resourceVersion"] == str(made.revision)
    assert orjson.loads(made.raw) == made.obj
    found = await store.get(CONFIGMAPS, "default", "read")
    assert found.raw == made.raw
    changed = await store.update(CONFIGMAPS, "default", "read", lambda obj: with_data(obj, a="2"))
    assert changed.revision > made.revision
    assert (await store.get(CONFIGMAPS, "default", "read")).obj["data"] == {"a": "2"}
    gone = await store.delete(CONFIGMAPS, "default", "read")
    assert gone.revision > changed.revision
    assert gone.obj["metadata"]["resourceVersion"] == str(gone.revision)
    with pytest.raises(ApiError) as caught:
        await store.get(CONFIGMAPS, "default", "read")
    assert is_not_found(caught.value)


async def test_tricky_content_survives(store: Store) -> None:
    nasty = config("nasty", quote='"metadata":{"resourceVersion":"1"}', text="ä\u2028\\")
    nasty = {**nasty, "data": nasty["data"], "metadata": {**nasty["metadata"], "resourceVersion": ""}}
    made = await store.create(CONFIGMAPS, {"data": nasty["data"], **nasty})
    assert orjson.loads(made.raw)["data"] == nasty["data"]
    gone = await store.delete(CONFIGMAPS, "default", "nasty")
    assert gone.obj["data"] == nasty["data"]


async def test_conflicts(store: Store) -> None:
    made = await store.create(CONFIGMAPS, config("contested"))
    with pytest.raises(ApiError) as caught:
        await store.create(CONFIGMAPS, config("contested"))
    assert is_already_exists(caught.value)
    stale = ("", str(made.revision))
    await store.update(CONFIGMAPS, "default", "contested", lambda obj: with_data(obj, a="1"), expected=stale)
    for expected in (stale, ("other", "")):
        with pytest.raises(ApiError) as caught:
            await store.update(CONFIGMAPS, "default", "contested", lambda obj: with_data(obj, a="2"), expected=expected)
        assert is_conflict(caught.value)
        with pytest.raises(ApiError) as caught:
            await store.delete(CONFIGMAPS, "default", "contested", expected=expected)
        assert is_conflict(caught.value)


async def test_no_change_writes_nothing(store: Store) -> None:
    made = await store.create(CONFIGMAPS, config("calm"))
    for change in (lambda obj: None, lambda obj: dict(obj)):
        assert (await store.update(CONFIGMAPS, "default", "calm", change)).revision == made.revision


async def test_fifty_writers_lose_no_update(store: Store) -> None:
    await store.create(CONFIGMAPS, config("counter", count="0"))

    def add(obj: Obj) -> Obj:
        return with_data(obj, count=str(int(obj["data"]["count"]) + 1))

    await asyncio.gather(*(store.update(CONFIGMAPS, "default", "counter", add) for _ in range(40)))
    assert (await store.get(CONFIGMAPS, "default", "counter")).obj["data"]["count"] == "40"


async def test_watchers_see_the_last_state_of_what_was_removed_in_it(store: Store) -> None:
    """And of that only: neither of what was not removed, nor of what comes by the same name."""
    first = await store.create(CONFIGMAPS, config("leaving", said="nothing"))
    changed = await store.update(CONFIGMAPS, "default", "leaving", lambda obj: with_data(obj, said="wait"))
    watch = store.watch(CONFIGMAPS, "default", name="leaving", since=changed.revision)
    with pytest.raises(ApiError) as caught:
        await store.remove(CONFIGMAPS, first, last=with_data(first.obj, said="too late"))
    assert is_conflict(caught.value)
    gone = await store.remove(CONFIGMAPS, changed, last=with_data(changed.obj, said="farewell"))
    with pytest.raises(ApiError) as caught:
        await store.remove(CONFIGMAPS, changed)
    assert is_not_found(caught.value)
    await store.create(CONFIGMAPS, config("leaving", said="hello"))
    await store.delete(CONFIGMAPS, "default", "leaving")
    seen = await take(watch, 3)
    assert [(one.type, one.entry.obj["data"]["said"]) for one in seen] == [
        ("DELETED", "farewell"),
        ("ADDED", "hello"),
        ("DELETED", "hello"),
    ]
    assert seen[0].entry.revision == gone.revision
    assert orjson.loads(seen[0].entry.raw) == seen[0].entry.obj
    await watch.aclose()


async def test_pages_are_one_snapshot(store: Store) -> None:
    for number in range(10):
        await store.create(CONFIGMAPS, config(f"page-{number}", "paged"))
    await store.create(CONFIGMAPS, config("other", "paged2"))
    first = await store.list(CONFIGMAPS, "paged", limit=4)
    assert first.remaining == 6
    await store.delete(CONFIGMAPS, "paged", "page-7")
    await store.create(CONFIGMAPS, config("page-55", "paged"))
    await store.update(CONFIGMAPS, "paged", "page-8", lambda obj: with_data(obj, new="1"))
    second = await store.list(CONFIGMAPS, "paged", limit=4, continue_=first.continue_)
    third = await store.list(CONFIGMAPS, "paged", limit=4, continue_=second.continue_)
    names = [entry.name for page in (first, second, third) for entry in page.entries]
    assert names == [f"page-{number}" for number in range(10)]
    assert "new" not in third.entries[0].obj["data"]
    assert {first.revision, second.revision, third.revision} == {first.revision}
    assert third.continue_ == ""


async def test_pages_continue_from_etcd_and_expire(store: Store) -> None:
    for number in range(6):
        await store.create(CONFIGMAPS, config(f"old-{number}", "aged"))
    first = await store.list(CONFIGMAPS, "aged", limit=2)
    await store.delete(CONFIGMAPS, "aged", "old-4")
    await store.fresh()
    store._cache.bucket(CONFIGMAPS.storage).forget(store.revision)
    rest = await store.list(CONFIGMAPS, "aged", continue_=first.continue_)
    assert [entry.name for entry in rest.entries] == ["old-2", "old-3", "old-4", "old-5"]
    await store._etcd.compact(store.revision)
    with pytest.raises(ApiError) as caught:
        await store.list(CONFIGMAPS, "aged", continue_=first.continue_)
    assert caught.value.code == 410
    token = caught.value.status()["metadata"]["continue"]
    rest = await store.list(CONFIGMAPS, "aged", continue_=token)
    assert [entry.name for entry in rest.entries] == ["old-2", "old-3", "old-5"]


async def test_versions_of_lists(store: Store) -> None:
    made = await store.create(CONFIGMAPS, config("then", "versions"))
    await store.delete(CONFIGMAPS, "versions", "then")
    exact = await store.list(CONFIGMAPS, "versions", resource_version=str(made.revision), match="Exact")
    assert [entry.name for entry in exact.entries] == ["then"]
    newer = await store.list(CONFIGMAPS, "versions", resource_version=str(made.revision), match="NotOlderThan")
    assert newer.entries == []
    with pytest.raises(ApiError) as caught:
        await store.list(CONFIGMAPS, resource_version="junk")
    assert caught.value.code == 400
    with pytest.raises(ApiError) as caught:
        await store.list(CONFIGMAPS, continue_="junk")
    assert caught.value.code == 400


async def test_indexes_and_predicates(store: Store) -> None:
    for number in range(6):
        await store.create(PODS, pod(f"p{number}", f"node-{number % 2}"))
    found = await store.list(PODS, hint=("spec.nodeName", "node-1"))
    assert [entry.name for entry in found.entries] == ["p1", "p3", "p5"]
    page = await store.list(PODS, hint=("spec.nodeName", "node-1"), limit=1)
    assert ([entry.name for entry in page.entries], page.remaining) == (["p1"], 2)
    watch = store.watch(PODS, since=store.revision, hint=("spec.nodeName", "node-1"))
    await watch.start()
    await store.create(PODS, pod("p6", "node-0"))
    await store.create(PODS, pod("p7", "node-1"))
    await store.delete(PODS, "default", "p1")
    events = await take(watch, 2)
    assert [(event.type, event.entry.name) for event in events] == [("ADDED", "p7"), ("DELETED", "p1")]
    assert {obj["metadata"]["name"] for obj in store.peek_list(PODS, hint=("spec.nodeName", "node-1"))} == {
        "p3",
        "p5",
        "p7",
    }
    watch.close()


async def test_watchers_share_the_encoded_line(store: Store) -> None:
    watches = [store.watch(CONFIGMAPS, "shared", since=store.revision) for _ in range(3)]
    for watch in watches:
        await watch.start()
    await store.create(CONFIGMAPS, config("line", "shared"))
    lines = [(await take(watch, 1))[0].line for watch in watches]
    assert lines[0] is lines[1] is lines[2]
    assert orjson.loads(lines[0])["type"] == "ADDED"


async def test_selector_transitions(store: Store) -> None:
    def inside(obj: Obj) -> bool:
        return bool(obj["metadata"]["labels"]["part"] == "in")

    def moved(part: str) -> object:
        def change(obj: Obj) -> Obj:
            return {**obj, "metadata": {**obj["metadata"], "labels": {"part": part}}}

        return change

    watch = store.watch(CONFIGMAPS, "moving", since=store.revision, predicate=inside)
    await watch.start()
    await store.create(CONFIGMAPS, config("mover", "moving", part="out"))
    for part in ("in", "out"):
        last = await store.update(CONFIGMAPS, "moving", "mover", moved(part))  # type: ignore[arg-type]
    events = await take(watch, 2)
    assert [event.type for event in events] == ["ADDED", "DELETED"]
    assert events[1].entry.obj["metadata"]["labels"]["part"] == "in"
    assert events[1].entry.revision == last.revision


async def test_watch_from_the_start_and_from_the_forgotten(store: Store) -> None:
    await store.create(CONFIGMAPS, config("initial", "begin"))
    watch = store.watch(CONFIGMAPS, "begin", initial_end=True)
    added, end = await take(watch, 2)
    assert (added.type, added.entry.name) == ("ADDED", "initial")
    assert end.entry.obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    store._cache.bucket(CONFIGMAPS.storage).forget(store.revision)
    with pytest.raises(ApiError) as caught:
        await store.watch(CONFIGMAPS, since=1).start()
    assert caught.value.code == 410


async def test_a_watch_resumes_across_a_restart(store: Store, etcd: PrivateEtcd) -> None:
    first = await store.create(CONFIGMAPS, config("before", "resume"))
    await store.update(CONFIGMAPS, "resume", "before", lambda obj: with_data(obj, a="1"))
    await store.delete(CONFIGMAPS, "resume", "before")
    another = Store(etcd.endpoint)
    await another.start()
    events = await take(another.watch(CONFIGMAPS, "resume", since=first.revision), 2)
    assert [event.type for event in events] == ["MODIFIED", "DELETED"]
    await another.close()


async def test_events_carry_a_lease(store: Store) -> None:
    for name in ("one", "two"):
        await store.create(
            EVENTS, {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"}}
        )
    assert len(store._leases._current) == 1


async def test_two_servers_on_one_etcd_agree(etcd: PrivateEtcd) -> None:
    first, second = Store(etcd.endpoint, shared=True), Store(etcd.endpoint, shared=True)
    await first.start()
    await second.start()
    try:
        for number in range(50):
            await first.create(CONFIGMAPS, config(f"both-{number}", "both"))
            assert (await second.get(CONFIGMAPS, "both", f"both-{number}")).name
        # Keys that are nobody's objects move etcd on without an event for us.
        await first._etcd.tick(b"/elsewhere")
        assert len((await second.list(CONFIGMAPS, "both")).entries) == 50
    finally:
        await first.close()
        await second.close()


async def test_watchers_get_large_objects_piece_by_piece(store: Store) -> None:
    for number in range(40):
        await store.create(CONFIGMAPS, config(f"large-{number}", "large", filling="x" * 100_000))
    async with store.watch(CONFIGMAPS, "large") as watch:
        sizes: list[list[int]] = []
        while sum(map(len, sizes)) < 40:
            sizes.append([len(event.entry.raw) for event in await watch.batch()])
    assert len(sizes) > 3
    assert max(map(sum, sizes)) < BATCH_BYTES + 200_000
