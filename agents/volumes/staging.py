"""Parts of volumes for single containers: a sub path, or a mount that is read-only in depth.

Each becomes a mount of its own, which the engine binds into the container as it starts it, and which is unmounted then:
one that is made with all mounts below a directory of the host may hold mounts of other pods. A path inside a volume is
what a container made of it: between looking at it and mounting it a directory may become a link to somewhere else. So
it is opened step by step, following no link, and what is mounted is what was opened.
Reference: k8s.io/mount-utils and k8s.io/kubernetes ``pkg/volume/util/subpath``.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from agents import mounts
from agents.volumes import removal

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class LeadsOut(Exception):
    """A sub path is not inside its volume."""


def stage(volume: str, sub_path: str, target: Path, *, in_depth: bool) -> None:
    """Mount ``sub_path`` of ``volume`` ("" for all of it) at ``target``; a missing one becomes a directory.

    ``in_depth`` makes it read-only with everything mounted below it. Harmless to repeat. Raises LeadsOut and OSError.
    """
    opened = open_inside(volume, sub_path)
    try:
        removal.unmount(target)
        _make_like(opened, target)
        mounts.bind_opened(opened, target, recursive=in_depth)
        if in_depth:
            mounts.make_private(target, recursive=True)
            mounts.make_read_only_in_depth(target)
    finally:
        os.close(opened)


def read_inside(volume: str, path: str) -> bytes:
    """Content of a regular file of a volume. Raises LeadsOut and OSError."""
    opened = open_inside(volume, path, create=False)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return Path(f"/proc/self/fd/{opened}").read_bytes()
    finally:
        os.close(opened)


def open_inside(volume: str, sub_path: str, *, create: bool = True) -> int:
    """A descriptor (O_PATH) of what is at ``sub_path``. Links are followed as long as they stay inside.

    Directories that are missing are made if ``create``. Raises LeadsOut, and OSError when somebody changes the path
    meanwhile.
    """
    root = os.path.realpath(volume)
    if os.path.isabs(sub_path) or ".." in sub_path.split("/"):
        raise LeadsOut(sub_path)
    wanted = os.path.realpath(os.path.join(root, sub_path))
    if wanted != root and os.path.commonpath((root, wanted)) != root:
        raise LeadsOut(sub_path)
    # As open as the volume itself (an emptyDir is 0777): the container may run as anybody.
    current = os.open(root, _STEP)
    mode = stat.S_IMODE(os.fstat(current).st_mode)
    for part in Path(wanted).relative_to(root).parts:
        try:
            following = _step(current, part, mode if create else None)
        finally:
            os.close(current)
        current = following
    if stat.S_ISLNK(os.fstat(current).st_mode):
        os.close(current)
        raise LeadsOut(sub_path)
    return current


def _step(directory: int, part: str, mode: int | None) -> int:
    """``mode`` is that of a directory to make where there is none."""
    try:
        return os.open(part, _STEP, dir_fd=directory)
    except FileNotFoundError:
        if mode is None:
            raise
        os.mkdir(part, mode & 0o777, dir_fd=directory)
    made = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    os.fchmod(made, mode)
    return made


def _make_like(opened: int, target: Path) -> None:
    """A mount point for what was opened: a directory for a directory, a file for anything else."""
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if stat.S_ISDIR(os.fstat(opened).st_mode):
        if target.is_file():
            target.unlink()
        target.mkdir(mode=0o750, exist_ok=True)
    else:
        if target.is_dir():
            target.rmdir()
        target.touch(mode=0o640)
