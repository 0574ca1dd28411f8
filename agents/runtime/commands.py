"""Commands that are run in containers to their end: probes and hooks.

A command's time counts from the moment its process is there, as with other runtimes: how long an engine on a busy host
takes to start it says nothing about the container.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from agents.runtime.engine import CALL_SECONDS, Engine
from agents.runtime.errors import (
    EngineTimeout,
    EngineUnavailable,
    NoSuchContainer,
    RefusedByEngine,
)
from agents.runtime.model import ExecResult
from agents.runtime.processes import age_of
from agents.runtime.translate import descendants

OUTPUT_LIMIT = 10 * 1024
REAP_SECONDS = 0.05
FIRST_GLANCE, LAST_GLANCE = 0.01, 0.5
"""Seconds between two looks at a command that the engine has not started yet, or not seen the end of."""
LOOK_SECONDS = 10.0
PROC = Path("/proc")


@dataclass(slots=True)
class _Run:
    """A command under way. ``seconds`` are its process's; the engine has ``CALL_SECONDS`` besides, from ``began``."""

    path: str
    """Of the exec, in the engine's API."""
    began: float
    seconds: float
    ended: bool = False
    """Its process was found to be gone while its output was open."""


class Commands:
    """Runs them in the containers of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<Commands at {self._engine.socket_path}>"

    async def run(self, container_id: str, argv: Sequence[str], *, seconds: float) -> ExecResult:
        """Run a command in a running container and wait for it. When its process is ``seconds`` old, it and its
        children are killed and ``TimeoutError`` is raised. Raises a ``RuntimeFailure`` when that could not be tried,
        ``NoSuchContainer`` among them when the container does not run."""
        asked = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True}
        created = await self._engine.call("POST", f"/containers/{container_id}/exec", body=asked)
        run = _Run(f"/exec/{created['Id']}", asyncio.get_running_loop().time(), seconds)
        output = bytearray()
        try:
            await self._read(run, output)
            code = await self._exit_code(run)
        except TimeoutError:
            await asyncio.shield(self._end(run.path))
            raise
        except aiohttp.ClientError as error:
            raise EngineUnavailable(str(error)) from error
        return ExecResult(code=code, output=bytes(output))

    async def _read(self, run: _Run, output: bytearray) -> None:
        """Start it, and take in what it prints until it has closed its output. Raises TimeoutError."""
        start = self._engine.stream("POST", f"{run.path}/start", body={"Detach": False, "Tty": False})
        try:
            async with asyncio.timeout(CALL_SECONDS):
                response = await start.__aenter__()
        except TimeoutError as error:
            raise EngineTimeout(f"the engine did not start the command within {CALL_SECONDS:g} s") from error
        reading = asyncio.create_task(read_frames(response.content, output, OUTPUT_LIMIT))
        try:
            left = run.seconds
            while not (await asyncio.wait({reading}, timeout=left))[0]:
                left = await self._left(run)
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await start.__aexit__(None, None, None)

    async def _left(self, run: _Run) -> float:
        """Seconds that a command still has which has not ended. Raises TimeoutError when it has none."""
        state = await self._engine.call("GET", f"{run.path}/json", seconds=LOOK_SECONDS)
        if state["Running"] and not state["Pid"]:
            self._check_patience(run, "start")
            return LAST_GLANCE
        left = run.seconds - age_of(PROC / str(state["Pid"]))
        if left == -math.inf and not run.ended:
            # Its children hold its output, or the engine is a moment late with the end of it.
            run.ended = True
            return LAST_GLANCE
        if left <= 0:
            raise TimeoutError
        return left

    async def _exit_code(self, run: _Run) -> int:
        """Of a command that has closed its output. The engine notes the end of a process some time after that; and one
        may close its output and go on."""
        pause = FIRST_GLANCE
        while True:
            state = await self._engine.call("GET", f"{run.path}/json", seconds=LOOK_SECONDS)
            if not state["Running"]:
                if state["ExitCode"] is None:
                    raise RefusedByEngine("the engine does not tell how the command ended")
                return int(state["ExitCode"])
            if run.seconds <= age_of(PROC / str(state["Pid"])) < math.inf:
                raise TimeoutError
            self._check_patience(run, "tell the end of")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_GLANCE)

    def _check_patience(self, run: _Run, what: str) -> None:
        """Raises EngineTimeout."""
        if asyncio.get_running_loop().time() > run.began + run.seconds + CALL_SECONDS:
            raise EngineTimeout(f"the engine did not {what} a command for {CALL_SECONDS:g} s")

    async def _end(self, path: str) -> None:
        """The engine has no call to end a command: its process is killed from outside, children first."""
        try:
            state = await self._engine.call("GET", f"{path}/json", seconds=LOOK_SECONDS)
        except (NoSuchContainer, EngineUnavailable, EngineTimeout):
            return
        if not state["Running"] or not state["Pid"]:
            return
        # Children first, and a moment for their parent to reap them: orphans would stay zombies in a container whose
        # first process does not reap. Then all that is left, with what it started meanwhile.
        for pid in descendants(state["Pid"])[:-1]:
            _kill(pid)
        await asyncio.sleep(REAP_SECONDS)
        for pid in reversed(descendants(state["Pid"])):
            _kill(pid)


async def read_frames(content: aiohttp.StreamReader, output: bytearray, limit: int) -> None:
    """Frames of the engine's multiplexed stream: 1 byte stream, 3 zero, 4 length, then that much."""
    while True:
        try:
            header = await content.readexactly(8)
            data = await content.readexactly(int.from_bytes(header[4:], "big"))
        except asyncio.IncompleteReadError:
            return
        if len(output) < limit:
            output += data[: limit - len(output)]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
