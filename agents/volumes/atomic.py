"""Files that change all at once.

As in Kubernetes, the files live in a directory `..<time>.<random>`; `..data` is a link to it, and every visible name a
link through `..data`. A change writes a new directory and swaps `..data` by rename: readers see the old or the new set.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from agents.volumes.ownership import give_to_group
from agents.volumes.payload import Files

DATA = "..data"
NEW_DATA = "..data_tmp"
TOP_MODE = 0o777


def write(directory: Path, files: Files, *, now: datetime, group: int | None = None) -> bool:
    """Make `files` the content of `directory`; False when they were so already. Raises OSError.

    `group` is the pod's fsGroup. Harmless to repeat; leftovers of a crash are removed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    current = _current(directory)
    if current is not None and _holds(current, files):
        _link_names(directory, files)
        return False
    if current is None:
        # As upstream, whose volume is an emptyDir of memory; containers have it read-only.
        os.chmod(directory, TOP_MODE)
        if group is not None:
            give_to_group(directory, group, read_only=True)
    fresh = Path(tempfile.mkdtemp(prefix=now.strftime("..%Y_%m_%d_%H_%M_%S."), dir=directory))
    os.chmod(fresh, 0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.write_bytes(file.content)
        os.chmod(target, file.mode)
        if file.owner is not None:
            os.chown(target, file.owner, -1)
    if group is not None:
        give_to_group(fresh, group, read_only=True)
    link = directory / NEW_DATA
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    os.replace(link, directory / DATA)
    _link_names(directory, files)
    for entry in directory.iterdir():
        if entry.name.startswith("..") and entry.name not in (DATA, fresh.name):
            shutil.rmtree(entry, ignore_errors=True)
    return True


def _current(directory: Path) -> Path | None:
    try:
        current = directory / os.readlink(directory / DATA)
    except OSError:
        return None
    return current if current.is_dir() else None


def _holds(current: Path, files: Files) -> bool:
    """True when exactly these files are there, with this content. Modes follow from the volume, which never changes."""
    present = {str(path.relative_to(current)) for path in current.rglob("*") if not path.is_dir()}
    return present == files.keys() and all((current / path).read_bytes() == files[path].content for path in present)


def _link_names(directory: Path, files: Files) -> None:
    """A visible link for the first part of every path, and for nothing else."""
    wanted = {path.partition("/")[0] for path in files}
    for entry in list(directory.iterdir()):
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    for name in wanted:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"{DATA}/{name}")
