"""An etcd of three members loses its leader, then has it back: writing goes on within seconds, nothing is lost."""

from __future__ import annotations

import asyncio
import time

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.store import Store
from tests.api.store.test_store import take
from tests.api.store.things import config
from tests.support.etcd import etcd_cluster, leader
from tests.support.patience import PATIENCE


async def test_the_leader_dies_and_writing_goes_on() -> None:
    async with etcd_cluster() as members:
        store = Store(",".join(member.endpoint for member in members), shared=True)
        await store.start()
        other = Store([member.endpoint for member in members], shared=True)
        await other.start()
        try:
            watch = other.watch(CONFIGMAPS, since=other.revision)
            await watch.start()
            written: list[str] = []
            codes: set[int] = set()
            longest = 0.0

            async def write(count: int) -> None:
                nonlocal longest
                for _ in range(count):
                    began = time.monotonic()
                    while True:
                        name = f"c-{len(written)}"
                        try:
                            await store.create(CONFIGMAPS, config(name))
                        except ApiError as error:
                            codes.add(error.code)
                            if error.code != 409:  # 409: the try that nobody answered had been made
                                await asyncio.sleep(0.05)
                                continue
                        written.append(name)
                        break
                    longest = max(longest, time.monotonic() - began)

            await write(20)
            for _ in range(2):
                leading = await leader(members)
                leading.kill()
                await write(20)
                await leading.start()
                await asyncio.sleep(1)
            await write(20)
            assert longest < PATIENCE
            assert codes <= {409, 503, 504}
            found = {entry.name for entry in (await other.list(CONFIGMAPS)).entries}
            assert found == set(written)
            seen = await take(watch, len(written))
            assert [event.entry.name for event in seen] == written
        finally:
            await store.close()
            await other.close()
