"""cgroup version 2 of the real kernel, where it is mounted: also beside version 1, which has the controllers then."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.resources.usage import V2
from agents.stats.host import membership

BURN = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; read line"


def mounted() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


@pytest.fixture
def process() -> Iterator[tuple[Path, Path, subprocess.Popen[bytes]]]:
    """The mount, a group made below it, and a busy process in that group."""
    root = mounted()
    if root is None:
        pytest.skip("no cgroup version 2 is mounted")
    group = root / f"orca-stats-{os.getpid()}"
    group.mkdir()
    script = f"echo $$ > {group}/cgroup.procs; echo in; {BURN}"
    busy = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert busy.stdout is not None
    busy.stdout.readline()
    yield root, group, busy
    busy.communicate()
    group.rmdir()


def test_a_process_is_located_and_its_cpu_and_stalls_are_told(
    process: tuple[Path, Path, subprocess.Popen[bytes]],
) -> None:
    root, group, busy = process
    hierarchy = V2(root)
    location = hierarchy.locate(membership(busy.pid))
    assert location == f"/{group.name}"
    first = hierarchy.usage(location)
    assert first is not None
    busy.communicate()
    last = hierarchy.usage(location)
    assert last is not None
    assert last.cpu > max(first.cpu, 10_000_000)
    details = hierarchy.details(location)
    assert abs(details.user + details.system - last.cpu) < 50_000_000
    if (group / "cpu.pressure").exists():
        pressure = hierarchy.pressure(location, "cpu")
        assert pressure is not None
        assert pressure.some.total >= pressure.full.total
    whole = hierarchy.usage("")
    assert whole is not None
    assert whole.cpu > last.cpu
