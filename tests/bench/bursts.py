"""Bursts alone: the floor's and orca's in turn, with the CPU time that each program of the lab took for a pod.

In turn, since a machine that others use is slower in one minute than in the next; by CPU, which that disturbs least.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

from rich.console import Console
from rich.table import Table

from orca.lab import host as hosts
from orca.lab.layout import Lab
from tests.bench.podfloor import Floor
from tests.bench.processes import TICKS

PAUSE_SECONDS = 3.0
"""Between two bursts: what the one before has left to do, events above all."""
_PROGRAMS = ("dockerd", "containerd-shim", "containerd", "etcd", "orca-agent", "orca server")
_ALL = "in all"


class Bursting(Protocol):
    """Makes and removes pods of the API."""

    async def burst(self, names: Sequence[str], *, full: bool) -> float: ...

    async def delete(self, names: Sequence[str]) -> object: ...


def used(lab: Lab) -> dict[str, float]:
    """CPU seconds by program: of the lab's hosts with the children that have ended (runc is the shims'), of containers,
    and of this process."""
    networks = {_network(hosts.root(host).parent) for host in lab.hosts}
    found: defaultdict[str, float] = defaultdict(float)
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            name, _, rest = (directory / "stat").read_text().rpartition(")")
            words = (directory / "cmdline").read_text().replace("\0", " ")
            network = _network(directory)
            groups = (directory / "cgroup").read_text()
        except OSError:
            continue
        own, ended = (sum(int(one) for one in rest.split()[first : first + 2]) / TICKS for first in (11, 13))
        if directory.name == str(os.getpid()):
            found["this bench"] += own
        elif network in networks and not _is_container(groups):
            short = name.partition("(")[2]
            program = next((one for one in _PROGRAMS if short.startswith(one) or f"/{one} " in words), "other")
            found[program] += own
            found["runc, of shims" if program == "containerd-shim" else f"{program}, ended children"] += ended
        elif any(f"/{host.cgroup}/" in groups for host in lab.hosts) and _is_container(groups):
            found["containers"] += own
    return found


def _network(process: Path) -> str:
    return os.readlink(process / "ns/net")


def _is_container(groups: str) -> bool:
    return "/docker/" in groups or "/kubepods/" in groups


async def alternate(
    lab: Lab, cluster: Bursting, floor: Floor, count: int, rounds: int, console: Console, *, full: bool
) -> None:
    """Print seconds of each burst and what the programs took for a pod, medians of all rounds."""
    seconds: dict[str, list[float]] = {"floor": [], "orca": []}
    shares: dict[str, list[Mapping[str, float]]] = {"floor": [], "orca": []}
    for number in range(rounds):
        for who in seconds:
            names = [f"turn-{number}-{one}" for one in range(count)]
            before = used(lab)
            if who == "floor":
                seconds[who].append(await asyncio.to_thread(floor.burst, count))
            else:
                seconds[who].append(await cluster.burst(names, full=full))
            after = used(lab)
            share = {program: (after[program] - before.get(program, 0.0)) * 1000 / count for program in after}
            share[_ALL] = sum(share.values())
            shares[who].append(share)
            console.print(f"{who}: {seconds[who][-1]:.2f} s, {share[_ALL]:.0f} ms of CPU a pod")
            if who == "floor":
                await asyncio.to_thread(floor.remove)
            else:
                await cluster.delete(names)
            await asyncio.sleep(PAUSE_SECONDS)
    table = Table(f"{count} at once, {rounds} times in turn", "floor", "orca", "orca ÷ floor")
    middle = {who: median(seconds[who]) for who in seconds}
    table.add_row("seconds until all ran, were Ready", *(f"{middle[who]:.2f} s" for who in middle), _ratio(middle))
    programs = {one for share in (*shares["floor"], *shares["orca"]) for one in share} - {_ALL}
    for program in (*sorted(programs), _ALL):
        cpu = {who: median(share.get(program, 0.0) for share in shares[who]) for who in shares}
        if max(cpu.values()) >= 0.5:
            ratio = _ratio(cpu) if program == _ALL else ""
            table.add_row(f"CPU a pod: {program}", *(f"{one:.1f} ms" for one in cpu.values()), ratio)
    console.print(table)


def _ratio(of: Mapping[str, float]) -> str:
    return f"{of['orca'] / of['floor']:.2f}"
