"""Made-up pods and what they use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from agents.stats.model import ContainerStats, Filesystem, MemoryUse, PodStats
from orca.api.objects import Obj

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20


def pod(
    name: str,
    *,
    priority: int = 0,
    requests: dict[str, str] | None = None,
    limits: dict[str, str] | None = None,
    **spec: Any,
) -> Obj:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": resources}], **spec},
    }


def filesystem(used: int, inodes: int = 1) -> Filesystem:
    return Filesystem(NOW, 100, 200, 10, 20, used, inodes)


def stats(
    of: Obj,
    *,
    memory: int = 0,
    root: int = 0,
    logs: int = 0,
    volumes: dict[str, int] | None = None,
    inodes: int = 1,
    processes: int = 0,
) -> PodStats:
    """``memory`` in MiB, the rest in bytes or pieces; one container, named c."""
    use = MemoryUse(NOW, memory * MIB, memory * MIB, 0)
    disks = {name: filesystem(used, inodes) for name, used in (volumes or {}).items()}
    total = root + logs + sum((volumes or {}).values())
    container = ContainerStats("c", "id", NOW, None, use, None, filesystem(root, inodes), filesystem(logs, 1))
    return PodStats(
        "default",
        of["metadata"]["name"],
        of["metadata"]["uid"],
        NOW,
        (container,),
        memory=use,
        volumes=disks,
        ephemeral=filesystem(total),
        processes=processes,
    )
