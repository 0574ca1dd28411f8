"""Taking away what pods had on this host, and never anything of the host that was mounted there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from agents import mounts


def remove(directory: Path) -> None:
    """Unmount everything at and below ``directory``, then delete it; harmless when there is nothing.

    Raises OSError; nothing is deleted while anything is still mounted: it might be a directory of the host.
    """
    if not directory.exists():
        return
    unmount(directory)
    left = mounts.mounts_below(directory)
    if left:
        raise OSError(errno.EBUSY, "still mounted", str(left[0]))
    try:
        shutil.rmtree(directory)
    except RecursionError:
        _remove_deep(directory)


def _remove_deep(directory: Path) -> None:
    """Delete directories nested deeper than the library can go down: what is below each is moved up first."""
    moved = 0
    while inner := [one for one in os.scandir(directory) if one.is_dir(follow_symlinks=False)]:
        for one in inner:
            for below in list(os.scandir(one.path)):
                if below.is_dir(follow_symlinks=False):
                    moved += 1
                    os.rename(below.path, directory / f".{one.inode()}.{moved}.removed")
                else:
                    os.unlink(below.path)
            os.rmdir(one.path)
    shutil.rmtree(directory)


def unmount(directory: Path) -> None:
    """Unmount everything at and below ``directory``. Raises OSError."""
    for mounted in mounts.mounts_below(directory):
        mounts.unmount(mounted)
