"""Signals by name, and processes that are only touched when they are a container's."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.runtime import processes
from agents.runtime.processes import MainProcess, signal_number
from tests.support.patience import PATIENCE


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
            assert child.wait(PATIENCE) == -signal.SIGKILL
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
        assert await process.ended(PATIENCE)
        assert await process.ended(PATIENCE)  # asked again, when it is gone


def begun(
    proc: Path,
    pid: int,
    *,
    runtime: bool = False,
    caught: int = 0,
    nspid: str = "77\t1",
    age: float = 0.0,
    state: str = "S",
) -> None:
    """Files of a process of that age, in seconds, that handles the signals of the mask ``caught``."""
    directory = proc / str(pid)
    flags = 0x400140 if runtime else 0x400100  # as seen of runc and crun, and of what they became
    started = round((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * os.sysconf("SC_CLK_TCK"))
    (directory / "stat").write_text(f"{pid} (a) b)) {state} " + "0 " * 5 + f"{flags} " + "0 " * 12 + f"{started} 0 0\n")
    masks = f"SigBlk:\t{0:016x}\nSigIgn:\t{0:016x}\nSigCgt:\t{caught:016x}\n"
    (directory / "status").write_text(f"Name:\ta\nNSpid:\t{nspid}\n{masks}")


TERM = 1 << (signal.SIGTERM - 1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs, and the runtime, have so long for their beginning that who waits for its end is noticed."""
    monkeypatch.setattr(processes, "BEGIN_SECONDS", 600.0)
    monkeypatch.setattr(processes, "RUNTIME_SECONDS", 600.0)


@pytest.mark.usefixtures("patient")
async def test_a_stop_signal_waits_for_the_program_and_its_handler(tmp_path: Path, child: int) -> None:
    proc = cgroup(tmp_path, child, "3:cpu:/kubepods/podx/abc123\n")
    begun(proc, child, runtime=True, caught=TERM)
    process = MainProcess.of("abc123", child, proc)
    assert process is not None
    with process:
        waiting = asyncio.create_task(process.began(signal.SIGTERM))
        await asyncio.sleep(0.02)
        assert not waiting.done(), "the runtime would take the signal"
        begun(proc, child)
        await asyncio.sleep(0.02)
        assert not waiting.done(), "nobody would take the signal"
        begun(proc, child, caught=TERM)
        await asyncio.wait_for(waiting, PATIENCE)


@pytest.mark.usefixtures("patient")
async def test_a_runtime_that_takes_its_time_is_waited_for_however_old_it_is(tmp_path: Path, child: int) -> None:
    proc = cgroup(tmp_path, child, "0::/abc123\n")
    begun(proc, child, runtime=True, age=3600.0)
    process = MainProcess.of("abc123", child, proc)
    assert process is not None
    with process:
        waiting = asyncio.create_task(process.began(signal.SIGTERM))
        await asyncio.sleep(0.02)
        assert not waiting.done(), "the runtime would take the signal"
        begun(proc, child, age=3600.0)
        await asyncio.sleep(0.02)
        assert not waiting.done(), "the program has just begun"
        begun(proc, child, caught=TERM)
        await asyncio.wait_for(waiting, PATIENCE)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("number", "files"),
    [
        (signal.SIGKILL, {}),
        (signal.SIGTERM, {"nspid": "77\t8"}),
        (signal.SIGTERM, {"age": 3600.0}),
        (signal.SIGTERM, {"runtime": True, "state": "Z", "caught": TERM}),
    ],
    ids=["cannot be caught", "not the first process of its namespace", "has had its time", "ended before it began"],
)
async def test_nothing_is_waited_for_that_would_change_nothing(
    tmp_path: Path, child: int, number: int, files: dict[str, Any]
) -> None:
    proc = cgroup(tmp_path, child, "0::/abc123\n")
    begun(proc, child, **files)
    process = MainProcess.of("abc123", child, proc)
    assert process is not None
    with process:
        await asyncio.wait_for(process.began(number), PATIENCE)
