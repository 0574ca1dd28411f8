"""Rounds of writing to watchers: one that fails, or reads nothing, costs the others nothing."""

from __future__ import annotations

import asyncio

import pytest

from orca.api.builtin import CONFIGMAPS
from orca.server.crowd import Crowd, Member
from orca.server.metrics import WatchCounts
from orca.store.cache import Cache
from orca.store.entries import Entry, place
from orca.store.entries import encode as stored
from orca.store.watch import Watch
from tests.support.patience import PATIENCE


class Peer:
    """A connection whose other side may stop reading, or be gone."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.writing_paused = self.gone = False
        self.read_again = asyncio.Event()

    def write(self, data: bytes) -> None:
        if self.gone:
            raise ConnectionResetError
        self.written.append(data)

    async def drained(self) -> None:
        if self.writing_paused:
            await self.read_again.wait()

    @property
    def names(self) -> list[bytes]:
        return [
            line.split(b'"name":"')[1].split(b'"')[0] for line in b"".join(self.written).splitlines() if b"{" in line
        ]


class Watched:
    """A cache of ConfigMaps, and members of a crowd that watch it."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.crowd, self.counts = Crowd(), WatchCounts()
        self.following: list[asyncio.Task[None]] = []

    def change(self, revision: int) -> None:
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{revision}", "namespace": "n"}}
        entry = Entry("n", f"m{revision}", revision, None, place(stored(obj), revision))
        self.cache.bucket(CONFIGMAPS.storage).record(entry.key, entry, revision, 0.0)
        self.cache.revision = revision

    async def join(self, peer: Peer) -> Watch:
        async def fresh() -> None:
            pass

        async def told(revision: int) -> None:
            pass

        watch = Watch(
            CONFIGMAPS,
            self.cache,
            namespace="",
            name="",
            since=self.cache.revision,
            predicate=None,
            hint=None,
            bookmarks=False,
            initial_end=False,
            fresh=fresh,
            told=told,
        )
        member = Member(self.crowd, watch, peer, self.counts)  # type: ignore[arg-type]
        self.following.append(asyncio.create_task(member.follow()))
        await asyncio.sleep(0)
        return watch


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)


async def told(peer: Peer, *names: bytes) -> None:
    """Wait until a peer has been told exactly of these; a round that took long lets the next one wait."""
    async with asyncio.timeout(PATIENCE):
        while len(peer.names) < len(names):  # noqa: ASYNC110 - peers do not tell
            await asyncio.sleep(0.002)
    assert peer.names == [*names]


async def test_all_get_all_in_order_and_it_is_counted() -> None:
    one, peers = Watched(), [Peer() for _ in range(5)]
    for peer in peers:
        await one.join(peer)
    for revision in range(1, 30):
        one.change(revision)
        if revision % 7 == 0:
            await settle()
    for peer in peers:
        await told(peer, *(b"m%d" % revision for revision in range(1, 30)))
    assert one.counts.events == 5 * 29
    sent = b"".join(data for peer in peers for data in peer.written).splitlines(keepends=True)
    assert one.counts.bytes == sum(len(line) for line in sent if line.startswith(b"{"))


async def test_who_does_not_read_waits_and_loses_nothing() -> None:
    one, slow, quick = Watched(), Peer(), Peer()
    await one.join(slow)
    await one.join(quick)
    slow.writing_paused = True
    for revision in range(1, 5):
        one.change(revision)
        await settle()
    await told(quick, b"m1", b"m2", b"m3", b"m4")
    assert slow.written == []
    slow.writing_paused = False
    slow.read_again.set()
    await told(slow, *quick.names)


async def test_who_is_gone_ends_alone() -> None:
    one, lost, other = Watched(), Peer(), Peer()
    await one.join(lost)
    await one.join(other)
    lost.gone = True
    one.change(1)
    with pytest.raises(ConnectionResetError):
        await one.following[0]
    await told(other, b"m1")
    one.change(2)
    await told(other, b"m1", b"m2")


async def test_what_is_pending_at_the_end_is_written() -> None:
    one, peer = Watched(), Peer()
    watch = await one.join(peer)
    one.change(1)
    watch.close()
    one.change(2)
    async with asyncio.timeout(PATIENCE):
        await one.following[0]
    assert peer.names == [b"m1"]


async def test_rounds_that_take_long_are_far_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orca.server.crowd.PAUSE", 1e9)  # as if the first one had taken very long
    loop = asyncio.get_running_loop()
    for pause in (0.5, 5.0, 50.0):  # a machine that stands still for longer sees it pass at once
        monkeypatch.setattr("orca.server.crowd.PAUSE_MOST", pause)
        one, peer = Watched(), Peer()
        await one.join(peer)
        began = loop.time()
        one.change(1)
        await told(peer, b"m1")
        for revision in range(2, 6):
            one.change(revision)
            for _ in range(10):  # turns of the loop, which take no time
                await asyncio.sleep(0)
        if loop.time() - began < pause:
            assert peer.names == [b"m1"]
            await told(peer, b"m1", b"m2", b"m3", b"m4", b"m5")
            assert len(peer.written) == 2
            return
    pytest.fail("this machine stands still")
