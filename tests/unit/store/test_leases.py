"""Leases that objects share, while etcd does not answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from orca.client.clock import VirtualClock
from orca.store.leases import Leases
from orca.store.outcomes import EtcdUnavailable
from tests.support.patience import PATIENCE


async def test_nobody_waits_for_the_failures_of_those_before() -> None:
    """Else a hundred writers of events would wait five seconds each, one after the other."""
    answers: list[asyncio.Future[int]] = []

    async def grant(_seconds: int) -> int:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    leases = Leases(SimpleNamespace(grant=grant), VirtualClock())  # type: ignore[arg-type]
    waiting = [asyncio.create_task(leases.lease(3600)) for _ in range(10)]
    await asyncio.sleep(0)
    answers[0].set_exception(EtcdUnavailable("etcd: Deadline Exceeded"))
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in results] == [EtcdUnavailable] * 10
    assert len({id(one) for one in results}) == 10
    assert len(answers) == 1
    # Who comes after the failure asks anew.
    again = asyncio.create_task(leases.lease(3600))
    await asyncio.sleep(0)
    answers[1].set_result(7)
    assert await again == 7
