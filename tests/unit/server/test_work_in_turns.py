"""What is worked on for one request leaves others their turns: the parts of a long body, the stages of a large write,
the objects of a deleted collection."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web

from orca.api import strategy
from orca.api.builtin import BUILTIN, CONFIGMAPS
from orca.api.customresources.kind import CustomKind, Hook
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.strategy import Strategy
from orca.auth import UserInfo
from orca.cli.interpreter import share_interpreter
from orca.server import bodies
from orca.server.fairness.turns import Turns
from orca.server.options import DeleteOptions
from orca.server.packing import PACKER
from orca.server.verbs import Call, deleting, serving
from orca.server.verbs.core import HEAVY, Core
from orca.store import Entry
from orca.store.entries import encode as stored
from orca.store.entries import place


class _Seen:
    """How often others got a turn."""

    turns = 0


@asynccontextmanager
async def _others() -> AsyncIterator[_Seen]:
    seen = _Seen()

    async def other() -> None:
        while True:
            seen.turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    try:
        yield seen
    finally:
        running.cancel()


def _call(turns: Turns) -> Call:
    return Call(UserInfo("me"), lane=turns.lane(""))


async def test_a_collection_is_deleted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing has to be waited for, as in a dry run."""

    async def deleted(*_: Any) -> None:
        pass

    monkeypatch.setattr(deleting, "delete", deleted)
    entries = [Entry("n", f"c{number}", 5, {}, b"{}") for number in range(100)]
    async with _others() as seen:
        await deleting.delete_entries(
            cast(Core, None), _call(Turns(budget=0.0)), CONFIGMAPS, entries, DeleteOptions.from_query({})
        )
    assert seen.turns >= 99


async def test_only_between_the_stages_of_large_writes() -> None:
    turns = Turns(budget=0.0)
    small, large = _call(turns), _call(turns)
    small.concerns(HEAVY)
    large.concerns(HEAVY + 1)
    large.concerns(1)
    async with _others() as seen:
        await small.between()
        assert seen.turns == 0
        for _ in range(10):
            await large.between()
        assert seen.turns >= 10


async def test_long_bodies_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who has to wait for a turn is not taken for slow, however long one takes to come."""
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.01)
    parts = [b"x" * 1000] * 20

    class Content:
        def __init__(self) -> None:
            self.left = [*parts]

        def is_eof(self) -> bool:
            return False

        async def readany(self) -> bytes:
            return self.left.pop() if self.left else b""

    class Http:
        content = Content()
        content_length = 20_000
        headers: dict[str, str] = {}

    class Slow(Turns):
        waits = 0

        def has_room(self, now: float) -> bool:
            return False

        async def wait(self, lane: object) -> None:
            self.waits += 1
            await asyncio.sleep(0.02)

    turns = Slow()
    body = await bodies.read_body(cast(web.BaseRequest, Http()), turns.lane(""))
    assert body == b"".join(parts)
    assert turns.waits == len(parts)


async def test_what_was_never_served_in_this_version_is_converted_in_turns() -> None:
    row = BUILTIN.by_kind("autoscaling/v1", "HorizontalPodAutoscaler")
    assert row is not None
    assert row.stored_as == "autoscaling/v2"
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}, "spec": {}}
    entries = [Entry("n", "a", 5, None, place(stored(scaler), 5)) for _ in range(160)]
    turns = Turns(budget=0.0)
    made = await serving.serve_all(row, entries, turns.lane(""))
    assert [one.obj["apiVersion"] for one in made] == ["autoscaling/v1"] * 160
    assert turns.waited >= 9
    assert await serving.serve_all(row, entries, turns.lane("")) == made
    assert turns.waited <= 10, "what was made is kept"


async def test_few_are_converted_at_once_where_they_are_large() -> None:
    row = BUILTIN.by_kind("autoscaling/v1", "HorizontalPodAutoscaler")
    assert row is not None
    metadata = {"name": "a", "annotations": {"text": "x" * 40_000}}
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": {}}
    entries = [Entry("n", "a", 5, None, place(stored(scaler), 5)) for _ in range(40)]
    turns = Turns(budget=0.0)
    assert len(await serving.serve_all(row, entries, turns.lane(""))) == 40
    assert turns.waited >= 39


async def test_a_definition_may_need_no_webhook_any_more_once_others_had_their_turn() -> None:
    row = Resource(
        "a.example", "v2", "odds", "odd", "Odd", True, "", "/registry/odds", stored_as="a.example/v1", custom=True
    )
    asked: list[int] = []

    async def hook(objs: list[Obj], api_version: str) -> list[Obj]:
        asked.append(len(objs))
        return [{**obj, "apiVersion": api_version} for obj in objs]

    class Changing(Turns):
        async def wait(self, lane: object) -> None:
            defined(None)
            await super().wait(lane)

    def defined(hook: Hook | None) -> None:
        kind = CustomKind(row, lambda: {"type": "object"}, hook=hook)
        strategy.put(row, Strategy(versions=kind))

    def entries() -> list[Entry]:
        odd = {"apiVersion": "a.example/v1", "kind": "Odd", "metadata": {"name": "a"}}
        return [Entry("n", "a", 5, None, place(stored(odd), 5)) for _ in range(40)]

    try:
        defined(hook)
        made = await serving.serve_all(row, entries(), Changing(budget=0.0).lane(""))
        assert [one.obj["apiVersion"] for one in made] == ["a.example/v2"] * 40
        assert not asked
        defined(hook)
        made = await serving.serve_all(row, entries(), Turns(budget=0.0).lane(""))
        assert [one.obj["apiVersion"] for one in made] == ["a.example/v2"] * 40
        assert asked == [40]
    finally:
        strategy.drop(row)


def test_threads_that_compute_let_the_loop_go_on_soon() -> None:
    before = sys.getswitchinterval()
    try:
        share_interpreter()
        assert sys.getswitchinterval() <= 0.001
    finally:
        sys.setswitchinterval(before)


def test_threads_that_pack_leave_the_loop_a_core() -> None:
    assert PACKER.threads == max(1, (os.cpu_count() or 1) - 1)
