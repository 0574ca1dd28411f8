"""etcd writes one transaction after the other: what is small does not stand behind all that is large."""

from __future__ import annotations

import asyncio

import pytest

from orca.store import commits as module
from orca.store import revisions
from orca.store.commits import BYTES, MOST, SMALL, UNDER_WAY, Commits
from orca.store.fence import Fence, behind
from orca.store.outcomes import EtcdUnavailable, Transacted, Write
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


def _led(commits: Commits, fence: Fence, key: bytes, size: int) -> asyncio.Task[Transacted]:
    with behind(fence):
        return asyncio.create_task(commits.commit([Write(key, bytes(size), 0)]))


@pytest.mark.parametrize(("overdue", "asked"), [(0.0, 1), (3600.0, 30)])
async def test_silence_is_told_to_all_that_have_stood_as_long(
    overdue: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and not after one round each; what came later has its own. A term lasts on: it has written nothing."""
    monkeypatch.setattr(module, "OVERDUE", overdue)
    etcd = FakeEtcd(silent=True)
    commits = Commits(etcd.send)
    fence = Fence(b"/term", revisions.at(1))
    large = [asyncio.create_task(commits.commit([Write(b"l%d" % n, bytes(UNDER_WAY), 0)])) for n in range(29)]
    large.append(_led(commits, fence, b"led", UNDER_WAY))
    told = await asyncio.gather(*large, return_exceptions=True)
    assert [type(one) for one in told] == [EtcdUnavailable] * 30
    assert etcd.asked == asked
    assert bool(fence.why) is (asked == 30)
    assert not commits._large
    assert commits._under_way == 0


@pytest.mark.parametrize("size", [2, UNDER_WAY])
async def test_who_gives_up_what_was_not_sent_leads_on(size: int) -> None:
    etcd = FakeEtcd()
    etcd.held.clear()
    commits = Commits(etcd.send)
    first, second = Fence(b"/term", revisions.at(1)), Fence(b"/other", revisions.at(1))
    sent = _led(commits, first, b"sent", UNDER_WAY)
    await _turns()
    waits = _led(commits, second, b"waits", size)
    await _turns(20 if size > SMALL else 1)
    assert etcd.asked == 1
    waits.cancel()
    await asyncio.wait({waits})
    assert not second.why
    assert not commits._waiting
    assert not commits._large
    sent.cancel()
    await asyncio.wait({sent})
    assert first.why
    etcd.held.set()
    await _turns()
    assert etcd.asked == 1


async def test_what_etcd_refused_was_not_written() -> None:
    """Who shared a transaction with it and gives up before the second try leads on."""
    etcd = FakeEtcd(refuses=b"bad")
    etcd.held.clear()
    commits = Commits(etcd.send)
    fence = Fence(b"/term", revisions.at(1))
    bad = asyncio.create_task(commits.commit([Write(b"bad", b"bad", 0)]))
    led = _led(commits, fence, b"led", 2)
    await _turns()
    assert etcd.asked == 1
    etcd.held.set()
    while etcd.asked < 2:  # noqa: ASYNC110 - turns of the loop
        await asyncio.sleep(0)
    led.cancel()
    await asyncio.wait({bad, led})
    assert not fence.why
    assert not etcd.stored
