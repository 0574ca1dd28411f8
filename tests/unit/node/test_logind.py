"""Holding up a shutdown through systemd-logind, spoken to over a real message bus."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.node.logind import Logind, forget_settings
from agents.node.shutdown import InhibitorError
from tests.support.logind import FakeLogind
from tests.support.patience import PATIENCE


@pytest.fixture
def logind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLogind]:
    fake = FakeLogind(tmp_path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.address)
    yield fake
    fake.stop()


async def until_locked(logind: FakeLogind, count: int) -> None:
    for _ in range(5000):
        if logind.locked() == count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{logind.locked()} locks, not {count}")


async def test_a_shutdown_is_held_up_told_of_and_let_go(logind: FakeLogind) -> None:
    ours = Logind(logind.settings)
    await ours.hold(3)
    assert logind.inhibited == [("shutdown", "orca-agent", "ending pods", "delay")]
    await asyncio.sleep(0.1)
    assert logind.locked() == 1
    assert not logind.settings.exists(), "logind waits that long by itself"
    told = asyncio.create_task(ours.next())
    await asyncio.sleep(0.1)
    logind.prepare_for_shutdown(active=True)
    assert await asyncio.wait_for(told, PATIENCE)
    await ours.release()
    await until_locked(logind, 0)
    logind.prepare_for_shutdown(active=False)
    assert not await asyncio.wait_for(ours.next(), PATIENCE)
    await ours.hold(3)
    await asyncio.sleep(0.1)
    assert logind.locked() == 1
    await ours.close()
    await until_locked(logind, 0)


async def test_logind_is_told_to_wait_longer(logind: FakeLogind) -> None:
    ours = Logind(logind.settings)
    await ours.hold(90)
    [file] = logind.settings.iterdir()
    assert "InhibitDelayMaxSec=90\n" in file.read_text()
    assert logind.delay == 90
    await ours.close()
    for _ in range(2):
        await forget_settings(logind.settings)
        assert list(logind.settings.iterdir()) == []


async def test_a_logind_that_will_not_wait_that_long_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeLogind(tmp_path, obeys=False)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.address)
    monkeypatch.setattr("agents.node.logind.RELOAD_PAUSES", (0.01,))
    ours = Logind(fake.settings)
    with pytest.raises(InhibitorError, match="lets a shutdown wait 5 s, not the 90 s"):
        await ours.hold(90)
    await ours.close()
    fake.stop()


async def test_a_bus_that_goes_away_is_an_error_and_so_is_none(logind: FakeLogind, tmp_path: Path) -> None:
    ours = Logind(logind.settings)
    await ours.hold(3)
    told = asyncio.create_task(ours.next())
    await asyncio.sleep(0.1)
    logind.stop()
    with pytest.raises(InhibitorError, match="the system bus"):
        await asyncio.wait_for(told, PATIENCE)
    await ours.close()
    another = Logind(logind.settings)
    with pytest.raises(InhibitorError, match="the system bus"):
        await another.hold(3)
    await another.close()


@pytest.mark.parametrize("begun", [True, False])
async def test_who_waits_for_a_signal_ends_with_the_agent(logind: FakeLogind, begun: bool) -> None:
    """Also who was only about to: its thread has yet to come to it."""
    ours = Logind(logind.settings)
    await ours.hold(3)
    held = threading.Event()
    if not begun:
        ours._thread.submit(held.wait, PATIENCE)
    told = asyncio.create_task(ours.next())
    await asyncio.sleep(0.1)
    await ours.close()
    held.set()
    assert not await asyncio.wait_for(told, PATIENCE)
