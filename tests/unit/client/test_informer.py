"""An informer's cache is always what the server has, whatever happens to its watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orca.api.builtin import CONFIGMAPS
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.support.client_contract import config


@asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    await informer.synced()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_follows_and_tells_in_order() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    client.seed(CONFIGMAPS, config("first", "default"))
    informer = Informer(client, CONFIGMAPS, clock=clock)
    heard: list[str] = []
    informer.on_add(lambda obj: heard.append(f"+{obj['metadata']['name']}"))
    informer.on_update(lambda old, new: heard.append(f"~{new['metadata']['name']}"))
    informer.on_delete(lambda obj: heard.append(f"-{obj['metadata']['name']}"))
    async with running(informer):
        await client.create(CONFIGMAPS, config("second", "default"))
        await client.patch(CONFIGMAPS, "first", {"data": {"a": "1"}}, "default")
        await client.delete(CONFIGMAPS, "second", "default")
        await clock.settle()
        assert heard == ["+first", "+second", "~first", "-second"]
        assert informer.get("default/first") == await client.get(CONFIGMAPS, "first", "default")
        assert informer.get("default/second") is None


async def test_survives_disconnects_and_compaction() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    for name in ("kept", "removed", "reborn"):
        client.seed(CONFIGMAPS, config(name, "default"))
    informer = Informer(client, CONFIGMAPS, clock=clock)
    heard: list[str] = []
    async with running(informer):
        await clock.settle()
        informer.on_delete(lambda obj: heard.append(f"-{obj['metadata']['name']}"))
        client.drop_watches()
        await client.delete(CONFIGMAPS, "removed", "default")
        await client.delete(CONFIGMAPS, "reborn", "default")
        await client.create(CONFIGMAPS, config("reborn", "default"))
        client.compact()
        await clock.advance(10)
        assert sorted(heard) == ["-reborn", "-removed"]
        assert {obj["metadata"]["name"] for obj in informer.list()} == {"kept", "reborn"}
        assert informer.get("default/reborn") == await client.get(CONFIGMAPS, "reborn", "default")


async def test_indexes_follow_changes() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    client.seed(CONFIGMAPS, config("one", "default", part="a"))
    informer = Informer(
        client, CONFIGMAPS, clock=clock, indexers={"part": lambda obj: [obj["metadata"]["labels"]["part"]]}
    )
    async with running(informer):
        assert len(informer.by_index("part", "a")) == 1
        await client.patch(CONFIGMAPS, "one", {"metadata": {"labels": {"part": "b"}}}, "default")
        await clock.settle()
        assert informer.by_index("part", "a") == []
        assert len(informer.by_index("part", "b")) == 1


async def test_a_failing_handler_does_not_stop_the_cache() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    informer = Informer(client, CONFIGMAPS, clock=clock)
    informer.on_add(lambda obj: 1 // 0)  # type: ignore[arg-type, return-value]
    async with running(informer):
        await client.create(CONFIGMAPS, config("one", "default"))
        await clock.settle()
        assert len(informer) == 1


async def test_keeps_and_tells_only_what_a_transform_leaves() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    client.seed(CONFIGMAPS, config("first", "default", a="much"))
    informer = Informer(client, CONFIGMAPS, clock=clock, transform=lambda obj: {"metadata": obj["metadata"]})
    heard: list[object] = []
    informer.on_change(heard.append)
    async with running(informer):
        await client.patch(CONFIGMAPS, "first", {"data": {"a": "more"}}, "default")
        await client.delete(CONFIGMAPS, "first", "default")
        await clock.settle()
    assert len(heard) == 3
    assert all(list(obj) == ["metadata"] for obj in heard)  # type: ignore[call-overload]
    assert informer.list() == []
