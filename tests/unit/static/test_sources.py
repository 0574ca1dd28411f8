"""Directories and URLs of static pods."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from agents.static.judging import Judgement, Manifest
from agents.static.sources import FileSource, Source, UrlSource
from orca.api.objects import Obj, name
from orca.client.clock import SystemClock, VirtualClock
from tests.support.patience import PATIENCE


async def judge(manifests: Sequence[Manifest]) -> list[Judgement]:
    """Each line of a manifest names a pod; "bad" is none."""
    return [
        Judgement(problem="no good")
        if one.text.strip() == "bad"
        else Judgement(tuple({"metadata": {"name": line}} for line in one.text.split()))
        for one in manifests
    ]


class Taken:
    """What a source handed out."""

    def __init__(self, source: Source) -> None:
        self.all: list[list[str]] = []
        self.problems: list[str] = []
        self.changed = asyncio.Event()
        source.take = self._take
        source.complain = lambda origin, problem: self.problems.append(f"{Path(origin).name}: {problem}")

    def _take(self, pods: Iterable[Obj]) -> None:
        self.all.append([name(pod) for pod in pods])
        self.changed.set()

    async def next(self) -> list[str]:
        await asyncio.wait_for(self.changed.wait(), PATIENCE)
        self.changed.clear()
        return self.all[-1]


@asynccontextmanager
async def running(source: Source) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_directory_is_read_but_for_dot_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("second")
    (tmp_path / "a.json").write_text("first")
    (tmp_path / ".swp").write_text("hidden")
    (tmp_path / "c").mkdir()
    (tmp_path / "d.yaml").write_text("bad")
    source = FileSource(tmp_path, 20, "n", clock=VirtualClock(), judge=judge)
    taken = Taken(source)
    await source.look()
    assert taken.all == [["first", "second"]]
    assert taken.problems == ["d.yaml: no good"]
    await source.look()
    assert len(taken.all) == 1, "nothing changed"
    assert taken.problems == ["d.yaml: no good"], "told once"


async def test_a_change_is_told_by_the_kernel_at_once(tmp_path: Path) -> None:
    source = FileSource(tmp_path, 3600, "n", clock=SystemClock(), judge=judge)
    taken = Taken(source)
    async with running(source):
        assert await taken.next() == []
        (tmp_path / ".new").write_text("one")
        (tmp_path / ".new").rename(tmp_path / "one.yaml")
        assert await taken.next() == ["one"]
        (tmp_path / "one.yaml").write_text("two")
        assert await taken.next() == ["two"]
        (tmp_path / "one.yaml").unlink()
        assert await taken.next() == []


async def test_what_turned_bad_goes_on_as_it_was(tmp_path: Path) -> None:
    source = FileSource(tmp_path, 20, "n", clock=VirtualClock(), judge=judge)
    taken = Taken(source)
    file = tmp_path / "a.yaml"
    for text in ("first", "bad", "second now"):
        file.write_text(text)
        await source.look()
    assert taken.all == [["first"], ["first"], ["second", "now"]]
    assert taken.problems == ["a.yaml: no good"]


async def test_a_directory_may_come_later_and_go(tmp_path: Path) -> None:
    clock = VirtualClock()
    source = FileSource(tmp_path / "manifests", 20, "n", clock=clock, judge=judge)
    taken = Taken(source)
    async with running(source):
        assert await taken.next() == []
        (tmp_path / "manifests").mkdir()
        (tmp_path / "manifests" / "a").write_text("one")
        await clock.advance(20)
        assert await taken.next() == ["one"]
        (tmp_path / "manifests" / "a").unlink()
        (tmp_path / "manifests").rmdir()
        assert await taken.next() == []


async def test_a_single_file(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("one")
    source = FileSource(file, 20, "n", clock=VirtualClock(), judge=judge)
    taken = Taken(source)
    await source.look()
    assert taken.all == [["one"]]


@pytest.fixture
async def answers() -> AsyncIterator[tuple[str, list[tuple[int, str]], asyncio.Queue[str]]]:
    """(URL, what it answers: the first of the list until it is taken away, headers seen)."""
    script: list[tuple[int, str]] = [(500, "")]
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def serve(request: web.Request) -> web.Response:
        seen.put_nowait(json.dumps(request.headers.getall("X-Token", [])))
        status, text = script[0]
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/pods", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}/pods", script, seen
    await runner.cleanup()


async def test_a_url_is_asked_with_headers_and_keeps_what_it_said(
    answers: tuple[str, list[tuple[int, str]], asyncio.Queue[str]],
) -> None:
    url, script, seen = answers
    source = UrlSource(url, {"X-Token": ["a", "b"]}, 0.02, "n", clock=SystemClock(), judge=judge)
    taken = Taken(source)
    async with running(source):
        assert await seen.get() == '["a", "b"]'
        await seen.get()
        assert taken.all == [], "a server in trouble asks for nothing"
        script[0] = (200, "one two")
        assert await taken.next() == ["one", "two"]
        script[0] = (500, "")
        while not seen.empty():
            seen.get_nowait()
        for _ in range(2):
            await seen.get()
        script[0] = (200, "")
        assert await taken.next() == []
    assert taken.all == [["one", "two"], []]


async def test_pipes_loops_and_huge_files_harm_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("first")
    (tmp_path / "b.yaml").write_text("second")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(1 << 40)
    source = FileSource(tmp_path, 20, "n", clock=VirtualClock(), judge=judge)
    taken = Taken(source)
    async with asyncio.timeout(PATIENCE):
        await source.look()
        assert taken.all == [["first", "second"]]
        with (tmp_path / "b.yaml").open("wb") as file:
            file.truncate(1 << 40)
        await source.look()
        assert taken.all[-1] == ["first", "second"], "what cannot be read any more does not end its pod"
        (tmp_path / "b.yaml").write_text("third")
        await source.look()
        assert taken.all[-1] == ["first", "third"]


async def test_a_pipe_in_the_place_of_a_manifest_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pod.yaml")
    source = FileSource(tmp_path / "pod.yaml", 20, "n", clock=VirtualClock(), judge=judge)
    taken = Taken(source)
    async with asyncio.timeout(PATIENCE):
        await source.look()
    assert taken.all == [[]]
