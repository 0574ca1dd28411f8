"""Commands in containers, on an engine that starts them late and tells of their end late."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from agents.runtime import commands
from agents.runtime.commands import Commands
from agents.runtime.errors import EngineTimeout
from tests.support.patience import PATIENCE

FRAME = b"\x01\0\0\0\0\0\0\x02hi"


class Engine:
    """Has one exec, of a process that a test starts itself."""

    socket_path = "/none"

    def __init__(self) -> None:
        self.output = asyncio.StreamReader()
        self.state: dict[str, Any] = {"Running": True, "Pid": 0, "ExitCode": None}
        self.asked = asyncio.Queue[str]()
        self.process: subprocess.Popen[bytes] | None = None

    async def call(self, method: str, path: str, **_: Any) -> Any:
        if method == "POST":
            return {"Id": "e"}
        self.asked.put_nowait(path)
        return dict(self.state)

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(content=self.output)

    def begin(self) -> None:
        """The process is there."""
        self.process = subprocess.Popen(["sleep", "600"])
        self.state["Pid"] = self.process.pid

    def finish(self, code: int | None) -> None:
        """It closes its output; ``code`` is what the engine tells of its end, None for nothing yet."""
        self.output.feed_data(FRAME)
        self.output.feed_eof()
        if code is not None:
            self.state |= {"Running": False, "ExitCode": code}

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    yield engine
    engine.end()


def run(engine: Engine, seconds: float) -> asyncio.Task[Any]:
    made: Any = engine
    return asyncio.create_task(Commands(made).run("c", ["x"], seconds=seconds))


async def until_asked(engine: Engine, times: int = 1) -> None:
    async with asyncio.timeout(PATIENCE):
        for _ in range(times):
            await engine.asked.get()


async def test_the_end_of_a_command_is_waited_for_when_the_engine_tells_it_late(engine: Engine) -> None:
    """Otherwise a probe that failed would have succeeded."""
    engine.begin()
    running = run(engine, PATIENCE)
    engine.finish(None)
    await until_asked(engine, 2)
    engine.state |= {"Running": False, "ExitCode": 3}
    result = await asyncio.wait_for(running, PATIENCE)
    assert (result.code, result.output) == (3, b"hi")


async def test_time_that_the_engine_takes_to_start_a_command_does_not_count(engine: Engine) -> None:
    running = run(engine, 0.05)
    await until_asked(engine, 2)
    assert not running.done()
    engine.finish(0)
    assert (await asyncio.wait_for(running, PATIENCE)).code == 0


async def test_a_command_is_killed_when_its_own_time_is_over(engine: Engine) -> None:
    running = run(engine, 0.05)
    await until_asked(engine)
    engine.begin()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running, PATIENCE)
    assert engine.process is not None
    assert engine.process.wait(PATIENCE) == -9


async def test_one_that_has_closed_its_output_and_goes_on_is_killed_as_well(engine: Engine) -> None:
    engine.begin()
    running = run(engine, 0.05)
    engine.finish(None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running, PATIENCE)
    assert engine.process is not None
    assert engine.process.wait(PATIENCE) == -9


async def test_an_engine_that_never_starts_it_says_nothing_of_the_container(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "CALL_SECONDS", 0.1)
    monkeypatch.setattr(commands, "LAST_GLANCE", 0.05)
    with pytest.raises(EngineTimeout):
        await asyncio.wait_for(run(engine, 0.01), PATIENCE)
