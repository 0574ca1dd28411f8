"""The kernel's events of memory, on the real thing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.eviction.notifier import MemoryNotifier
from tests.support.patience import PATIENCE

MIB = 1 << 20
ROOT = Path("/sys/fs/cgroup/memory")
EAT = "import sys; taken = bytearray(24 << 20); taken[::4096] = b'x' * len(taken[::4096]); sys.stdin.read()"


@pytest.fixture
def group() -> Iterator[Path]:
    if not (ROOT / "cgroup.event_control").exists():
        pytest.skip("memory is not in cgroup version 1 here")
    path = ROOT / f"orca-events-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def eat(group: Path) -> subprocess.Popen[bytes]:
    """A process in the group that takes 24 MiB until its input ends."""
    script = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -c '{EAT}'"
    return subprocess.Popen(["/bin/sh", "-c", script.replace("b'x'", 'b"x"')], stdin=subprocess.PIPE)


async def test_crossing_the_number_wakes(group: Path) -> None:
    woken = asyncio.Event()
    notifier = MemoryNotifier(group, woken.set)
    notifier.arm(16 * MIB)
    hungry = await asyncio.to_thread(eat, group)
    try:
        async with asyncio.timeout(PATIENCE):
            await woken.wait()
        woken.clear()
        notifier.arm(1 << 40)  # never
    finally:
        await asyncio.to_thread(hungry.communicate)
    assert not woken.is_set()  # the way down crossed the old number only
    notifier.close()


async def test_a_group_without_events_is_left_alone(tmp_path: Path) -> None:
    notifier = MemoryNotifier(tmp_path, lambda: None)
    notifier.arm(MIB)
    notifier.arm(2 * MIB)
    notifier.close()
