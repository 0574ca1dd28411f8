"""Throwing images away, and telling which are here, with an engine of the test's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.images.access import Verification
from agents.images.catalogue import Catalogue
from agents.images.collector import PERIOD_SECONDS, CollectionFailed, ImageCollector
from agents.images.garbage import Policy
from agents.images.records import PullRecords
from agents.runtime.errors import EngineUnavailable, RefusedByEngine
from agents.runtime.image_tally import ImageTally
from agents.runtime.model import ImageInfo
from orca.client.clock import VirtualClock
from tests.support.patience import PATIENCE


class Engine:
    """As much of ``agents.runtime.images.Images`` as these parts use."""

    def __init__(self, *names: str) -> None:
        self.present = {name: ImageInfo(name, (f"{name}:1",), (), 100) for name in names}
        self.busy: set[str] = set()
        self.refuses: set[str] = set()
        self.tally = ImageTally()
        self.happens: asyncio.Queue[str] = asyncio.Queue()
        self.lists = 0

    async def list(self) -> list[ImageInfo]:
        self.lists += 1
        return [*self.present.values()]

    async def used(self) -> set[str]:
        return set(self.busy)

    async def remove_all(self, image: ImageInfo) -> None:
        if image.id in self.refuses:
            raise RefusedByEngine("in use")
        del self.present[image.id]

    def forget(self) -> None:
        return

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[str]]:
        async def actions() -> AsyncIterator[str]:
            while (action := await self.happens.get()) != "end":
                yield action
            raise EngineUnavailable("gone")

        yield actions()


class Host:
    def __init__(self, path: Path, engine: Engine, policy: Policy) -> None:
        self.clock = VirtualClock()
        self.told: list[tuple[str, str]] = []
        self.wanted: set[str] = set()
        self.path = path
        self.engine = engine
        self.policy = policy

    def collector(self) -> ImageCollector:
        engine: Any = self.engine

        async def storage() -> Path:
            return self.path

        return ImageCollector(
            engine,
            PullRecords(self.path / "records", Verification(), self.clock),
            policy=self.policy,
            clock=self.clock,
            directory=self.path,
            storage=storage,
            pinned=("pause:1",),
            wanted=lambda: self.wanted,
            tell=lambda reason, message: self.told.append((reason, message)),
        )


def full(monkeypatch: pytest.MonkeyPatch, percent: int, capacity: int = 1000) -> None:
    """The disk of images is this full."""
    disk = SimpleNamespace(f_frsize=1, f_blocks=capacity, f_bavail=capacity * (100 - percent) // 100)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)


async def test_below_the_threshold_nothing_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, 84)
    engine = Engine("a")
    await Host(tmp_path, engine, Policy(minimum_age=0)).collector().collect()
    assert set(engine.present) == {"a"}


async def test_above_it_as_much_goes_as_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, 95)
    engine = Engine("a", "b", "busy", "pause", "wanted")
    engine.busy = {"busy"}
    host = Host(tmp_path, engine, Policy(minimum_age=0))
    host.wanted = {"wanted"}
    collector = host.collector()
    await collector.collect()  # 150 of 1000 bytes are to go, an image has 100
    assert set(engine.present) == {"busy", "pause", "wanted"}
    assert engine.tally.collected["space"] == 2
    with pytest.raises(CollectionFailed, match="Attempted to free 150 bytes, but only found 0 bytes"):
        await collector.collect()
    assert host.told[-1][0] == "FreeDiskSpaceFailed"


async def test_ages_outlive_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, 10)
    engine = Engine("a", "b")
    engine.busy = {"b"}
    host = Host(tmp_path, engine, Policy(maximum_age=3600))
    await host.collector().collect()
    await host.clock.advance(3000)
    await host.collector().collect()
    await host.clock.advance(700)
    await host.collector().collect()
    assert set(engine.present) == {"b"}
    assert engine.tally.collected["age"] == 1


async def test_under_pressure_all_that_is_unused_goes_but_for_what_just_came(tmp_path: Path) -> None:
    engine = Engine("a", "busy", "pause")
    engine.busy = {"busy"}
    host = Host(tmp_path, engine, Policy())
    collector = host.collector()
    assert await collector.delete_unused() == 0
    await host.clock.advance(121)
    engine.present["new"] = ImageInfo("new", ("new:1",), (), 100)
    assert await collector.delete_unused() == 100
    assert set(engine.present) == {"busy", "pause", "new"}


async def rests(host: Host) -> None:
    """Once the collector sleeps: files are written in threads, in real time."""
    async with asyncio.timeout(PATIENCE):
        while " 1 sleeping" not in repr(host.clock):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_failure_that_lasts_is_told_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, 95)
    engine = Engine("a")
    engine.refuses = {"a"}
    host = Host(tmp_path, engine, Policy(minimum_age=0))
    running = asyncio.create_task(host.collector().run())
    await rests(host)
    assert host.told == []
    await host.clock.advance(PERIOD_SECONDS)
    await rests(host)
    running.cancel()
    ((reason, message),) = host.told
    assert reason == "ImageGCFailed"
    assert "errors in image deletion: [in use]" in message


async def test_the_list_follows_events_and_those_of_a_moment_are_one_look() -> None:
    engine, clock, changes = Engine("a"), VirtualClock(), []
    some: Any = engine
    catalogue = Catalogue(some, clock=clock, changed=lambda: changes.append(1))
    running = asyncio.create_task(catalogue.run())
    await clock.settle()
    assert [image.id for image in await catalogue.images()] == ["a"]
    engine.present["b"] = ImageInfo("b", (), (), 1)
    for action in ("pull", "tag", "tag"):
        engine.happens.put_nowait(action)
    await clock.advance(1)
    assert [image.id for image in await catalogue.images()] == ["a", "b"]
    assert (engine.lists, len(changes)) == (2, 2)
    del engine.present["a"]
    engine.happens.put_nowait("end")  # the engine was away: everything is compared again
    await clock.advance(5)
    assert [image.id for image in await catalogue.images()] == ["b"]
    running.cancel()
