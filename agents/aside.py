"""Work whose libraries would cost the agent megabytes for ever, for a few calls a year: it is done by a process of its
own, `python -m <module>`, that ends when it has answered.

The module reads its question from stdin and prints its answer, both JSON (`answer`). It writes no files: what dies in
the middle, the agent or the process, leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

SECONDS = 60.0


class AsideError(Exception):
    """The process could not start, failed or hung; the message is the end of a sentence about what it was to do."""


async def ask(module: str, question: object, *, seconds: float = SECONDS) -> Any:
    """What ``module`` answers. Raises AsideError; the process has ended whenever this has."""
    # `-P`: nothing is imported from wherever the agent was started.
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            module,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise AsideError(f"no process could be started: {error}") from error
    try:
        async with asyncio.timeout(seconds):
            found, errors = await process.communicate(json.dumps(question).encode())
    except TimeoutError as error:
        raise AsideError(f"not within {seconds:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise AsideError(lines[-1] if lines else f"ended with {process.returncode}")
    return json.loads(found)


def answer(work: Callable[[Any], Any]) -> None:
    """The other side: answer the question on stdin."""
    print(json.dumps(work(json.load(sys.stdin))))
