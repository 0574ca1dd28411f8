"""Made-up cgroup trees and /proc directories."""

from __future__ import annotations

from pathlib import Path

GIB = 1 << 30
MIB = 1 << 20
POD = "11111111-2222-3333-4444-555555555555"
CONTAINER = "c" * 64
V2_POD = f"/kubepods/burstable/pod{POD}"
STAT_V2 = f"anon {3 * MIB}\nfile {5 * MIB}\nfile_mapped {MIB}\ninactive_file {2 * MIB}\npgfault 11\npgmajfault 2\n"
STAT_V1 = (
    f"cache 1\nrss 1\nhierarchical_memory_limit {64 * MIB}\nhierarchical_memsw_limit {80 * MIB}\n"
    f"total_cache {5 * MIB}\ntotal_rss {3 * MIB}\ntotal_mapped_file {MIB}\ntotal_swap {MIB}\ntotal_pgfault 11\n"
    f"total_pgmajfault 2\ntotal_inactive_file {2 * MIB}\n"
)
PRESSURE = (
    "some avg10=1.50 avg60=0.25 avg300=0.00 total=2000000\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1000000\n"
)


def write(directory: Path, files: dict[str, str]) -> None:
    """Files with parents."""
    for name, content in files.items():
        path = directory / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def v2(root: Path) -> Path:
    """A version 2 tree with one pod of one container."""
    write(root, {"cgroup.controllers": "cpu memory io pids", "cpu.stat": "usage_usec 9000000\n"})
    write(root, {"memory.stat": f"anon {GIB}\ninactive_file {GIB}\n", "memory.pressure": PRESSURE})
    for group in ("/kubepods", V2_POD, f"{V2_POD}/{CONTAINER}"):
        write(
            root / group.lstrip("/"),
            {
                "cpu.stat": "usage_usec 4000000\nuser_usec 3000000\nsystem_usec 1000000\n"
                "nr_periods 10\nnr_throttled 4\nthrottled_usec 500000\n",
                "cpu.max": "50000 100000\n",
                "cpu.weight": "20\n",
                "cpu.pressure": PRESSURE,
                "memory.current": f"{10 * MIB}\n",
                "memory.max": "max\n" if group == "/kubepods" else f"{64 * MIB}\n",
                "memory.stat": STAT_V2,
                "memory.peak": f"{20 * MIB}\n",
                "memory.events": "low 0\nmax 7\noom 1\noom_kill 1\n",
                "memory.swap.current": f"{MIB}\n",
                "memory.swap.max": f"{16 * MIB}\n",
                "pids.current": "5\n",
                "pids.max": "max\n",
                "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16\n",
            },
        )
    return root


def v1(root: Path) -> Path:
    """A version 1 tree with the same."""
    write(root, {"cpuacct/cpuacct.usage": "9000000000\n", "memory/memory.usage_in_bytes": f"{3 * GIB}\n"})
    write(root, {"memory/memory.stat": f"hierarchical_memory_limit 9223372036854771712\ntotal_inactive_file {GIB}\n"})
    for group in ("/kubepods", V2_POD, f"{V2_POD}/{CONTAINER}"):
        write(
            root,
            {
                f"cpuacct{group}/cpuacct.usage": "4000000000\n",
                f"cpuacct{group}/cpuacct.stat": "user 300\nsystem 100\n",
                f"cpu{group}/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 500000000\n",
                f"cpu{group}/cpu.cfs_quota_us": "50000\n",
                f"cpu{group}/cpu.cfs_period_us": "100000\n",
                f"cpu{group}/cpu.shares": "512\n",
                f"memory{group}/memory.usage_in_bytes": f"{10 * MIB}\n",
                f"memory{group}/memory.limit_in_bytes": f"{64 * MIB}\n",
                f"memory{group}/memory.stat": STAT_V1,
                f"memory{group}/memory.max_usage_in_bytes": f"{20 * MIB}\n",
                f"memory{group}/memory.failcnt": "7\n",
                f"memory{group}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
                f"pids{group}/pids.current": "5\n",
                f"pids{group}/pids.max": "max\n",
                f"blkio{group}/blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n",
                f"blkio{group}/blkio.throttle.io_serviced": "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
            },
        )
    return root


def proc(root: Path, *, group: str = f"{V2_POD}/{CONTAINER}", pid: int = 42) -> Path:
    """A /proc of a host with one process in a container."""
    write(
        root,
        {
            "meminfo": "MemTotal: 8388608 kB\nMemFree: 4194304 kB\nInactive(file): 1048576 kB\nAnonPages: 2097152 kB\n"
            "SwapTotal: 1048576 kB\nSwapFree: 1048576 kB\n",
            "vmstat": "pgfault 100\npgmajfault 3\n",
            "stat": "cpu  100 0 50 1000 10 0 0 0 0 0\nbtime 1760000000\n",
            "loadavg": "0.1 0.2 0.3 2/300 4000\n",
            "sys/kernel/pid_max": "4000\n",
            "sys/kernel/threads-max": "3000\n",
            "self/net/route": "Iface Destination Gateway Flags RefCnt Use Metric Mask\n"
            "ens3 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n",
            "self/statm": "1000 250 100\n",
            "self/stat": "1 (a b) S 1 1 1 0 -1 0 5 0 7 0\n",
            f"{pid}/cgroup": f"0::{group}\n",
        },
    )
    header = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop|bytes packets errs drop\n"
    write(
        root,
        {
            "self/net/dev": header
            + "    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  ens3: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n",
            f"{pid}/net/dev": header + "  eth0: 10 20 1 2 0 0 0 0 30 40 3 4 0 0 0 0\n",
        },
    )
    return root
