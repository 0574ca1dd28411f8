"""mount(2) and its relatives, and what is mounted where.

Everything here blocks, and acts in the mount namespace of the agent, which is the engine's, too.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

MNT_DETACH = 2
MS_NOSUID, MS_NODEV = 2, 4
MS_BIND, MS_REC = 4096, 16384
MS_PRIVATE, MS_SHARED = 1 << 18, 1 << 20

SYS_MOUNT_SETATTR = 442
"""The same number on every architecture."""
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY = 1
TMPFS_NOSWAP = (6, 4)
"""The first kernel whose tmpfs knows ``noswap``."""

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    """``struct mount_attr`` of linux/mount.h."""

    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A line of /proc/self/mountinfo. ``options`` are the mount's own, ``shared`` whether changes leave it."""

    path: Path
    root: str
    """What of the file system is mounted."""
    type: str
    options: frozenset[str]
    shared: bool


def mount_tmpfs(path: Path, *, mode: int, size: int = 0) -> None:
    """Mount a tmpfs of at most `size` bytes (0: the kernel's default, half the memory); never swapped out where the
    kernel can promise that. Raises OSError."""
    options = f"mode={mode:o}" + (f",size={size}" if size else "") + (",noswap" if _tmpfs_stays_in_memory() else "")
    _mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options, "cannot mount a tmpfs")


def mount_huge_pages(path: Path, *, page_size: int, mode: int) -> None:
    """Mount a hugetlbfs with pages of `page_size` bytes. Raises OSError."""
    options = f"pagesize={page_size},mode={mode:o}"
    _mount("nodev", path, "hugetlbfs", 0, options, f"cannot mount huge pages of {page_size} bytes")


def bind(source: Path | str, target: Path, *, recursive: bool = False) -> None:
    """Show `source`, and if asked what is mounted below it, also at `target`. Raises OSError."""
    _mount(str(source), target, "", MS_BIND | (MS_REC if recursive else 0), "", f"cannot bind {source}")


def bind_opened(descriptor: int, target: Path, *, recursive: bool = False) -> None:
    """As `bind`, of a file or directory that is open: whatever its path may lead to by now. Raises OSError."""
    bind(f"/proc/self/fd/{descriptor}", target, recursive=recursive)


def make_private(path: Path, *, recursive: bool = False) -> None:
    """What is mounted on the mount at `path`, and if asked on those below, shows up nowhere else. Raises OSError."""
    _mount("none", path, "", MS_PRIVATE | (MS_REC if recursive else 0), "", "cannot make a mount private")


def make_read_only_in_depth(path: Path) -> None:
    """The mount at `path` and all below it are read-only from now on (mount_setattr, Linux 5.12). Raises OSError."""
    number = _set_attributes(AT_FDCWD, os.fsencode(path), AT_RECURSIVE, MOUNT_ATTR_RDONLY)
    if number:
        raise OSError(number, f"cannot make mounts read-only: {os.strerror(number)}", str(path))


@functools.cache
def can_be_read_only_in_depth() -> bool:
    """Whether the kernel has mount_setattr: one that lacks it says so whatever it is asked."""
    return _set_attributes(-1, b"", 0, 0) != errno.ENOSYS


def share(path: Path) -> None:
    """Mounts made below `path` reach containers that have it mounted already, and theirs reach the host.

    As the kubelet does with its root: bound to itself when it is on a mount of another kind. Raises OSError.
    """
    point = enclosing(path)
    if point is not None and point.shared:
        return
    if mount_point(path) is None:
        _mount(str(path), path, "", MS_BIND | MS_REC, "", f"cannot bind {path}")
    _mount("none", path, "", MS_SHARED | MS_REC, "", f"cannot share {path}")


def unshare(path: Path) -> None:
    """Undo `share` where it bound `path` to itself; a mount of somebody else's there stays. Raises OSError."""
    point = mount_point(path)
    if point is not None and point.root != "/" and str(_real(path)).endswith(point.root):
        unmount(path)


def unmount(path: Path) -> None:
    """Unmount, also while something still looks at it; harmless when nothing is mounted there. Raises OSError."""
    if _libc.umount2(os.fsencode(path), MNT_DETACH) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, f"cannot unmount: {os.strerror(number)}", str(path))


def mount_points(below: Path | None = None) -> list[MountPoint]:
    """All of this mount namespace, in the order in which they were made; with ``below``, only those at and below a
    path as the kernel names it. A host with many containers has many others, which are then not even read."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    if below is None:
        return [_parsed(line) for line in lines]
    start = b" " + _escaped(below)
    points = (_parsed(line) for line in lines if start in line)
    return [point for point in points if point.path == below or below in point.path.parents]


def mount_point(path: Path) -> MountPoint | None:
    """What is mounted exactly here, the uppermost."""
    real = _real(path)
    return next((point for point in reversed(mount_points(below=real)) if point.path == real), None)


def enclosing(path: Path) -> MountPoint | None:
    """The mount that `path` is on."""
    real = _real(path)
    around = [point for point in mount_points() if point.path == real or point.path in real.parents]
    return max(reversed(around), key=lambda point: len(point.path.parts), default=None)


def mounts_below(path: Path) -> list[Path]:
    """Mount points at and below `path`, the innermost first; one that is mounted over itself comes twice."""
    return [point.path for point in mount_points(below=_real(path))][::-1]


def is_mounted(path: Path) -> bool:
    """True when something is mounted exactly here."""
    return mount_point(path) is not None


def _real(path: Path) -> Path:
    """As the kernel names a mount point. The last part is not looked at: its server may not answer."""
    return Path(os.path.realpath(path.parent)) / path.name


def _mount(source: str, target: Path, kind: str, flags: int, data: str, what: str) -> None:
    encoded = (os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, data.encode() or None)
    if _libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[4]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}", str(target))


def _set_attributes(directory: int, path: bytes, flags: int, attributes: int) -> int:
    """errno of mount_setattr, 0 when it worked."""
    wanted = _MountAttributes(attr_set=attributes)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    done = _libc.syscall(
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_int(directory),
        path,
        ctypes.c_uint(flags),
        ctypes.byref(wanted),
        size,
    )
    return ctypes.get_errno() if done != 0 else 0


@functools.cache
def _tmpfs_stays_in_memory() -> bool:
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return version is not None and (int(version[1]), int(version[2])) >= TMPFS_NOSWAP


def _parsed(line: bytes) -> MountPoint:
    """See proc(5): ID, parent, device, root, mount point, options, optional fields, a dash, type, and more."""
    before, _, after = line.partition(b" - ")
    words = before.split(b" ")
    return MountPoint(
        path=Path(_unescaped(words[4])),
        root=_unescaped(words[3]),
        type=after.partition(b" ")[0].decode(),
        options=frozenset(words[5].decode().split(",")),
        shared=any(word.startswith(b"shared:") for word in words[6:]),
    )


def _escaped(path: Path) -> bytes:
    """As mountinfo writes it."""
    return re.sub(rb"[ \t\n\\]", lambda byte: b"\\%03o" % byte[0][0], os.fsencode(path))


def _unescaped(text: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), text))
