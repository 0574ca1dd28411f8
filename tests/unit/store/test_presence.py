"""A server is shown to live as soon as etcd takes it, whatever was lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orca.client.clock import VirtualClock
from orca.store.outcomes import EtcdUnavailable, Transacted, Write
from orca.store.presence import RETRY_SECONDS, Presence

KEY, TTL = b"/registry/orca/servers/one", 10


class FakeEtcd:
    """Leases that last until they are dropped; ``deaf`` names what gets no answer."""

    def __init__(self, *deaf: str) -> None:
        self.deaf = list(deaf)
        self.leases: dict[int, set[bytes]] = {}
        self.puts = 0

    def _ask(self, what: str) -> None:
        if what in self.deaf:
            self.deaf.remove(what)
            raise EtcdUnavailable("etcd: no answer")

    async def grant(self, seconds: int) -> int:
        assert seconds == TTL
        self._ask("grant")
        lease = 100 + len(self.leases)
        self.leases[lease] = set()
        return lease

    async def keep_alive(self, lease: int) -> bool:
        self._ask("keep_alive")
        return lease in self.leases

    async def transact(self, writes: Sequence[Write]) -> Transacted:
        self._ask("transact")
        for one in writes:
            self.leases[one.lease].add(one.key)
        self.puts += 1
        return Transacted(True, 1, [])

    async def revoke(self, lease: int) -> None:
        self._ask("revoke")
        self.leases.pop(lease, None)


@pytest.mark.parametrize("deaf", ["grant", "transact"])
async def test_one_answer_that_does_not_come_hides_no_server(deaf: str) -> None:
    clock, etcd = VirtualClock(), FakeEtcd(deaf)
    running = asyncio.create_task(Presence(etcd, clock, KEY, b"{}", TTL).run())  # type: ignore[arg-type]
    await clock.advance(RETRY_SECONDS + 0.1)
    assert list(etcd.leases.values()) == [{KEY}]
    await clock.advance(10 * TTL)
    assert etcd.puts == 1, "written once, and then only kept alive"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not etcd.leases


async def test_a_lease_that_ended_meanwhile_is_replaced() -> None:
    clock, etcd = VirtualClock(), FakeEtcd()
    running = asyncio.create_task(Presence(etcd, clock, KEY, b"{}", TTL).run())  # type: ignore[arg-type]
    await clock.advance(1)
    etcd.leases = {7: set()}
    etcd.deaf = ["transact"]
    await clock.advance(TTL)
    assert [keys for keys in etcd.leases.values() if keys] == [{KEY}]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
