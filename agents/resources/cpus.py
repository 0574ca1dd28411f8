"""Cpus of a host as sets, as they hang together, and which to take of them. Pure, but for :func:`read_topology`.

Reference: k8s.io/kubernetes ``pkg/kubelet/cm/cpumanager`` (takeByTopology) and k8s.io/utils ``cpuset``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

CpuSet = frozenset[int]

SYSTEM = Path("/sys/devices/system")


class NotEnoughCpus(ValueError):
    """Fewer are free than asked for."""


def parse_cpus(text: str) -> CpuSet:
    """``0-3,8`` as the kernel writes it. Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high:
            raise ValueError(f"invalid range {part!r}")
        found.update(range(low, high + 1))
    return frozenset(found)


def format_cpus(cpus: Iterable[int]) -> str:
    """The inverse of :func:`parse_cpus`."""
    ordered = sorted(cpus)
    parts: list[str] = []
    start = 0
    for position, cpu in enumerate(ordered):
        if position + 1 == len(ordered) or ordered[position + 1] != cpu + 1:
            first = ordered[start]
            parts.append(str(first) if first == cpu else f"{first}-{cpu}")
            start = position + 1
    return ",".join(parts)


@dataclass(frozen=True, slots=True)
class Cpu:
    """One logical cpu: its core (unique on the host), socket and NUMA node."""

    id: int
    core: int
    socket: int
    node: int


@dataclass(frozen=True, slots=True)
class Topology:
    """All cpus that are online."""

    cpus: tuple[Cpu, ...]

    @property
    def all(self) -> CpuSet:
        return frozenset(cpu.id for cpu in self.cpus)

    @property
    def threads_per_core(self) -> int:
        return len(self.cpus) // len({cpu.core for cpu in self.cpus}) if self.cpus else 0


def read_topology(system: Path = SYSTEM) -> Topology:
    """Of this host, from sysfs. What it does not tell counts as one core a cpu, one socket, one node."""
    nodes: dict[int, int] = {}
    for directory in (system / "node").glob("node[0-9]*"):
        for cpu in parse_cpus(_text(directory / "cpulist")):
            nodes[cpu] = int(directory.name.removeprefix("node"))
    found: list[Cpu] = []
    cores: dict[tuple[int, str], int] = {}
    for cpu in sorted(parse_cpus(_text(system / "cpu" / "online"))):
        topology = system / "cpu" / f"cpu{cpu}" / "topology"
        socket = int(_text(topology / "physical_package_id") or 0)
        siblings = _text(topology / "thread_siblings_list") or str(cpu)
        # Ids of cores count anew in each socket; the first thread's id is unique.
        core = cores.setdefault((socket, siblings), min(parse_cpus(siblings)))
        found.append(Cpu(cpu, core, max(socket, 0), nodes.get(cpu, 0)))
    return Topology(tuple(found))


def take(topology: Topology, free: Collection[int], count: int) -> CpuSet:
    """``count`` of the ``free`` cpus, as close together as can be: whole nodes and sockets, then whole cores, then
    single threads of cores already broken into. Raises NotEnoughCpus."""
    if count > len(free):
        raise NotEnoughCpus(f"requested={count}, available={len(free)}")
    left = {cpu.id: cpu for cpu in topology.cpus if cpu.id in free}
    taken: set[int] = set()

    def need() -> int:
        return count - len(taken)

    for group in (lambda cpu: ("node", cpu.node), lambda cpu: ("socket", cpu.socket), lambda cpu: ("core", cpu.core)):
        for members in _whole(topology, left, group):
            if len(members) <= need():
                taken |= members
                for one in members:
                    del left[one]
    while need():
        best = min(left.values(), key=lambda cpu: _looseness(cpu, left, taken, topology))
        taken.add(best.id)
        del left[best.id]
    return frozenset(taken)


def _whole(
    topology: Topology, left: dict[int, Cpu], group: Callable[[Cpu], tuple[str, int]]
) -> Iterable[frozenset[int]]:
    """Groups of which every cpu is free: those in the fullest sockets first, so that others stay whole."""
    members: dict[tuple[str, int], set[int]] = defaultdict(set)
    for cpu in topology.cpus:
        members[group(cpu)].add(cpu.id)
    whole = [found for found in members.values() if found <= left.keys()]
    in_socket: dict[int, int] = defaultdict(int)
    for cpu in left.values():
        in_socket[cpu.socket] += 1
    whole.sort(key=lambda found: (in_socket[left[min(found)].socket], left[min(found)].socket, min(found)))
    return [frozenset(found) for found in whole]


def _looseness(cpu: Cpu, left: dict[int, Cpu], taken: set[int], topology: Topology) -> tuple[int, int, int, int, int]:
    """Sorts single cpus: beside those taken already, in the fullest socket, of the fullest core."""
    sockets = {one.socket for one in topology.cpus if one.id in taken}
    return (
        0 if cpu.socket in sockets else 1,
        sum(1 for one in left.values() if one.socket == cpu.socket),
        sum(1 for one in left.values() if one.core == cpu.core),
        cpu.core,
        cpu.id,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
