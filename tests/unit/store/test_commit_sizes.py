"""etcd writes one transaction after the other: what is small does not stand behind all that is large."""

from __future__ import annotations

import asyncio

from orca.store.commits import BYTES, MOST, SMALL, UNDER_WAY, Commits
from orca.store.outcomes import EtcdUnavailable, Write
from tests.unit.store.test_commits import FakeEtcd


async def _turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_etcd_is_not_given_more_than_it_soon_writes() -> None:
    etcd = FakeEtcd()
    etcd.held.clear()
    commits = Commits(etcd.send)
    size = UNDER_WAY // 2
    large = [asyncio.create_task(commits.commit([Write(b"large-%d" % n, bytes(size), 0)])) for n in range(10)]
    await _turns()
    assert etcd.asked == 2
    small = asyncio.create_task(commits.commit([Write(b"lease", b"{}", 0)]))
    await _turns()
    assert etcd.asked == 3
    assert not any(one.done() for one in large)
    etcd.held.set()
    assert (await small).won
    assert all(one.won for one in await asyncio.gather(*large))
    assert etcd.asked == 11
    assert commits._under_way == 0


async def test_what_was_refused_or_given_up_makes_room() -> None:
    etcd = FakeEtcd()
    etcd.silent = True
    commits = Commits(etcd.send)
    large = [asyncio.create_task(commits.commit([Write(b"l%d" % n, bytes(UNDER_WAY), 0)])) for n in range(5)]
    await _turns(2)
    large[3].cancel()
    told = await asyncio.gather(*large, return_exceptions=True)
    assert [type(one) for one in told] == [EtcdUnavailable] * 3 + [asyncio.CancelledError, EtcdUnavailable]
    assert commits._under_way == 0
    etcd.silent = False
    assert (await commits.commit([Write(b"again", bytes(UNDER_WAY), 0)])).won


async def test_middling_ones_share_transactions() -> None:
    etcd = FakeEtcd()
    commits = Commits(etcd.send)
    size = SMALL * 2
    done = await asyncio.gather(*(commits.commit([Write(b"m%d" % n, bytes(size), 0)]) for n in range(32)))
    assert all(one.won for one in done)
    assert max(etcd.sizes) == BYTES // size <= MOST
    assert etcd.asked == 32 * size // BYTES
