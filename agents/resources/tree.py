"""The cgroup tree as files: makes, limits, empties and removes cgroups. Blocks; it is called in threads.

A cgroup is made in the hierarchies in which something is limited; the engine's runtime makes the same directory in all
others when it starts a container, so removal looks at every one.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agents.resources.limits import UNLIMITED, Limits, Write, writes
from agents.resources.paths import Driver, Layout, Name, slice_unit
from agents.resources.slices import Systemd, Units, fixed_properties, properties_of

LIMITED = ("cpu", "memory", "pids", "hugetlb")
"""Controllers with limits of ours."""
USED = (*LIMITED, "cpuset", "io")
"""What containers below need in version 2."""
NO_LIMIT = 1 << 62
"""Version 1 has a number for no limit of memory: the last whole page that fits."""
PATIENCE = 2.0
"""Seconds in which processes that were killed vanish from their cgroup."""


class Tree:
    """Cgroups of one host by name; every method raises OSError."""

    def __init__(self, layout: Layout, units: Units | None = None) -> None:
        self.layout = layout
        self._units = units or (Systemd() if layout.driver is Driver.SYSTEMD else None)
        self._lock = threading.Lock()
        self._enabled: set[Path] = set()
        self._all: list[Path] = []
        if layout.version == 2:
            self.controllers = frozenset((layout.mount / "cgroup.controllers").read_text().split())
        else:
            self.controllers = frozenset(one for one in LIMITED if (layout.mount / one).is_dir())

    def __repr__(self) -> str:
        return f"<Tree v{self.layout.version} {self.layout.path(self.layout.pods_name)}>"

    def exists(self, name: Name) -> bool:
        """Whether the cgroup is there, in every hierarchy in which it is limited."""
        return all(directory.is_dir() for directory in self._own(name))

    def is_anywhere(self, name: Name) -> bool:
        """Whether anything of it is left in any hierarchy."""
        path = self.layout.path(name).strip("/")
        return any((base / path).is_dir() for base in self._hierarchies())

    def create(self, name: Name, limits: Limits) -> None:
        """Have the cgroup, with these limits."""
        if self._units is not None:
            with self._lock:
                unit = slice_unit(name)
                self._units.start(unit, [*fixed_properties(unit), *properties_of(limits, self.layout.version)])
        try:
            self._make_all(name)
            self._write(name, limits)
        except FileNotFoundError:
            # Somebody removed and made again what we had prepared.
            self._enabled.clear()
            self._make_all(name)
            self._write(name, limits)

    def change(self, name: Name, limits: Limits) -> None:
        """Change the limits of a cgroup that is there."""
        if self._units is not None:
            with self._lock:
                self._units.change(slice_unit(name), properties_of(limits, self.layout.version))
        self._write(name, limits)

    def read(self, name: Name) -> tuple[Limits, int] | None:
        """Quota and memory limit that a cgroup has, and the bytes it uses; None when there is no such cgroup."""
        path = self.layout.path(name)
        cpu, memory = self.layout.directory(path, "cpu"), self.layout.directory(path, "memory")
        first = self.layout.version == 1
        try:
            if first:
                quota, period = (int((cpu / f"cpu.cfs_{one}_us").read_text()) for one in ("quota", "period"))
            else:
                texts = (cpu / "cpu.max").read_text().split()
                quota, period = (UNLIMITED if texts[0] == "max" else int(texts[0])), int(texts[1])
            limit = (memory / ("memory.limit_in_bytes" if first else "memory.max")).read_text().strip()
            used = int((memory / ("memory.usage_in_bytes" if first else "memory.current")).read_text())
        except FileNotFoundError:
            return None
        most = UNLIMITED if limit == "max" or int(limit) >= NO_LIMIT else int(limit)
        return Limits(cpu_quota=quota, cpu_period=period, memory=most), used

    def change_container(self, path: str, limits: Limits, *, kill_together: bool) -> None:
        """What the engine cannot be told of a container whose cgroup has this path; one that is gone is no error."""
        for one in writes(limits, self.layout.version):
            self._put(self.layout.directory(path, one.controller), one, missing_ok=True)
        if kill_together and self.layout.version == 2:
            whole = Write("memory", "memory.oom.group", "1", optional=True)
            self._put(self.layout.directory(path), whole, missing_ok=True)

    def remove(self, name: Name) -> None:
        """Kill what is in it, and have it gone from every hierarchy; harmless when there is none."""
        deadline = time.monotonic() + PATIENCE
        while not self.try_remove(name):
            if time.monotonic() > deadline:
                raise busy(self.layout.path(name))
            time.sleep(0.01)

    def try_remove(self, name: Name) -> bool:
        """The same without waiting: False while something in it is still ending."""
        path = self.layout.path(name).strip("/")
        for pid in {pid for base in self._hierarchies() for pid in processes(base / path)}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self._units is not None:
            with self._lock:
                self._units.stop(slice_unit(name))
        gone = [self._remove(base / path) for base in self._hierarchies()]
        return all(gone)

    def pods(self, quality: str) -> set[str]:
        """Uids of pods that have a cgroup of this QoS class, in any hierarchy."""
        name = self.layout.quality_name(quality)
        prefix, suffix = "pod", ""
        if self.layout.driver is Driver.SYSTEMD:
            prefix, suffix = slice_unit((*name, "pod")).removesuffix(".slice"), ".slice"
        found: set[str] = set()
        for base in self._hierarchies():
            try:
                entries = os.listdir(base / self.layout.path(name).strip("/"))
            except OSError:
                continue
            found.update(
                one.removeprefix(prefix).removesuffix(suffix).replace("_", "-")
                for one in entries
                if one.startswith(prefix) and one.endswith(suffix)
            )
        return found

    # Files

    def _own(self, name: Name) -> list[Path]:
        path = self.layout.path(name)
        if self.layout.version == 2:
            return [self.layout.directory(path)]
        return [self.layout.directory(path, controller) for controller in LIMITED if controller in self.controllers]

    def _hierarchies(self) -> list[Path]:
        if self.layout.version == 2:
            return [self.layout.mount]
        if not self._all:
            self._all = [one for one in self.layout.mount.iterdir() if one.is_dir() and not one.is_symlink()]
        return self._all

    def _make_all(self, name: Name) -> None:
        for directory in self._own(name):
            self._make(directory)
            if self.layout.version == 2:
                self._hand_down(directory.parent)
                self._hand_down(directory, remember=False)

    def _make(self, directory: Path) -> None:
        """Also what is above it."""
        try:
            self._mkdir(directory)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make(directory.parent)
            self._mkdir(directory)

    def _mkdir(self, directory: Path) -> None:
        directory.mkdir()

    def _rmdir(self, directory: Path) -> None:
        directory.rmdir()

    def _hand_down(self, directory: Path, *, remember: bool = True) -> None:
        """Have the controllers in the cgroups below. One that the kernel keeps back (a parent does not have it) is told
        of by the write that then fails."""
        if directory in self._enabled:
            return
        if directory != self.layout.mount:
            self._hand_down(directory.parent)
        control = directory / "cgroup.subtree_control"
        have = control.read_text().split()
        for controller in USED:
            if controller in self.controllers and controller not in have:
                try:
                    control.write_text(f"+{controller}")
                except OSError:
                    continue
        if remember:
            self._enabled.add(directory)

    def _write(self, name: Name, limits: Limits) -> None:
        path = self.layout.path(name)
        for one in writes(limits, self.layout.version):
            if one.controller in self.controllers:
                self._put(self.layout.directory(path, one.controller), one)

    def _put(self, directory: Path, one: Write, *, missing_ok: bool = False) -> None:
        try:
            descriptor = os.open(directory / one.file, os.O_WRONLY | os.O_TRUNC)
        except FileNotFoundError:
            if one.optional or missing_ok:
                return
            raise
        try:
            os.write(descriptor, one.text.encode())
        except OSError as error:
            raise OSError(
                error.errno, f"{os.strerror(error.errno or 0)}: {one.text}", str(directory / one.file)
            ) from None
        finally:
            os.close(descriptor)

    def _remove(self, directory: Path) -> bool:
        """False when something in it, or below, is still ending."""
        for one in _from_below(directory):
            try:
                self._rmdir(one)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return False
                raise
        return True


def busy(path: str) -> OSError:
    """What is said of a cgroup whose processes do not end."""
    return OSError(errno.EBUSY, "processes in the cgroup do not end", path)


def processes(directory: Path) -> list[int]:
    """Ids of the processes in a cgroup and below it; nothing when it is gone."""
    found: list[int] = []
    for one in _from_below(directory):
        try:
            found += [int(pid) for pid in (one / "cgroup.procs").read_text().split()]
        except OSError:
            continue
    return [pid for pid in found if pid > 0]


def _from_below(directory: Path) -> Iterator[Path]:
    """Directories below, deepest first, then the directory; nothing when it is not there."""
    if directory.is_dir():
        for parent, _, _ in os.walk(directory, topdown=False):
            yield Path(parent)
