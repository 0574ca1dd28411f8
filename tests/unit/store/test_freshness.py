"""One question to etcd for all reads that wait at that moment."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from orca.api.errors import ApiError
from orca.store.freshness import Freshness
from orca.store.outcomes import EtcdUnavailable


class Deaf:
    """An etcd that does not answer while it is asked."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def revision(self, key: bytes) -> int:
        await self.over.wait()
        raise EtcdUnavailable("etcd: connection refused")


async def test_a_question_that_fails_is_told_to_all_who_wait_and_to_nobody_else() -> None:
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    etcd = Deaf()
    freshness = Freshness(etcd, None, None, shared=True)  # type: ignore[arg-type]
    waiting = [asyncio.create_task(freshness.fresh()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    etcd.over.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in results] == [asyncio.CancelledError, ApiError, ApiError]

    etcd.over.clear()
    gone = asyncio.create_task(freshness.fresh())
    for _ in range(3):
        await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    etcd.over.set()
    for _ in range(5):
        await asyncio.sleep(0)
    del gone, waiting, results
    gc.collect()
    assert not unheard
