"""What can go wrong, as verbs: a host that is stopped, loses power or its cable; a process that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from orca.lab import host as hosts
from orca.lab import network
from orca.lab.cluster import boot, halt
from orca.lab.layout import Host, Lab, LabError
from orca.lab.services import PARTS, SERVER


def stop(lab: Lab, target: str) -> None:
    """Shut a host down in order."""
    halt(lab.host(target))


def start(lab: Lab, target: str) -> None:
    """Switch a host on again; it finds its disks as they were."""
    boot(lab.host(target))


def kill(lab: Lab, target: str) -> None:
    """``HOST`` loses its power; ``server``, ``etcd``, ``agent/HOST``, ``engine/HOST`` get SIGKILL and start again."""
    part, _, where = target.partition("/")
    if part not in PARTS:
        hosts.cut_power(lab.host(target))
        return
    host = lab.host(where or 0)
    if part == "etcd":
        os.kill(_etcd(host), signal.SIGKILL)
    elif part == SERVER and not host.is_server:
        raise LabError(f"{host.name} runs no server; it is on {lab.host(0).name}")
    else:
        hosts.kill_service(host, part)


def partition(lab: Lab, target: str) -> None:
    """Pull the host's cable."""
    network.set_cable(lab.host(target), up=False)


def heal(lab: Lab, target: str) -> None:
    """Plug the host's cable in again."""
    network.set_cable(lab.host(target), up=True)


def _etcd(host: Host) -> int:
    """Process id of the etcd that the host's server started."""
    server = hosts.service_pid(host, SERVER)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if head.partition("(")[2] == "etcd" and int(rest.split()[1]) == server:
            return int(stat.parent.name)
    raise LabError("no etcd runs below the server")
