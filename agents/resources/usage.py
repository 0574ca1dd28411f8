"""Reading a cgroup's files, version 1 and 2. Reads only, and only what is asked for; a file that is missing (a
controller that is off, a container that just ended) gives zeros or None, never an error.

Rules of what counts as working set and rss are cAdvisor's: usage less inactive file pages; ``total_rss`` in version 1,
``anon`` in version 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agents.resources.paths import MOUNT, cgroup_version

UNLIMITED = 1 << 62
"""Version 1 says "no limit" with the largest number of whole pages."""
TICK_NANOSECONDS = 10_000_000
"""``cpuacct.stat`` counts hundredths of a second."""
_V1_CONTROLLERS = ("memory", "cpuacct", "cpu", "pids", "blkio")


@dataclass(frozen=True, slots=True)
class Stall:
    """One line of a pressure file: per cent of the last 10, 60 and 300 seconds, the total in microseconds."""

    total: int = 0
    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """Time lost by some tasks, and by all of them at once."""

    some: Stall = field(default_factory=Stall)
    full: Stall = field(default_factory=Stall)


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu in nanoseconds since the group was made, memory in bytes, None where there is no limit."""

    cpu: int = 0
    memory: int = 0
    working_set: int = 0
    rss: int = 0
    limit: int | None = None
    swap: int = 0
    swap_limit: int | None = None
    page_faults: int = 0
    major_page_faults: int = 0
    pids: int | None = None
    pids_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What only `/metrics/cadvisor` tells. ``disk`` has (major:minor) -> (bytes read, written, reads, writes)."""

    user: int = 0
    system: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled: int = 0
    quota: int | None = None
    period: int = 0
    shares: int = 0
    cache: int = 0
    mapped_file: int = 0
    peak: int = 0
    failures: int = 0
    oom_kills: int = 0
    disk: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()


class Hierarchy(Protocol):
    """One version of cgroups as mounted here. A *location* comes from :meth:`locate` and means nothing elsewhere."""

    version: int

    def locate(self, membership: str) -> str | None:
        """From the text of ``/proc/<pid>/cgroup``; None when it cannot be read from here."""

    def usage(self, location: str) -> Usage | None:
        """None when the group is gone."""

    def details(self, location: str) -> Details: ...

    def pressure(self, location: str, what: str) -> Pressure | None:
        """``what`` is cpu, memory or io; None where the kernel does not tell."""


def find_hierarchy(root: Path = MOUNT) -> Hierarchy:
    """Of this host. Hosts that mount both versions (hybrid) keep their controllers in version 1."""
    return V2(root) if cgroup_version(root) == 2 else V1(root)


class V2:
    """One tree for all controllers; a location is a path below its root."""

    version = 2

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def __repr__(self) -> str:
        return f"<cgroup v2 at {self._root}>"

    def locate(self, membership: str) -> str | None:
        for line in membership.splitlines():
            number, _, path = line.partition("::")
            if number == "0" and not path.startswith("/.."):
                return path
        return None

    def usage(self, location: str) -> Usage | None:
        base = self._root + location
        cpu = pairs(base + "/cpu.stat")
        stat = pairs(base + "/memory.stat")
        if not cpu and not stat:
            return None
        memory = number(base + "/memory.current") or 0
        return Usage(
            cpu=cpu.get("usage_usec", 0) * 1000,
            memory=memory,
            working_set=max(memory - stat.get("inactive_file", 0), 0),
            rss=stat.get("anon", 0),
            limit=number(base + "/memory.max"),
            swap=number(base + "/memory.swap.current") or 0,
            swap_limit=number(base + "/memory.swap.max"),
            page_faults=stat.get("pgfault", 0),
            major_page_faults=stat.get("pgmajfault", 0),
            pids=number(base + "/pids.current"),
            pids_limit=number(base + "/pids.max"),
        )

    def details(self, location: str) -> Details:
        base = self._root + location
        cpu, stat, events = (pairs(f"{base}/{name}") for name in ("cpu.stat", "memory.stat", "memory.events"))
        quota, _, period = text(base + "/cpu.max").partition(" ")
        weight = number(base + "/cpu.weight") or 0
        return Details(
            user=cpu.get("user_usec", 0) * 1000,
            system=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled=cpu.get("throttled_usec", 0) * 1000,
            quota=int(quota) if quota.isdigit() else None,
            period=int(period) if period.strip().isdigit() else 0,
            # The inverse of how runtimes turn shares into a weight.
            shares=2 + (weight - 1) * 262142 // 9999 if weight else 0,
            cache=stat.get("file", 0),
            mapped_file=stat.get("file_mapped", 0),
            peak=number(base + "/memory.peak") or 0,
            failures=events.get("max", 0),
            oom_kills=events.get("oom_kill", 0),
            disk=_io_stat(text(base + "/io.stat")),
        )

    def pressure(self, location: str, what: str) -> Pressure | None:
        return parse_pressure(text(f"{self._root}{location}/{what}.pressure"))


class V1:
    """A tree a controller; a location is a path below each of them, or ``controller=path`` parts when they differ."""

    version = 1

    def __init__(self, root: Path) -> None:
        self._roots = {name: str(root / name) for name in _V1_CONTROLLERS}

    def __repr__(self) -> str:
        return f"<cgroup v1 at {self._roots['memory']}>"

    def locate(self, membership: str) -> str | None:
        paths = {}
        for line in membership.splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            for controller in controllers.split(","):
                if controller in self._roots and not path.startswith("/.."):
                    paths[controller] = path
        if not paths:
            return None
        if len(set(paths.values())) == 1:
            return next(iter(paths.values()))
        return "\n".join(f"{controller}={path}" for controller, path in paths.items())

    def memory_directory(self, location: str) -> Path:
        """Of a group in the memory controller's tree."""
        return Path(self._base("memory", location))

    def _base(self, controller: str, location: str) -> str:
        if "=" in location:
            for part in location.split("\n"):
                name, _, path = part.partition("=")
                if name == controller:
                    return self._roots[controller] + path
            return ""
        return self._roots[controller] + location

    def usage(self, location: str) -> Usage | None:
        memory = self._base("memory", location)
        cpu = number(self._base("cpuacct", location) + "/cpuacct.usage")
        used = number(memory + "/memory.usage_in_bytes")
        if cpu is None and used is None:
            return None
        stat, used = pairs(memory + "/memory.stat"), used or 0
        # Its own: what those above it allow together is no limit of this one's.
        limit = _limit(number(memory + "/memory.limit_in_bytes"))
        both = _limit(stat.get("hierarchical_memsw_limit"))
        pids = self._base("pids", location)
        return Usage(
            cpu=cpu or 0,
            memory=used,
            working_set=max(used - stat.get("total_inactive_file", 0), 0),
            rss=stat.get("total_rss", 0),
            limit=limit,
            swap=stat.get("total_swap", 0),
            swap_limit=both - limit if both is not None and limit is not None else None,
            page_faults=stat.get("total_pgfault", 0),
            major_page_faults=stat.get("total_pgmajfault", 0),
            pids=number(pids + "/pids.current"),
            pids_limit=number(pids + "/pids.max"),
        )

    def details(self, location: str) -> Details:
        account, cpu = self._base("cpuacct", location), self._base("cpu", location)
        memory, disk = self._base("memory", location), self._base("blkio", location)
        times, throttling, stat = (
            pairs(path) for path in (f"{account}/cpuacct.stat", f"{cpu}/cpu.stat", f"{memory}/memory.stat")
        )
        quota = number(cpu + "/cpu.cfs_quota_us")
        return Details(
            user=times.get("user", 0) * TICK_NANOSECONDS,
            system=times.get("system", 0) * TICK_NANOSECONDS,
            periods=throttling.get("nr_periods", 0),
            throttled_periods=throttling.get("nr_throttled", 0),
            throttled=throttling.get("throttled_time", 0),
            quota=quota if quota is not None and quota > 0 else None,
            period=number(cpu + "/cpu.cfs_period_us") or 0,
            shares=number(cpu + "/cpu.shares") or 0,
            cache=stat.get("total_cache", 0),
            mapped_file=stat.get("total_mapped_file", 0),
            peak=number(memory + "/memory.max_usage_in_bytes") or 0,
            failures=number(memory + "/memory.failcnt") or 0,
            oom_kills=pairs(memory + "/memory.oom_control").get("oom_kill", 0),
            disk=_blkio(text(disk + "/blkio.throttle.io_service_bytes"), text(disk + "/blkio.throttle.io_serviced")),
        )

    def pressure(self, location: str, what: str) -> Pressure | None:
        """Version 1 has no pressure of a group; the whole host's is the kernel's own."""
        return parse_pressure(text(f"/proc/pressure/{what}")) if location == "" else None


def text(path: str) -> str:
    """A small file, "" when it cannot be read."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def number(path: str) -> int | None:
    """A file with one number; None for ``max`` and for one that cannot be read."""
    try:
        return int(text(path))
    except ValueError:
        return None


def pairs(path: str) -> dict[str, int]:
    """A file of ``name number`` lines; others are left out."""
    found = {}
    for line in text(path).splitlines():
        name, _, value = line.partition(" ")
        if value.lstrip("-").isdigit():
            found[name] = int(value)
    return found


def parse_pressure(content: str) -> Pressure | None:
    """A pressure file; kernels before 5.13 have no ``full`` line for cpu."""
    lines: dict[str, Stall] = {}
    for line in content.splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields if "=" in field)
        try:
            averages = [float(values[name]) for name in ("avg10", "avg60", "avg300")]
            lines[kind] = Stall(int(values["total"]), *averages)
        except (KeyError, ValueError):
            continue
    return Pressure(**{kind: stall for kind, stall in lines.items() if kind in ("some", "full")}) if lines else None


def _limit(value: int | None) -> int | None:
    return None if value is None or value >= UNLIMITED else value


def _io_stat(content: str) -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
    found = []
    for line in content.splitlines():
        device, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields if "=" in field)
        numbers = [int(values.get(name, "0")) for name in ("rbytes", "wbytes", "rios", "wios")]
        found.append((device, (numbers[0], numbers[1], numbers[2], numbers[3])))
    return tuple(found)


def _blkio(sizes: str, counts: str) -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
    devices: dict[str, list[int]] = {}
    for content, offset in ((sizes, 0), (counts, 2)):
        for line in content.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1] in ("Read", "Write") and parts[2].isdigit():
                values = devices.setdefault(parts[0], [0, 0, 0, 0])
                values[offset + (parts[1] == "Write")] = int(parts[2])
    return tuple((device, (one[0], one[1], one[2], one[3])) for device, one in devices.items())
