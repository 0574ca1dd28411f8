"""Signals by name, and processes that are only touched when they are a container's."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.runtime.processes import MainProcess, signal_number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+99", None),
        ("0", None),
        ("", None),
        ("SIGNOTHING", None),
    ],
)
def test_signals_are_told_by_name_or_number(name: str, number: int | None) -> None:
    assert signal_number(name) == number


def cgroup(proc: Path, pid: int, text: str) -> Path:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "cgroup").write_text(text)
    return proc


def test_a_process_of_the_container_gets_its_signal(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        proc = cgroup(tmp_path, child.pid, "3:cpu:/kubepods/podx/abc123\n")
        process = MainProcess.of("abc123", child.pid, proc)
        assert process is not None
        with process:
            process.send(signal.SIGKILL)
            assert child.wait(10) == -signal.SIGKILL
            process.send(signal.SIGKILL)  # it has ended: harmless


def test_somebody_elses_process_is_left_alone(tmp_path: Path) -> None:
    proc = cgroup(tmp_path, os.getpid(), "0::/user.slice\n")
    assert MainProcess.of("abc123", os.getpid(), proc) is None
    assert MainProcess.of("abc123", 0, proc) is None
    assert MainProcess.of("abc123", 2**22 + 1, proc) is None


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


async def test_a_process_that_ends_is_noticed_without_being_asked(tmp_path: Path, child: int) -> None:
    process = MainProcess.of("abc123", child, cgroup(tmp_path, child, "0::/abc123\n"))
    assert process is not None
    with process:
        assert not await process.ended(0.01)
        process.send(signal.SIGKILL)
        assert await process.ended(10)
        assert await process.ended(10)  # asked again, when it is gone


async def test_the_runtime_is_waited_for_until_it_has_made_way(tmp_path: Path, child: int) -> None:
    proc = cgroup(tmp_path, child, "3:cpu:/kubepods/podx/abc123\n")
    comm = proc / str(child) / "comm"
    comm.write_text("runc:[2:INIT]\n")
    process = MainProcess.of("abc123", child, proc)
    assert process is not None
    with process:
        waiting = asyncio.create_task(process.began())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        comm.write_text("nginx\n")
        await asyncio.wait_for(waiting, 5)
