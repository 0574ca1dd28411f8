"""hostPath: is there what the pod says, and made when it may be."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from agents.volumes.errors import VolumeError

CHECKS: Mapping[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def prepare(path: str, kind: str) -> str:
    """The path, when it is what `kind` (spec.volumes[].hostPath.type) says; "" checks nothing. Raises VolumeError."""
    if not kind:
        return path
    if kind not in CHECKS:
        raise VolumeError(f"hostPath type {kind} is not known")
    check, words = CHECKS[kind]
    try:
        if kind == "DirectoryOrCreate":
            os.makedirs(path, mode=0o755, exist_ok=True)
        elif kind == "FileOrCreate" and not os.path.lexists(path):
            # Its directory has to be there, as upstream has it.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        matches = check(os.stat(path).st_mode)
    except FileExistsError:
        matches = kind == "FileOrCreate"
    except OSError:
        matches = False
    if not matches:
        raise VolumeError(f"hostPath type check failed: {path} is not a {words}")
    return path
