"""How much disk something takes: statvfs of whole file systems, and directory trees counted file by file.

Counting is the one thing here that can be expensive, so it is bounded: a tree that took long to count is not counted
again before fifty times as long has passed (2 % of a core), as cAdvisor backs off from large trees. Walking gives way
to other threads all the time, and never leaves the file system that it began on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agents.stats.model import Filesystem

PAUSE_EVERY = 2000
PAUSE_SECONDS = 0.002
BLOCK = 512
COST_FACTOR = 50.0


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes and inodes of a tree."""

    used: int
    inodes: int

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.used + other.used, self.inodes + other.inodes)


NOTHING = Counted(0, 0)


def filesystem(path: str | Path, at: datetime, counted: Counted | None = None) -> Filesystem | None:
    """The file system of ``path``; used is ``counted``, or all that is used there. None when there is no such path."""
    try:
        info = os.statvfs(path)
        device = os.stat(path).st_dev
    except OSError:
        return None
    size = info.f_frsize
    return Filesystem(
        at=at,
        available=info.f_bavail * size,
        capacity=info.f_blocks * size,
        inodes_free=info.f_ffree,
        inodes=info.f_files,
        used=counted.used if counted is not None else (info.f_blocks - info.f_bfree) * size,
        inodes_used=counted.inodes if counted is not None else info.f_files - info.f_ffree,
        device=device,
    )


def count_tree(root: str) -> Counted:
    """Blocks and inodes at and below ``root``, a file with several names once. Blocks: it sleeps now and then."""
    try:
        top = os.lstat(root)
    except OSError:
        return NOTHING
    blocks, inodes, seen = top.st_blocks, 1, set()
    waiting, steps = [root], 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    steps += 1
                    if steps % PAUSE_EVERY == 0:
                        time.sleep(PAUSE_SECONDS)
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if info.st_dev != top.st_dev:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif info.st_nlink > 1:
                        if info.st_ino in seen:
                            continue
                        seen.add(info.st_ino)
                    blocks += info.st_blocks
                    inodes += 1
        except OSError:
            continue
    return Counted(blocks * BLOCK, inodes)


def count_logs(path: str) -> Counted:
    """A container's log and its rotated parts, which stand beside it under the same name and a suffix."""
    directory, _, name = path.rpartition("/")
    blocks = inodes = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(name):
                    blocks += entry.stat(follow_symlinks=False).st_blocks
                    inodes += 1
    except OSError:
        pass
    return Counted(blocks * BLOCK, inodes)


def count_files(directory: str) -> Counted:
    """The files in a directory, without what is below it."""
    blocks = inodes = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    blocks += entry.stat(follow_symlinks=False).st_blocks
                    inodes += 1
    except OSError:
        pass
    return Counted(blocks * BLOCK, inodes)


@dataclass(slots=True)
class _Kept:
    counted: Counted
    at: float
    cost: float


class Ledger:
    """Remembers what was counted. ``count`` blocks and may be called from several threads (each tree from one)."""

    def __init__(
        self, count: Callable[[str], Counted] = count_tree, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def __repr__(self) -> str:
        return f"<Ledger of {len(self._kept)} trees>"

    def count(self, path: str, max_age: float) -> Counted:
        """A tree as counted ``max_age`` seconds ago at the most, or longer where counting costs too much."""
        began = self._clock()
        kept = self._kept.get(path)
        if kept is not None and began - kept.at < max(max_age, kept.cost * COST_FACTOR):
            return kept.counted
        counted = self._count(path)
        now = self._clock()
        self._kept[path] = _Kept(counted, now, now - began)
        return counted

    def keep(self, paths: set[str]) -> None:
        """Forget all others."""
        for path in self._kept.keys() - paths:
            self._kept.pop(path, None)
