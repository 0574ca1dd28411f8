"""A cgroup file system made of ordinary files: a directory brings its files with it, and takes them away."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from agents.resources.paths import Layout
from agents.resources.slices import Property, Units
from agents.resources.tree import Tree

FIRST = {
    "cpu": {"cpu.shares": "1024", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
    "memory": {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "0"},
    "pids": {"pids.max": "max"},
    "hugetlb": {"hugetlb.2MB.limit_in_bytes": "9223372036854771712"},
    "freezer": {},
}
SECOND = {
    "cpu": {"cpu.weight": "100", "cpu.max": "max 100000"},
    "memory": {"memory.max": "max", "memory.current": "0", "memory.oom.group": "0"},
    "pids": {"pids.max": "max"},
    "hugetlb": {"hugetlb.2MB.max": "max", "hugetlb.2MB.rsvd.max": "max"},
}


class MadeUpTree(Tree):
    """The real one on made-up files. In version 2 a cgroup has only the files of controllers that its parent hands
    down, as in the kernel."""

    def __init__(self, layout: Layout, units: Units | None = None) -> None:
        mount = layout.mount
        if layout.version == 1:
            for controller in FIRST:
                (mount / controller).mkdir(parents=True)
        else:
            mount.mkdir(parents=True)
            (mount / "cgroup.controllers").write_text("cpu memory pids hugetlb")
            (mount / "cgroup.subtree_control").write_text("")
        super().__init__(layout, units)

    def _mkdir(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "cgroup.procs").write_text("")
        if self.layout.version == 1:
            controller = directory.relative_to(self.layout.mount).parts[0]
            for file, text in FIRST[controller].items():
                (directory / file).write_text(text)
            return
        (directory / "cgroup.subtree_control").write_text("")
        self._fill(directory)

    def _fill(self, directory: Path) -> None:
        handed = (directory.parent / "cgroup.subtree_control").read_text()
        for controller, files in SECOND.items():
            if f"+{controller}" in handed:
                for file, text in files.items():
                    if not (directory / file).exists():
                        (directory / file).write_text(text)

    def _hand_down(self, directory: Path, *, remember: bool = True) -> None:
        # The kernel takes one controller after the other; a file only keeps the last.
        control = directory / "cgroup.subtree_control"
        if directory != self.layout.mount:
            self._hand_down(directory.parent)
        control.write_text(" ".join(f"+{one}" for one in sorted(self.controllers)))
        for below in directory.iterdir():
            if below.is_dir():
                self._fill(below)

    def _rmdir(self, directory: Path) -> None:
        if not directory.exists():
            raise FileNotFoundError(directory)
        if any(one.is_dir() for one in directory.iterdir()):
            raise OSError(errno.EBUSY, "has children")
        shutil.rmtree(directory)


class Told:
    """systemd, as far as it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, object]]] = []

    def _note(self, what: str, unit: str, properties: list[Property]) -> None:
        self.calls.append((what, unit, {name: value[1] for name, value in properties}))

    def start(self, unit: str, properties: list[Property]) -> None:
        self._note("start", unit, properties)

    def change(self, unit: str, properties: list[Property]) -> None:
        self._note("change", unit, properties)

    def stop(self, unit: str) -> None:
        self._note("stop", unit, [])
