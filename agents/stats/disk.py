"""How much disk something takes: statvfs of whole file systems, and directory trees counted file by file.

Counting is the one thing here that can be expensive, and pods decide how many files they have. So it is bounded: a tree
is counted for a quarter of a second at a time, and from where that was left off at the next. Until it is through, what
was found so far counts, which can only be too little. A tree that took long is not begun again before fifty times as
long has passed (2 % of a core), as cAdvisor backs off from large trees. A walk stays on the file system it began on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agents.stats.model import Filesystem

STEP = 500
"""Files between two looks at the clock."""
TREE_SECONDS = 0.25
"""What one tree may take of one measurement, and what all together may, where each still gets a little."""
BATCH_SECONDS = 1.0
LEAST_SECONDS = 0.005
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


def walk(root: str) -> Iterator[Counted]:
    """What was found so far, every few files; the last is the whole."""
    try:
        top = os.lstat(root)
    except OSError:
        return
    blocks, inodes, steps = top.st_blocks, 1, 0
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    steps += 1
                    if steps % STEP == 0:
                        yield Counted(blocks * BLOCK, inodes)
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
    yield Counted(blocks * BLOCK, inodes)


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
class _Tree:
    whole: Counted = NOTHING
    """As counted last from end to end."""
    counted_at: float = float("-inf")
    cost: float = 0.0
    """Seconds that this took."""
    walk: Iterator[Counted] | None = None
    """One that is not through yet."""
    found: Counted = NOTHING
    spent: float = 0.0


class Ledger:
    """Remembers what was counted, and where counting was left off. Blocks; used by one thread at a time."""

    def __init__(
        self, walk: Callable[[str], Iterator[Counted]] = walk, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._walk = walk
        self._clock = clock
        self._trees: dict[str, _Tree] = {}
        self._left = BATCH_SECONDS

    def __repr__(self) -> str:
        return f"<Ledger of {len(self._trees)} trees>"

    def begin(self) -> None:
        """Another measurement: :meth:`count` may take time again."""
        self._left = BATCH_SECONDS

    def count(self, path: str, max_age: float) -> Counted:
        """A tree as counted ``max_age`` seconds ago at the most, or longer where counting costs too much; of one that
        was never counted to its end at least what was found."""
        tree = self._trees.setdefault(path, _Tree())
        now = self._clock()
        if tree.walk is None:
            if now - tree.counted_at < max(max_age, tree.cost * COST_FACTOR):
                return tree.whole
            tree.walk, tree.found, tree.spent = self._walk(path), NOTHING, 0.0
        self._go_on(tree, now)
        if tree.walk is None:
            return tree.whole
        return Counted(max(tree.whole.used, tree.found.used), max(tree.whole.inodes, tree.found.inodes))

    def _go_on(self, tree: _Tree, began: float) -> None:
        assert tree.walk is not None
        allowed = max(min(TREE_SECONDS, self._left), LEAST_SECONDS)
        spent = 0.0
        for so_far in tree.walk:
            tree.found = so_far
            spent = self._clock() - began
            if spent >= allowed:
                break
        else:
            tree.walk = None
        spent = self._clock() - began
        tree.spent += spent
        self._left -= spent
        if tree.walk is None:
            tree.whole, tree.counted_at, tree.cost = tree.found, self._clock(), tree.spent

    def keep(self, paths: set[str]) -> None:
        """Forget all others."""
        for path in self._trees.keys() - paths:
            self._trees.pop(path, None)
