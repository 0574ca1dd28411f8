"""Directories of volumes that orca made by itself: on this host's disk, or below an NFS export.

They are made when a volume is first mounted, and removed by the host that the volume's label names.

With a pattern of its class's, a claim's directory may be one that an earlier claim had. So a link beside it names the
volume that mounted it last (``.orca-data -> pvc-…``), and no other one's end takes it away: neither that of a volume
that is removed late, nor a removal that is tried again when it was done already.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from weakref import WeakValueDictionary

import structlog

from agents import mounts
from agents.threads import to_the_end
from agents.volumes import removal
from agents.volumes.errors import VolumeError
from agents.volumes.nfs import Nfs
from orca.api.objects import Obj, name
from orca.api.volumes import ARCHIVE, DELETE, NFS_BASE, ON_DELETE, RETAIN, annotation

log = structlog.get_logger()

MODE = 0o777
"""Whoever a pod's containers run as may write, as with volumes of other local provisioners."""
MOST_ARCHIVES = 10_000
UNFINISHED = 0o600
"""Of a directory that is not open yet. Nobody else gives a directory this mode: whoever finds it goes on."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def make_directory(path: str) -> None:
    """All of it; only the last one is open to everybody. Raises OSError, VolumeError where something else is."""
    target = Path(path)
    if target.is_symlink() and target.is_dir():
        return  # an administrator has moved it: nobody else can write beside volumes
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _parent(target.parent, PurePosixPath(target.name)) as at:
        _make_open(target.name, at)


def _make_open(last: str, at: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(last, UNFINISHED, dir_fd=at)
    mode = os.stat(last, dir_fd=at, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        raise VolumeError(f"{last} is there and is no directory")
    if mode & 0o777 == UNFINISHED:
        made = os.open(last, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        try:
            os.fchmod(made, MODE)
        finally:
            os.close(made)


@contextmanager
def _parent(base: Path, inside: PurePosixPath, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the directory that ``inside`` is in. Raises OSError.

    No link below ``base`` is followed: who has a volume may put links into it, and with a pattern of their class name a
    directory behind one, which would be anywhere on this host.
    """
    at = os.open(base, _DIRECTORY)
    try:
        for part in inside.parts[:-1]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=at)
            deeper = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = deeper
        yield at
    finally:
        os.close(at)


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
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By volume: several pods may start with the same one."""

    async def make_directory(self, volume: Obj) -> None:
        """The volume's, where it is missing. Raises VolumeError, OSError."""
        async with self._mounted(volume) as (base, inside):
            await to_the_end(_make_below, base, inside, name(volume))

    async def remove_directory(self, volume: Obj) -> None:
        """Delete, keep or rename the volume's directory, as its class said. Raises VolumeError, OSError."""
        what = annotation(volume, ON_DELETE) or DELETE
        if what == RETAIN:
            return
        async with self._mounted(volume) as (base, inside):
            await asyncio.to_thread(_give_up, base, inside, name(volume), _archive if what == ARCHIVE else _remove)

    async def clear(self) -> None:
        """Unmount what an agent that was killed had mounted for the moment."""
        for left in await asyncio.to_thread(lambda: sorted(self._root.glob("*"))):
            async with self._locks.setdefault(left.name, asyncio.Lock()):
                try:
                    await asyncio.to_thread(_let_go, left)
                except OSError as error:
                    log.warning("an export stays mounted for now", path=str(left), error=str(error))

    @asynccontextmanager
    async def _mounted(self, volume: Obj) -> AsyncIterator[tuple[Path, PurePosixPath]]:
        source, base = volume["spec"]["nfs"], annotation(volume, NFS_BASE) or "/"
        whole = PurePosixPath(source["path"])
        inside = whole.relative_to(base) if whole.is_relative_to(base) else PurePosixPath()
        if not inside.parts or ".." in inside.parts:
            raise VolumeError(f"{source['path']} is not below {base}")
        path = self._root / name(volume)
        async with self._locks.setdefault(name(volume), asyncio.Lock()):
            await asyncio.to_thread(removal.unmount, path)
            await asyncio.to_thread(path.mkdir, 0o700, parents=True, exist_ok=True)
            try:
                await self._nfs.attach(source["server"], base, path, volume["spec"].get("mountOptions") or ())
                yield path, inside
            finally:
                await asyncio.to_thread(_let_go, path)


def _make_below(base: Path, inside: PurePosixPath, volume: str) -> None:
    with _parent(base, inside, make=True) as at:
        if volume not in inside.name:  # else no other volume can have it
            _mark(inside.name, volume, at)
        _make_open(inside.name, at)


def _give_up(base: Path, inside: PurePosixPath, volume: str, put_away: Callable[[str, int], None]) -> None:
    with suppress(FileNotFoundError), _parent(base, inside) as at:
        if (other := _marked(inside.name, at)) not in ("", volume):
            log.info("a directory is another volume's by now, and stays", volume=volume, path=str(inside), other=other)
            return
        with suppress(FileNotFoundError):
            put_away(inside.name, at)
        if _marked(inside.name, at) == volume:
            os.unlink(_mark_of(inside.name), dir_fd=at)


def _mark_of(directory: str) -> str:
    """The link beside a directory that names the volume it is of."""
    short = len(os.fsencode(directory)) <= 200
    return f".orca-{directory if short else hashlib.sha256(os.fsencode(directory)).hexdigest()}"


def _marked(directory: str, at: int) -> str:
    """The volume that mounted it last; "" where nobody has noted it."""
    try:
        return os.readlink(_mark_of(directory), dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return ""
        raise


def _mark(directory: str, volume: str, at: int) -> None:
    if _marked(directory, at) == volume:
        return
    mark = _mark_of(directory)
    made = f"{mark}.{volume}"
    with suppress(FileExistsError):  # of an agent that was killed
        os.symlink(volume, made, dir_fd=at)
    with suppress(FileNotFoundError):  # another host was faster with the same
        os.replace(made, mark, src_dir_fd=at, dst_dir_fd=at)


def _remove(directory: str, at: int) -> None:
    removal.remove(Path(f"/proc/self/fd/{at}") / directory)


def _archive(directory: str, at: int) -> None:
    if stat.S_ISDIR(os.stat(directory, dir_fd=at, follow_symlinks=False).st_mode):
        _rename(directory, f"archived-{directory}", at)


def _rename(name: str, wanted: str, at: int) -> None:
    """To the first free name: with a pattern of the class's, one claim after the other has the same directory."""
    for number in range(1, MOST_ARCHIVES):
        try:
            os.rename(name, wanted if number == 1 else f"{wanted}-{number}", src_dir_fd=at, dst_dir_fd=at)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return
    raise VolumeError(f"{wanted} is there {MOST_ARCHIVES} times")


def _let_go(path: Path) -> None:
    removal.unmount(path)
    if not mounts.is_mounted(path):
        path.rmdir()
