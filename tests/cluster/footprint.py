"""What pods and an agent take of a host, counted from outside: nothing of it may stay when the pods are gone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

from orca.lab import host as hosts
from orca.lab.layout import Host
from tests.bench.processes import resident_mb


@dataclass(frozen=True)
class Footprint:
    """Counts, and ``memory`` in MB. ``descriptors``, ``threads``, ``children`` and ``memory`` are the agent's."""

    containers: int
    shims: int
    mounts: int
    cables: int
    addresses: int
    rules: int
    cgroups: int
    directories: int
    volumes: int
    descriptors: int
    threads: int
    children: int
    memory: float

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name):.0f}" for field in fields(self))

    def more_than(self, before: Footprint) -> dict[str, str]:
        """What there is more of than before: exactly nothing of a pod's; the agent's pools may differ a little, and
        memory by a tenth."""
        slack = {"descriptors": 6, "threads": 2, "memory": before.memory * 0.1}
        return {
            field.name: f"{getattr(before, field.name):.0f} → {getattr(self, field.name):.0f}"
            for field in fields(self)
            if getattr(self, field.name) > getattr(before, field.name) + slack.get(field.name, 0)
        }


def footprint(host: Host) -> Footprint:
    """Of a lab's host, as it is now."""
    root, agent = hosts.root(host), hosts.service_pid(host, "agent")
    holder = hosts.service_pid(host, "holder")
    state = root / "var/lib/orca-agent"
    proc = Path(f"/proc/{agent}")
    docker = root / "var/lib/docker"
    links = hosts.call(host, "ip", "-o", "link").splitlines()
    names = [line.split()[1] for line in links]
    return Footprint(
        # Those that the engine lists: one that is killed while it makes or removes a container leaves a directory of
        # which it knows nothing any more.
        containers=len(hosts.call(host, "docker", "ps", "--all", "--quiet").splitlines()),
        shims=sum(_is_shim_of(entry, root) for entry in os.listdir("/proc") if entry.isdigit()),
        mounts=len(Path(f"/proc/{holder}/mountinfo").read_text().splitlines()),
        cables=sum(name.startswith("op") for name in names),
        addresses=len(json.loads((state / "network/addresses.json").read_bytes())["pods"]),
        rules=len(hosts.call(host, "iptables-save").splitlines()),
        cgroups=_below(f"*/{host.cgroup}") + _below(host.cgroup),
        directories=_entries(state / "pods"),
        volumes=_entries(docker / "volumes"),
        descriptors=_entries(proc / "fd"),
        threads=_entries(proc / "task"),
        children=len((proc / f"task/{agent}/children").read_text().split()),
        memory=resident_mb(agent),
    )


def _entries(directory: Path) -> int:
    return len(os.listdir(directory)) if directory.is_dir() else 0


def _below(cgroup: str) -> int:
    """Cgroups below one, of all hierarchies that the pattern names."""
    return sum(len(found) for path in Path("/sys/fs/cgroup").glob(cgroup) for _, found, _ in os.walk(path))


def _is_shim_of(pid: str, root: Path) -> bool:
    """The host's own: it sees the same mounts as the host's first process. One without a process is none of ours: an
    engine that is killed while it starts a container leaves it."""
    try:
        if not (Path("/proc") / pid / "comm").read_text().startswith("containerd-shim"):
            return False
        if not (Path("/proc") / pid / f"task/{pid}/children").read_text().split():
            return False
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(root.parent / "ns/mnt")
    except OSError:
        return False
