"""One cgroup as `/metrics/cadvisor` tells of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from agents.resources.usage import Details, Hierarchy, Pressure, Usage, text
from agents.stats.model import Filesystem, Interface


@dataclass(frozen=True, slots=True)
class Labels:
    """What every series has; empty for cgroups that are no container's or no pod's."""

    container: str = ""
    id: str = ""
    image: str = ""
    name: str = ""
    namespace: str = ""
    pod: str = ""

    def values(self) -> tuple[str, ...]:
        return (self.container, self.id, self.image, self.name, self.namespace, self.pod)


@dataclass(frozen=True, slots=True)
class Group:
    """One cgroup, or (without ``usage``) a pod's network."""

    labels: Labels
    at: datetime
    usage: Usage | None = None
    details: Details | None = None
    pressure: tuple[tuple[str, Pressure], ...] = ()
    """(cpu, memory or io, its stall times)"""
    started_at: datetime | None = None
    interfaces: tuple[Interface, ...] = ()
    rootfs: Filesystem | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """The host, for the ``machine_`` series."""

    cores: int
    memory: int
    swap: int
    boot_id: str = ""
    machine_id: str = ""
    system_uuid: str = ""


def group_of(hierarchy: Hierarchy, location: str, usage: Usage, at: datetime, labels: Labels) -> Group:
    """Reads what is left to read of a cgroup."""
    stalls = [(what, hierarchy.pressure(location, what)) for what in ("cpu", "memory", "io")]
    known = tuple((what, one) for what, one in stalls if one is not None)
    return Group(labels, at, usage, hierarchy.details(location), known)


def device_number(device: int) -> str:
    """``st_dev`` as "major:minor"."""
    return f"{os.major(device)}:{os.minor(device)}"


def device_names(groups: list[Group]) -> dict[str, str]:
    """Paths of the devices that ``groups`` speak of, by "major:minor". Reads."""
    numbers = {number for group in groups if group.details is not None for number, _ in group.details.disk}
    numbers |= {device_number(group.rootfs.device) for group in groups if group.rootfs is not None}
    found = {}
    for number in numbers:
        for line in text(f"/sys/dev/block/{number}/uevent").splitlines():
            if line.startswith("DEVNAME="):
                found[number] = "/dev/" + line.removeprefix("DEVNAME=")
    return found
