"""Whatever happens between us and etcd: every watcher sees exactly what etcd says has happened, once and in order, and
no bookmark overtakes an event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import orjson
import pytest

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.store import Store, Watch
from orca.store.etcd import Etcd, end_of
from orca.store.feed import Feed
from orca.store.outcomes import EtcdUnavailable
from tests.api.store.things import config, with_data
from tests.support.etcd import etcd_cluster, leader, private_etcd
from tests.support.patience import PATIENCE
from tests.support.proxy import tcp_proxy

WATCHERS = 100
SECONDS = 5.0
FEWEST = 40
PREFIX = CONFIGMAPS.storage.encode() + b"/"
Step = tuple[str, str, int]
"""(type, name, revision)"""


def is_even(obj: Obj) -> bool:
    return bool(obj["data"].get("part") == "even")


@dataclass
class Follower:
    """One watcher: as fast as it can or now and then asleep, for its own part of the objects; resumes when cut off."""

    store: Store
    since: int
    name: str = ""
    namespace: str = ""
    even: bool = False
    slow: float = 0.0
    leaves: bool = False
    seen: list[Step] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=list)  # (how many were seen, revision of the bookmark)
    resumed: int = 0

    async def run(self) -> None:
        at = self.since
        while True:
            watch = self._watch(at)
            await watch.start()
            while True:
                events = await watch.batch()
                for event in events:
                    at = event.entry.revision
                    if event.type == "BOOKMARK":
                        self.marks.append((len(self.seen), at))
                    else:
                        self.seen.append((event.type, event.entry.name, at))
                if not events:
                    break
                if self.slow:
                    await asyncio.sleep(random.random() * self.slow)
                if self.leaves and random.random() < 0.05:
                    await watch.aclose()
                    break
            self.resumed += 1

    def _watch(self, since: int) -> Watch:
        return self.store.watch(
            CONFIGMAPS,
            self.namespace,
            name=self.name,
            since=since,
            predicate=is_even if self.even else None,
            bookmarks=True,
        )

    def wanted(self, truth: list[tuple[int, str, str, Obj | None, Obj | None]]) -> list[Step]:
        found: list[Step] = []
        for revision, space, name, was, now in truth:
            if (self.namespace and space != self.namespace) or (self.name and name != self.name):
                continue
            before = was is not None and (not self.even or is_even(was))
            after = now is not None and (not self.even or is_even(now))
            if after:
                found.append(("MODIFIED" if before else "ADDED", name, revision))
            elif before:
                found.append(("DELETED", name, revision))
        return found


async def truth_of(endpoint: str, since: int) -> list[tuple[int, str, str, Obj | None, Obj | None]]:
    """Every change after `since` as etcd itself tells it, over a connection that nothing disturbs."""
    etcd = Etcd(endpoint)
    etcd.open()
    try:
        last = await etcd.tick(b"/registry/.orca/truth")
        found: list[tuple[int, str, str, Obj | None, Obj | None]] = []
        async for batch in etcd.watch(b"/registry/", end_of(b"/registry/"), since + 1, previous=True):
            for seen in batch:
                if seen.revision >= last:
                    return found
                if seen.key.startswith(PREFIX):
                    space, name = seen.key[len(PREFIX) :].decode().split("/")
                    was = orjson.loads(seen.previous.value) if seen.previous is not None else None
                    found.append((seen.revision, space, name, was, orjson.loads(seen.value) if seen.value else None))
    finally:
        await etcd.close()
    raise AssertionError("unreachable")


async def told(endpoint: str, since: int) -> list[tuple[int, str, str, Obj | None, Obj | None]]:
    """The same, once etcd, which has just been there and not there, answers."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await truth_of(endpoint, since)
            except EtcdUnavailable:
                await asyncio.sleep(0.2)


async def write(stores: list[Store], stop: asyncio.Event, seed: int, written: list[None]) -> None:
    """Creates, changes and deletes few objects, so that writers meet; notes each success."""
    number = 0
    while not stop.is_set():
        number += 1
        store = random.choice(stores)
        space, name = random.choice(("default", "other")), f"c-{random.randrange(20)}"
        part = random.choice(("even", "odd"))
        try:
            match random.randrange(4):
                case 0:
                    await store.create(CONFIGMAPS, config(name, space, part=part, by=f"{seed}-{number}"))
                case 1 | 2:
                    change = partial(with_data, part=part, by=f"{seed}-{number}")
                    await store.update(CONFIGMAPS, space, name, change)
                case _:
                    await store.delete(CONFIGMAPS, space, name)
            written.append(None)
        except ApiError as error:
            if error.code not in (404, 409, 503, 504):
                raise
            if error.code >= 500:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0)


async def mark(store: Store, stop: asyncio.Event) -> None:
    """Bookmarks far more often than there would be."""
    while not stop.is_set():
        for bucket in list(store._cache.buckets.values()):
            for watch in bucket.watches():
                watch.mark()
        await asyncio.sleep(0.02)


async def verify(
    through: list[str], direct: str, disturb: Callable[[], Awaitable[None]], *, seconds: float = SECONDS
) -> None:
    stores = [Store(endpoints, shared=True) for endpoints in through]
    for store in stores:
        await store.start()
    since = stores[0].revision
    kinds: list[dict[str, object]] = [
        {},
        {"slow": 0.05},
        {"namespace": "default"},
        {"even": True},
        {"even": True, "namespace": "other", "slow": 0.3},
        {"name": "c-7"},
        {"name": "c-7", "namespace": "default"},
        {"leaves": True},
        {"leaves": True, "even": True, "slow": 0.02},
        {"slow": 1.0},
    ]
    followers = [
        Follower(stores[number % len(stores)], since, **kinds[number // 2 % len(kinds)])  # type: ignore[arg-type]
        for number in range(WATCHERS)
    ]
    following = [asyncio.create_task(follower.run()) for follower in followers]
    stop = asyncio.Event()
    written: list[None] = []
    working = [asyncio.create_task(write(stores, stop, seed, written)) for seed in range(12)]
    working += [asyncio.create_task(mark(store, stop)) for store in stores]
    disturbing = asyncio.create_task(_repeat(disturb, stop))
    await asyncio.sleep(seconds)
    async with asyncio.timeout(PATIENCE):
        while len(written) < FEWEST:  # noqa: ASYNC110 - etcd, another process, may have been away all the time
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*working, disturbing)
    truth = await told(direct, since)
    assert len(truth) >= FEWEST
    wanted = [follower.wanted(truth) for follower in followers]
    try:
        async with asyncio.timeout(PATIENCE):
            for follower, steps in zip(followers, wanted, strict=True):
                while len(follower.seen) < len(steps):  # noqa: ASYNC110 - in this process, and soon over
                    await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    await asyncio.sleep(0.2)
    for task in following:
        assert not task.done(), task.exception()
        task.cancel()
    for follower, steps in zip(followers, wanted, strict=True):
        assert follower.seen == steps, difference(follower, steps)
        for count, revision in follower.marks:
            assert all(step[2] <= revision for step in steps[:count])
            assert count == len(steps) or steps[count][2] > revision, "a bookmark has overtaken an event"
    for store in stores:
        await store.close()


def difference(follower: Follower, wanted: list[Step]) -> str:
    missing, odd = [one for one in wanted if one not in follower.seen], [x for x in follower.seen if x not in wanted]
    return f"missing {missing[:5]} of {len(wanted)}, never happened {odd[:5]}, of {len(follower.seen)} seen"


async def _repeat(disturb: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Until then; what was disturbed last is well again afterwards."""
    while not stop.is_set():
        await asyncio.sleep(random.random() * 0.3)
        await disturb()


async def test_connections_are_cut_at_random() -> None:
    async with private_etcd() as etcd:
        host, _, port = etcd.endpoint.rpartition(":")
        async with tcp_proxy((host, int(port))) as proxy:

            async def cut() -> None:
                proxy.cut()

            await verify([f"127.0.0.1:{proxy.port}"] * 2, etcd.endpoint, cut)


async def test_only_the_watch_is_cut_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[asyncio.Task[None]] = []
    follow = Feed._follow

    async def noted(self: Feed) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await follow(self)

    monkeypatch.setattr(Feed, "_follow", noted)
    async with private_etcd() as etcd:

        async def cut() -> None:
            for task in tasks:
                task.cancel()
            tasks.clear()

        await verify([etcd.endpoint] * 2, etcd.endpoint, cut)


async def test_etcd_stands_still_now_and_then() -> None:
    async with private_etcd() as etcd:

        async def freeze() -> None:
            etcd.freeze()
            await asyncio.sleep(random.choice((0.05, 0.3, 1.0, 3.0)))
            etcd.thaw()

        await verify([etcd.endpoint] * 2, etcd.endpoint, freeze, seconds=8)


async def test_leaders_come_and_go() -> None:
    async with etcd_cluster() as members:

        async def change() -> None:
            victim = await leader(members)
            if random.random() < 0.5:
                victim.kill()
                await asyncio.sleep(0.5)
                await victim.start()
            else:
                victim.freeze()
                await asyncio.sleep(1.5)
                victim.thaw()
            await asyncio.sleep(1)

        every = ",".join(member.endpoint for member in members)
        await verify([every, members[0].endpoint], every, change, seconds=10)
