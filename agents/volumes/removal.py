"""Taking away what pods had on this host, and never anything of the host that was mounted there."""

from __future__ import annotations

import errno
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
    shutil.rmtree(directory)


def unmount(directory: Path) -> None:
    """Unmount everything at and below ``directory``. Raises OSError."""
    for mounted in mounts.mounts_below(directory):
        mounts.unmount(mounted)
