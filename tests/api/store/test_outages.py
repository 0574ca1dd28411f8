"""etcd dies, stalls or forgets: nothing acknowledged is lost, nothing hangs, every change arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.store import Store
from tests.api.store.test_store import take
from tests.api.store.things import config, with_data
from tests.support.etcd import PrivateEtcd, private_etcd
from tests.support.patience import PATIENCE


@pytest.fixture
async def etcd() -> AsyncIterator[PrivateEtcd]:
    async with private_etcd() as running:
        yield running


async def test_kill_and_continue_under_load(store: Store, etcd: PrivateEtcd) -> None:
    acknowledged: list[str] = []
    failures: list[int] = []
    watch = store.watch(CONFIGMAPS, since=store.revision)
    await watch.start()
    stop = False

    async def write(writer: int) -> None:
        number = 0
        while not stop:
            name = f"load-{writer}-{number}"
            number += 1
            try:
                await store.create(CONFIGMAPS, config(name))
                acknowledged.append(name)
            except ApiError as error:
                failures.append(error.code)
                await asyncio.sleep(0.01)

    async def more(count: int) -> None:
        wanted = len(acknowledged) + count
        async with asyncio.timeout(PATIENCE):
            while len(acknowledged) < wanted:  # noqa: ASYNC110 - what it waits for is another process
                await asyncio.sleep(0.02)

    writers = [asyncio.create_task(write(number)) for number in range(8)]
    for _ in range(2):
        await more(20)
        etcd.kill()
        await asyncio.sleep(0.2)
        await etcd.start()
    await more(20)
    stop = True
    await asyncio.gather(*writers)
    assert set(failures) <= {503, 504}
    await store.create(CONFIGMAPS, config("last"))
    found = {entry.name for entry in (await store.list(CONFIGMAPS)).entries}
    assert set(acknowledged) <= found
    seen = await take(watch, len(found))
    names = [event.entry.name for event in seen]
    assert len(names) == len(set(names))
    assert set(names) == found
    revisions = [event.entry.revision for event in seen]
    assert revisions == sorted(revisions)


async def test_requests_fail_while_etcd_is_away_and_reads_go_on(store: Store, etcd: PrivateEtcd) -> None:
    await store.create(CONFIGMAPS, config("there"))
    await store.fresh()
    etcd.kill()
    with pytest.raises(ApiError) as caught:
        async with asyncio.timeout(PATIENCE):
            await store.create(CONFIGMAPS, config("lost"))
    assert caught.value.code in (503, 504)
    assert (await store.get(CONFIGMAPS, "default", "there")).name == "there"
    async with asyncio.timeout(PATIENCE):
        while store.ready:  # noqa: ASYNC110 - what it waits for is another process
            await asyncio.sleep(0.02)
    await etcd.start()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.create(CONFIGMAPS, config("again"))
                break
            except ApiError:
                await asyncio.sleep(0.1)
    assert (await store.get(CONFIGMAPS, "default", "again")).name == "again"
    async with asyncio.timeout(PATIENCE):
        while not store.ready:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def test_a_stalled_etcd_times_out_and_recovers(store: Store, etcd: PrivateEtcd) -> None:
    etcd.freeze()
    with pytest.raises(ApiError) as caught:
        await store.create(CONFIGMAPS, config("stalled"))
    assert caught.value.code in (503, 504)
    etcd.thaw()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.create(CONFIGMAPS, config("after"))
                break
            except ApiError:
                await asyncio.sleep(0.2)
    assert (await store.get(CONFIGMAPS, "default", "after")).name == "after"


async def test_an_etcd_that_is_slow_to_greet_is_waited_for(etcd: PrivateEtcd) -> None:
    """One on a busy host, or far away: who hangs up on it and comes again is never greeted."""
    host, _, port = etcd.endpoint.partition(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.5)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    way = await asyncio.start_server(connected, "127.0.0.1", 0)
    store = Store(f"127.0.0.1:{way.sockets[0].getsockname()[1]}")
    try:
        await store.start()
        await store.create(CONFIGMAPS, config("far"))
    finally:
        await store.close()
        way.close()


async def test_compacted_while_cut_off_lists_anew_and_tells_the_difference(store: Store, etcd: PrivateEtcd) -> None:
    for name in ("kept", "changed", "removed"):
        await store.create(CONFIGMAPS, config(name))
    await store.fresh()
    watch = store.watch(CONFIGMAPS, since=store.revision)
    await watch.start()
    since = store.revision
    another = Store(etcd.endpoint)
    await another.start()
    # Hold the first store's watch while the world moves on and forgets.
    gate = asyncio.Event()
    follow = store._feed._follow

    async def held() -> None:
        await gate.wait()
        await follow()

    store._feed._follow = held  # type: ignore[method-assign]
    store._feed._restart()
    await asyncio.sleep(0.2)
    await another.update(CONFIGMAPS, "default", "changed", lambda obj: with_data(obj, a="1"))
    await another.delete(CONFIGMAPS, "default", "removed")
    await another.create(CONFIGMAPS, config("made"))
    await another.create(CONFIGMAPS, config("brief"))
    await another.delete(CONFIGMAPS, "default", "brief")
    await another.fresh()
    await another._etcd.compact(another.revision)
    await another.close()
    gate.set()
    events = await take(watch, 3)
    assert {(event.type, event.entry.name) for event in events} == {
        ("MODIFIED", "changed"),
        ("ADDED", "made"),
        ("DELETED", "removed"),
    }
    with pytest.raises(ApiError) as caught:
        await store.watch(CONFIGMAPS, since=since).start()
    assert caught.value.code == 410
    await store.create(CONFIGMAPS, config("goes-on"))
    assert (await take(watch, 1))[0].entry.name == "goes-on"


async def test_a_restored_copy_is_the_truth_for_all(store: Store, etcd: PrivateEtcd) -> None:
    """Versions go back: who comes with one of before has to list, and nothing of before is shown again."""
    for name in ("both", "deleted-since"):
        await store.create(CONFIGMAPS, config(name, was="there"))
    etcd.kill()
    etcd.save()
    await etcd.start()
    await store.update(CONFIGMAPS, "default", "both", lambda obj: with_data(obj, was="changed"))
    await store.delete(CONFIGMAPS, "default", "deleted-since")
    for number in range(20):
        await store.create(CONFIGMAPS, config(f"lost-{number}"))
    watch = store.watch(CONFIGMAPS, since=store.revision)
    await watch.start()
    before = store.revision
    etcd.kill()
    etcd.restore()
    await etcd.start()

    async with asyncio.timeout(PATIENCE):
        while await watch.batch():
            pass
        while store.revision >= before or not store.ready:  # noqa: ASYNC110 - what it waits for is another process
            await asyncio.sleep(0.02)
    with pytest.raises(ApiError) as caught:
        await store.watch(CONFIGMAPS, since=before).start()
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    listed = await store.list(CONFIGMAPS)
    assert {entry.name: entry.obj["data"] for entry in listed.entries if "lost" in entry.name or "d" in entry.name} == {
        "deleted-since": {"was": "there"}
    }
    assert (await store.get(CONFIGMAPS, "default", "both")).obj["data"] == {"was": "there"}
    again = store.watch(CONFIGMAPS, since=listed.revision)
    await again.start()
    await store.create(CONFIGMAPS, config("goes-on"))
    [event] = await take(again, 1)
    assert (event.type, event.entry.name) == ("ADDED", "goes-on")


async def test_without_space_left() -> None:
    """What is there can be read and deleted, also by a server that starts only then."""
    async with private_etcd(quota=8 << 20) as small:
        first, later = Store(small.endpoint), Store(small.endpoint)
        await first.start()

        async def fill() -> None:
            for number in range(100):
                await first.create(CONFIGMAPS, config(f"c{number}", filling="x" * 500_000))

        with pytest.raises(ApiError, match="database space exceeded") as refused:
            await fill()
        assert refused.value.code == 500
        assert (await first.get(CONFIGMAPS, "default", "c0")).name == "c0"
        await first.close()
        await later.start()
        try:
            assert (await later.list(CONFIGMAPS)).entries
            await later.delete(CONFIGMAPS, "default", "c0")
            with pytest.raises(ApiError) as gone:
                await later.get(CONFIGMAPS, "default", "c0")
            assert gone.value.code == 404
            # Nor do writes get in that share a transaction, and those of deletions do.
            outcomes = await asyncio.gather(
                *(later.create(CONFIGMAPS, config(f"small-{number}")) for number in range(3)),
                *(later.delete(CONFIGMAPS, "default", f"c{number}") for number in (1, 2)),
                return_exceptions=True,
            )
            assert ["database space exceeded" in str(one) for one in outcomes] == [True] * 3 + [False] * 2
            assert not {entry.name for entry in (await later.list(CONFIGMAPS)).entries} & {"small-0", "c1", "c2"}
        finally:
            await later.close()
