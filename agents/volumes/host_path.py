"""hostPath: is there what the pod says, and made when it may be.

Reference: k8s.io/kubernetes ``pkg/volume/hostpath``.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Mapping

from agents.pods.ports import Mounted
from agents.volumes.errors import VolumeError
from orca.api.objects import Obj

KINDS: Mapping[str, Callable[[int], bool]] = {
    "Directory": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}
WORDS: Mapping[str, str] = {
    "Directory": "directory",
    "File": "file",
    "Socket": "socket file",
    "CharDevice": "character device",
    "BlockDevice": "block device",
}
CREATED = {"DirectoryOrCreate": "Directory", "FileOrCreate": "File"}


class HostPath:
    """The path itself: it is the host's, and nothing about it is ever undone."""

    follows_api = False

    async def make(self, pod: Obj, name: str, source: Obj) -> Mounted:
        return Mounted(await asyncio.to_thread(prepare, source["path"], source.get("type") or ""))


def prepare(path: str, kind: str) -> str:
    """The path, when it is what `kind` (spec.volumes[].hostPath.type) says; "" checks nothing, and what is missing then
    becomes a directory, as container runtimes behind a kubelet have it. Raises VolumeError, and OSError when it cannot
    be created."""
    if not kind:
        if not os.path.exists(path):
            os.makedirs(path, mode=0o755, exist_ok=True)
        return path
    wanted = CREATED.get(kind, kind)
    if wanted not in KINDS:
        raise VolumeError(f"{kind} is an invalid volume type")
    if not os.path.exists(path):
        if kind == "DirectoryOrCreate":
            os.makedirs(path, mode=0o755, exist_ok=True)
            return path
        if kind == "FileOrCreate":
            # Its directory has to be there, as upstream has it.
            os.close(os.open(path, os.O_CREAT, 0o644))
            return path
        raise VolumeError(f"hostPath {path} doesn't exist")
    found = _kind_of(path, wanted)
    if found != wanted:
        raise VolumeError(f"hostPath type check failed: {path} is not a {WORDS[wanted]}, it's a {found}")
    return path


def _kind_of(path: str, wanted: str) -> str:
    trouble = "only recognise file, directory, socket, block device and character device"
    try:
        mode = os.stat(path).st_mode
        for kind, check in KINDS.items():
            if check(mode):
                return kind
    except OSError as error:
        trouble = error.strerror or str(error)
    text = f"hostPath type check failed, {path} is not a {WORDS[wanted]}, unable to determine its type: {trouble}"
    raise VolumeError(text)
