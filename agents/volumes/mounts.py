"""mount(2), umount2(2) and what is mounted where."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

MNT_DETACH = 2
MS_NOSUID, MS_NODEV = 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def mount_tmpfs(path: Path, *, mode: int, size: int = 0) -> None:
    """Mount a tmpfs of at most `size` bytes (0: the kernel's default, half the memory). Raises OSError."""
    options = f"mode={mode:o}" + (f",size={size}" if size else "")
    if _libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount a tmpfs: {os.strerror(number)}", str(path))


def unmount(path: Path) -> None:
    """Unmount, also while something still looks at it. Raises OSError."""
    if _libc.umount2(os.fsencode(path), MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot unmount: {os.strerror(number)}", str(path))


def mounts_below(path: Path) -> list[Path]:
    """Mount points at and below `path`, the innermost first; one that is mounted over itself comes twice."""
    base = os.path.realpath(path)
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        where = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split(b" ")[4]))
        if where == base or where.startswith(base + "/"):
            found.append(Path(where))
    return found[::-1]


def is_mounted(path: Path) -> bool:
    """True when something is mounted exactly here."""
    return Path(os.path.realpath(path)) in mounts_below(path)
