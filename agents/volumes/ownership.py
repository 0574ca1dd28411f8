"""Who owns the files of a volume: fsGroup as Kubernetes applies it.

Every file gets the group and, for it, at least the rights of reading (and writing, unless the volume is read-only);
directories also search and setgid, so that new files inherit the group.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

WRITE_MASK, READ_MASK, SEARCH_MASK = 0o660, 0o440, 0o110


def give_to_group(path: Path, group: int, *, read_only: bool = False, only_on_mismatch: bool = False) -> None:
    """Apply `group` to `path` and everything in it, without following links. Raises OSError.

    `only_on_mismatch` is fsGroupChangePolicy OnRootMismatch: nothing is done when the top has group and rights already.
    """
    if only_on_mismatch and _fits(path, group, read_only):
        return
    for directory, _, files in os.walk(path, topdown=False, followlinks=False):
        for entry in files:
            _give(os.path.join(directory, entry), group, read_only)
        # The top comes last: when it fits, an earlier run came to its end.
        _give(directory, group, read_only)


def _fits(path: Path, group: int, read_only: bool) -> bool:
    status = path.stat()
    wanted = _mode(status.st_mode, read_only)
    return status.st_gid == group and stat.S_IMODE(status.st_mode) & wanted == wanted


def _give(path: str, group: int, read_only: bool) -> None:
    status = os.lstat(path)
    os.chown(path, -1, group, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, _mode(status.st_mode, read_only))


def _mode(mode: int, read_only: bool) -> int:
    wanted = stat.S_IMODE(mode) | (READ_MASK if read_only else WRITE_MASK)
    return wanted | SEARCH_MASK | stat.S_ISGID if stat.S_ISDIR(mode) else wanted
