"""First processes of containers, signalled by this agent itself.

The engine sends a signal by running its lowest runtime once more, which costs as much CPU as a third of a container's
start. A pidfd names the process beyond doubt, whatever becomes of its number.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")
BEGIN_SECONDS = 1.0
"""How long after its start a container's program is waited for that could not take a signal yet."""
RUNTIME_SECONDS = 10.0
"""How long the runtime may take to become that program: a host under load takes seconds."""
_GLANCE_SECONDS = 0.005
_TICKS = os.sysconf("SC_CLK_TCK")
_FLAGS, _START_TIME = 9 - 3, 22 - 3
"""Where ``/proc/PID/stat`` has them, counted from behind the name (proc_pid_stat(5) counts from 1)."""
_NOTHING_EXECUTED = 0x40
"""The flag of a process that was forked and has not become another program since (the kernel's PF_FORKNOEXEC)."""


def signal_number(name: str) -> int | None:
    """``SIGTERM``, ``TERM``, ``15``, ``SIGRTMIN+3``; None for what is no signal here."""
    if name.isdigit():
        number = int(name)
        return number if number in range(1, signal.SIGRTMAX + 1) else None
    word = name.upper().removeprefix("SIG")
    for base, sign in (("RTMIN", 1), ("RTMAX", -1)):
        rest = word.removeprefix(base)
        if rest != word and (not rest or rest[1:].isdigit()):
            number = signal.Signals[f"SIG{base}"] + sign * int(rest[1:] or 0)
            return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
    found = signal.Signals.__members__.get(f"SIG{word}")
    return found.value if found is not None else None


def age_of(directory: Path) -> float:
    """Seconds since the process was made whose directory in /proc it is; endless when it has ended."""
    fields = _fields(directory)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[_START_TIME]) / _TICKS if fields else math.inf


def _fields(directory: Path) -> list[str]:
    """Of ``/proc/PID/stat``, from behind the name on; none when the process has ended."""
    try:
        fields = (directory / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] == "Z" else fields


class MainProcess:
    """A running container's first process. Close it, or use it in a ``with``."""

    def __init__(self, descriptor: int, directory: Path) -> None:
        self._descriptor = descriptor
        self._directory = directory

    @classmethod
    def of(cls, container_id: str, pid: int, proc: Path = _PROC) -> MainProcess | None:
        """None when it cannot be had: it has ended, or the number belongs to somebody else."""
        if pid <= 1:
            return None
        directory = proc / str(pid)
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        try:
            # The engine names a container's cgroup by its id, with both drivers and on both versions.
            ours = container_id in (directory / "cgroup").read_text()
        except OSError:
            ours = False
        if not ours:
            os.close(descriptor)
            return None
        return cls(descriptor, directory)

    async def began(self, number: int) -> None:
        """Wait until the container's own program runs and has made up its mind about signal ``number``.

        In the moment after a start the process is still the runtime's (runc calls it ``runc:[2:INIT]``, crun ``crun``),
        which would answer a stop signal itself, with exit code 2. Then it is the program's, but without its signal
        handlers yet; and the kernel drops what the first process of a PID namespace does not handle
        (pid_namespaces(7)): such a container would live on until its grace period is over. Bounded by
        ``RUNTIME_SECONDS`` for the one, and for the other by ``BEGIN_SECONDS`` after the program's start.
        """
        left = BEGIN_SECONDS - age_of(self._directory)
        for _ in range(round(RUNTIME_SECONDS / _GLANCE_SECONDS)):
            if not self._is_runtime():
                break
            left = BEGIN_SECONDS
            await asyncio.sleep(_GLANCE_SECONDS)
        while left > 0 and self._would_miss(number):
            left -= _GLANCE_SECONDS
            await asyncio.sleep(_GLANCE_SECONDS)

    def _is_runtime(self) -> bool:
        fields = _fields(self._directory)
        return bool(fields) and bool(int(fields[_FLAGS]) & _NOTHING_EXECUTED)

    def _would_miss(self, number: int) -> bool:
        """Whether the kernel would drop the signal: sent to PID 1, which neither catches nor blocks nor ignores it."""
        if number in (signal.SIGKILL, signal.SIGSTOP):
            return False
        try:
            status = dict(line.split(":", 1) for line in (self._directory / "status").read_text().splitlines())
        except OSError:
            return False
        bit = 1 << (number - 1)
        decided = any(int(status[mask], 16) & bit for mask in ("SigCgt", "SigBlk", "SigIgn"))
        return not decided and status["NSpid"].split()[-1] == "1"

    def send(self, number: int) -> None:
        """Harmless when the process has ended."""
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return

    async def ended(self, seconds: float) -> bool:
        """Wait so long for the process to end; True when it has. Costs nothing meanwhile: the kernel tells."""
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        loop.add_reader(self._descriptor, end.set)
        try:
            async with asyncio.timeout(seconds):
                await end.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._descriptor)
        return True

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
