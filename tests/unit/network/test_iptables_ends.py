"""Whoever is cancelled ends, also when the tool has just ended by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.network.iptables import Iptables


async def test_a_tool_that_has_just_ended_keeps_nobody_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    class Ended:
        async def communicate(self) -> None:
            begun.set()
            await asyncio.Event().wait()

        def kill(self) -> None:
            raise ProcessLookupError

        async def wait(self) -> int:
            return 0

    async def run(*_: Any, **__: Any) -> Ended:
        return Ended()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", run)
    task = asyncio.create_task(Iptables.__new__(Iptables)._run(("iptables-save",), ""))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
