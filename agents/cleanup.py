"""What `orca-agent --cleanup` does: take away everything the agent made on a host, when the host leaves the cluster.

Each step goes on where the one before failed: as much as possible shall be gone, and what stays is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from agents import mounts
from agents.images.mounts import ImageMounts
from agents.network import NetworkOptions, remove_networks
from agents.node.logind import forget_settings
from agents.policy.kernel import remove_table
from agents.proxy import remove_rules
from agents.resources.paths import Driver, Layout
from agents.resources.tree import Tree
from agents.runtime import Runtime
from agents.runtime.kept_logs import KeptLogs
from orca.client.clock import SystemClock

log = structlog.get_logger()


async def clean_up(
    root: Path,
    *,
    docker_socket: str,
    cluster_cidr: str,
    service_cidr: str,
    node_name: str,
    cgroup_root: str,
    pod_logs: Path,
    network_options: NetworkOptions,
) -> bool:
    """Remove pods' containers, cgroups, rules, links, mounts, kept logs and the settings of logind; state files stay.
    False when something could not be removed."""

    async def unmount() -> None:
        await asyncio.to_thread(_unmount_below, root)

    async def network() -> None:
        await remove_networks(network_options, root, node_name, cluster_cidr=cluster_cidr, service_cidr=service_cidr)

    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "containers": lambda: _remove_containers(docker_socket, root),
        "cgroups": lambda: _remove_cgroups(docker_socket, cgroup_root),
        "services": remove_rules,
        "network policies": remove_table,
        "network": network,
        "volumes": unmount,
        "logs": KeptLogs(pod_logs, clock=SystemClock()).clear,
        "settings of logind": forget_settings,
    }
    clean = True
    for name, step in steps.items():
        try:
            await step()
            log.info("removed", what=name)
        except Exception as error:
            clean = False
            log.warning("could not be removed", what=name, error=str(error))
    return clean


async def _remove_containers(docker_socket: str, root: Path) -> None:
    runtime = Runtime(docker_socket)
    try:
        await ImageMounts(runtime, root).orphans(())
        await asyncio.gather(*(runtime.remove(container) for container in await runtime.states()))
    finally:
        await runtime.aclose()


async def _remove_cgroups(docker_socket: str, cgroup_root: str) -> None:
    runtime = Runtime(docker_socket)
    try:
        abilities = await runtime.abilities()
    finally:
        await runtime.aclose()
    layout = Layout(Driver(abilities.cgroup_driver), int(abilities.cgroup_version), cgroup_root)
    await asyncio.to_thread(Tree(layout).remove, layout.pods_name)


def _unmount_below(root: Path) -> None:
    for directory in (root / "pods", root / "memory"):
        for mounted in mounts.mounts_below(directory):
            mounts.unmount(mounted)
    mounts.unshare(root)
