"""Directories of volumes that orca made by itself: on this host's disk, or below an NFS export.

They are made when a volume is first mounted, and removed by the host that the volume's label names.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

from agents import mounts
from agents.volumes import removal
from agents.volumes.errors import VolumeError
from agents.volumes.nfs import Nfs
from orca.api.objects import Obj, name
from orca.api.volumes import ARCHIVE, DELETE, NFS_BASE, ON_DELETE, RETAIN, annotation

MODE = 0o777
"""Whoever a pod's containers run as may write, as with volumes of other local provisioners."""


def make_directory(path: str) -> None:
    """All of it; only the last one is open to everybody. Raises OSError."""
    target = Path(path)
    if not target.is_dir():
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.mkdir(exist_ok=True)
        target.chmod(MODE)


def remove_directory(volume: Obj) -> None:
    """What a volume of this host's disk has. Raises OSError, VolumeError for a path that was not made for it."""
    path = Path(volume["spec"]["local"]["path"])
    # Whoever may change volumes must not be able to have any directory of a host removed.
    if not path.is_absolute() or ".." in path.parts or not path.name.startswith(f"{name(volume)}_"):
        raise VolumeError(f"{path} was not made for this volume")
    if path.is_symlink():
        raise VolumeError(f"{path} is a symbolic link")
    removal.remove(path)


class Exports:
    """Sub-directories of NFS exports; ``root`` is where exports are mounted for the moment."""

    def __init__(self, nfs: Nfs, root: Path) -> None:
        self._nfs = nfs
        self._root = root

    async def make_directory(self, volume: Obj) -> None:
        """The volume's, where it is missing. Raises VolumeError, OSError."""
        async with self._mounted(volume) as (base, inside):
            await asyncio.to_thread(make_directory, str(base / inside))

    async def remove_directory(self, volume: Obj) -> None:
        """Delete, keep or rename the volume's directory, as its class said. Raises VolumeError, OSError."""
        what = annotation(volume, ON_DELETE) or DELETE
        if what == RETAIN:
            return
        async with self._mounted(volume) as (base, inside):
            target = base / inside
            if what == ARCHIVE:
                await asyncio.to_thread(_archive, target)
            else:
                await asyncio.to_thread(removal.remove, target)

    @asynccontextmanager
    async def _mounted(self, volume: Obj) -> AsyncIterator[tuple[Path, PurePosixPath]]:
        source, base = volume["spec"]["nfs"], annotation(volume, NFS_BASE) or "/"
        whole = PurePosixPath(source["path"])
        inside = whole.relative_to(base) if whole.is_relative_to(base) else PurePosixPath()
        if not inside.parts or ".." in inside.parts:
            raise VolumeError(f"{source['path']} is not below {base}")
        path = self._root / name(volume)
        await asyncio.to_thread(removal.unmount, path)
        await asyncio.to_thread(path.mkdir, 0o700, parents=True, exist_ok=True)
        try:
            await self._nfs.attach(source["server"], base, path, volume["spec"].get("mountOptions") or ())
            yield path, inside
        finally:
            await asyncio.to_thread(_let_go, path)


def _archive(path: Path) -> None:
    if path.is_dir():
        os.rename(path, path.with_name(f"archived-{path.name}"))


def _let_go(path: Path) -> None:
    removal.unmount(path)
    if not mounts.is_mounted(path):
        path.rmdir()
