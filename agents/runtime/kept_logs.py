"""The last logs of containers that are removed with their pod, kept on the host for a while.

They are linked out of the engine's directory before it deletes them, which costs next to nothing; on another file
system only the end is copied. Layout as a kubelet's: ``<namespace>_<pod>_<uid>/<container>/<restart count>.log``, in
the engine's format (a JSON object a line), what was written before the last rotation with ``.1`` behind.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from agents.runtime.model import POD_NAME, POD_NAMESPACE, ContainerInfo
from orca.client.clock import Clock

KEPT_SECONDS = 3600.0
KEPT_BYTES = 256 << 20
KEPT_PODS = 1000
COPIED_BYTES = 1 << 20
SWEEP_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """One pod's directory: when the last log was put there (Unix time), and its bytes."""

    directory: Path
    at: float
    size: int


def superfluous(kept: list[Kept], now: float) -> list[Kept]:
    """What has to go: what is an hour old, then the oldest beyond the number and the bytes that may be kept. Pure."""
    newest_first = sorted(kept, key=lambda one: -one.at)
    gone, size = [], 0
    for place, one in enumerate(newest_first):
        size += one.size
        if now - one.at >= KEPT_SECONDS or place >= KEPT_PODS or size > KEPT_BYTES:
            gone.append(one)
            size -= one.size
    return gone


class KeptLogs:
    """In ``directory``; ``run`` is a part for a supervisor, the rest is `agents.runtime.Runtime`'s to call."""

    def __init__(self, directory: Path, *, clock: Clock) -> None:
        self.directory = directory
        self._clock = clock
        self._some = asyncio.Event()

    def __repr__(self) -> str:
        return f"<KeptLogs {self.directory}>"

    async def keep(self, info: ContainerInfo, storage_root: str) -> None:
        """Before a container is removed; ``storage_root`` is the engine's directory. Never fails: logs are no reason to
        keep a container."""
        source = Path(storage_root) / "containers" / info.id / f"{info.id}-json.log"
        names = (info.labels.get(POD_NAMESPACE, ""), info.labels.get(POD_NAME, ""), info.pod_uid)
        target = self.directory / "_".join(names) / info.container / f"{info.attempt}.log"
        try:
            await asyncio.to_thread(_keep, source, target)
        except OSError as error:
            log.warning("logs of a container are not kept", container=info.name, error=str(error))
        self._some.set()

    async def clear(self) -> None:
        """Give the space back now."""
        await asyncio.to_thread(self._sweep, everything=True)

    async def run(self) -> None:
        """Let go of what is old or too much, until cancelled."""
        self._some.set()
        while True:
            await self._some.wait()
            if not await asyncio.to_thread(self._sweep):
                self._some.clear()
            await self._clock.sleep(SWEEP_SECONDS)

    def _sweep(self, *, everything: bool = False) -> bool:
        """Whether something is left."""
        kept = [_measured(directory) for directory in _pods(self.directory)]
        gone = kept if everything else superfluous(kept, self._clock.now().timestamp())
        for one in gone:
            shutil.rmtree(one.directory, ignore_errors=True)
        return len(gone) < len(kept)


def _keep(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", ".1"):
        old, new = source.with_name(source.name + suffix), target.with_name(target.name + suffix)
        try:
            os.link(old, new)
        except FileNotFoundError:
            return  # it wrote nothing (any more)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            _copy_end(old, new)
    os.utime(target.parent.parent)


def _copy_end(old: Path, new: Path) -> None:
    """The last lines of a log."""
    with old.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - COPIED_BYTES, 0))
        if size > COPIED_BYTES:
            file.readline()  # half a line
        new.write_bytes(file.read(COPIED_BYTES))


def _pods(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_dir() and path.name.count("_") == 2]
    except FileNotFoundError:
        return []


def _measured(directory: Path) -> Kept:
    size = 0
    for path in directory.rglob("*"):
        try:
            if path.is_file():
                size += path.stat().st_size
        except FileNotFoundError:
            continue
    try:
        return Kept(directory, directory.stat().st_mtime, size)
    except FileNotFoundError:
        return Kept(directory, 0.0, size)
