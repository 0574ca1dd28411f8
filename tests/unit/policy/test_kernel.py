"""nft that cannot be run is a kernel that refuses: told, and tried again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.policy.kernel import KernelError, Nft


async def test_a_program_that_cannot_be_started_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_more(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    nft = Nft()
    nft._program = "nft"
    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_more)
    with pytest.raises(KernelError, match="Resource temporarily unavailable"):
        await nft.apply("add table inet x\n")
