"""A command run for a remote user (exec, attach): its streams in either protocol, and how it is connected to a process.

What a client sees at the end is a metav1.Status on the error stream; a command's exit code is a Failure with reason
NonZeroExitCode and a cause ExitCode (k8s.io/apimachinery/pkg/util/remotecommand).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agents.runtime.streams import RawStream
from orca.api.objects import Obj

Size = tuple[int, int]
"""Columns and rows of a terminal."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class RemoteCommand(Protocol):
    """The client's side of a command."""

    async def read_stdin(self) -> bytes:
        """b"" when the client has no more (or is gone)."""

    async def read_size(self) -> Size | None:
        """The next size of the client's terminal; None when there will be no more."""

    async def write(self, stream: int, data: bytes) -> None:
        """Output on stream 1 or 2. Waits while the client does not read; ConnectionError when it is gone."""

    async def wait_closed(self) -> None:
        """Returns when the client is gone."""

    async def finish(self, status: Obj) -> None:
        """Tell how it ended and close."""


def success() -> Obj:
    return {"metadata": {}, "status": "Success"}


def exited(code: int) -> Obj:
    """Status for a command that ended by itself."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(message: str) -> Obj:
    """Status for a command that could not be run."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


async def connect(
    command: RemoteCommand,
    process: RawStream,
    *,
    stdin: bool,
    resize: Callable[[Size], Awaitable[None]],
) -> bool:
    """Move bytes until the process has no more output (True) or the client is gone (False).

    stdin and the terminal's size stop mattering when the output has ended, as with kubelet.
    """

    async def to_process() -> None:
        while data := await command.read_stdin():
            await process.write(data)
        await process.write_eof()

    async def to_client() -> None:
        while (output := await process.read()) is not None:
            await command.write(*output)

    async def sizes() -> None:
        while (size := await command.read_size()) is not None:
            await resize(size)

    output = asyncio.create_task(to_client())
    gone = asyncio.create_task(command.wait_closed())
    others = [asyncio.create_task(sizes())]
    if stdin:
        others.append(asyncio.create_task(to_process()))
    try:
        await asyncio.wait({output, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not output.done():
            return False
        try:
            output.result()
        except ConnectionError:
            return False
        return True
    finally:
        for task in (output, gone, *others):
            task.cancel()
        await asyncio.gather(output, gone, *others, return_exceptions=True)
