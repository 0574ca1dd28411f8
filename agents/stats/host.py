"""The host's own figures from /proc: memory, cpu, network counters, process ids, and the agent's own use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agents.resources.usage import number, pairs, text
from agents.stats.model import Interface

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes, from /proc/meminfo and /proc/vmstat."""

    total: int
    free: int
    inactive_file: int
    anon: int
    swap_total: int
    swap_free: int
    page_faults: int
    major_page_faults: int


def memory(proc: Path = PROC) -> HostMemory:
    """Of the whole host."""
    found = {}
    for line in text(f"{proc}/meminfo").splitlines():
        name, _, rest = line.partition(":")
        value = rest.split()
        if value and value[0].isdigit():
            found[name] = int(value[0]) * 1024
    faults = pairs(f"{proc}/vmstat")
    return HostMemory(
        total=found.get("MemTotal", 0),
        free=found.get("MemFree", 0),
        inactive_file=found.get("Inactive(file)", 0),
        anon=found.get("AnonPages", 0),
        swap_total=found.get("SwapTotal", 0),
        swap_free=found.get("SwapFree", 0),
        page_faults=faults.get("pgfault", 0),
        major_page_faults=faults.get("pgmajfault", 0),
    )


def cpu_nanoseconds(proc: Path = PROC) -> int:
    """Time that all cores together were busy since boot."""
    fields = text(f"{proc}/stat").partition("\n")[0].split()[1:]
    if len(fields) < 8:
        return 0
    user, nice, system, _idle, _iowait, interrupts, soft, steal = (int(field) for field in fields[:8])
    return (user + nice + system + interrupts + soft + steal) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def booted_at(proc: Path = PROC) -> int:
    """Seconds since the epoch."""
    return pairs(f"{proc}/stat").get("btime", 0)


def process_ids(proc: Path = PROC) -> tuple[int, int]:
    """(most that can be, those that are): tasks, as the kernel counts them against its limits."""
    limits = [number(f"{proc}/sys/kernel/{name}") for name in ("pid_max", "threads-max")]
    known = [limit for limit in limits if limit is not None]
    try:
        running = int(text(f"{proc}/loadavg").split()[3].partition("/")[2])
    except (IndexError, ValueError):
        running = 0
    return (min(known) if known else 0), running


def interfaces(pid: int | None = None, proc: Path = PROC) -> tuple[Interface, ...]:
    """Of the network namespace of a process; ours without one. The loopback is left out, as upstream does."""
    found = []
    for line in text(f"{proc}/{pid if pid is not None else 'self'}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() == "lo" or len(fields) < 12:
            continue
        rx_bytes, rx_packets, rx_errors, rx_dropped = (int(field) for field in fields[:4])
        tx_bytes, tx_packets, tx_errors, tx_dropped = (int(field) for field in fields[8:12])
        found.append(
            Interface(
                name.strip(), rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped
            )
        )
    return tuple(found)


def default_interface(proc: Path = PROC) -> str:
    """The one that the host's default route leaves by, "" without one."""
    for line in text(f"{proc}/self/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            return fields[0]
    return ""


def membership(pid: int, proc: Path = PROC) -> str:
    """Text of /proc/<pid>/cgroup, "" when it ended."""
    return text(f"{proc}/{pid}/cgroup")


def own_use(proc: Path = PROC) -> tuple[int, int, int]:
    """(cpu nanoseconds, resident bytes, major page faults) of this process."""
    times = os.times()
    pages = text(f"{proc}/self/statm").split()
    resident = int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0
    fields = text(f"{proc}/self/stat").rpartition(")")[2].split()
    majors = int(fields[9]) if len(fields) > 9 else 0
    return int((times.user + times.system) * 1e9), resident, majors
