"""The summary API's JSON (``/stats/summary``), as ``k8s.io/kubelet/pkg/apis/stats/v1alpha1`` writes it. Pure."""

from __future__ import annotations

from datetime import datetime

from agents.stats.model import (
    ContainerStats,
    Cpu,
    Filesystem,
    Interface,
    MemoryUse,
    Network,
    NodeStats,
    PodStats,
    Pressure,
    Summary,
    Swap,
)
from orca.api.objects import Obj
from orca.api.times import format_time


def summary_json(summary: Summary, *, only_cpu_and_memory: bool = False) -> Obj:
    """The document; fields that are not known are left out."""
    return {
        "node": _node(summary.node, brief=only_cpu_and_memory),
        "pods": [_pod(pod, brief=only_cpu_and_memory) for pod in summary.pods],
    }


def _node(node: NodeStats, *, brief: bool) -> Obj:
    systems = [one for one in (node.agent, node.pods) if one is not None]
    document: Obj = {
        "nodeName": node.name,
        "systemContainers": [_container(one, brief=brief) for one in systems],
        "startTime": format_time(node.started_at),
        **_use(node),
    }
    if brief:
        return document
    if node.network is not None:
        document["network"] = _network(node.network)
    if node.filesystem is not None:
        document["fs"] = _filesystem(node.filesystem)
    if node.image_filesystem is not None:
        # Layers of containers lie where images do.
        images = _filesystem(node.image_filesystem)
        document["runtime"] = {"imageFs": images, "containerFs": images}
    if node.pids_at is not None:
        stamp = format_time(node.pids_at)
        document["rlimit"] = {"time": stamp, "maxpid": node.pids_max, "curproc": node.pids_running}
    return document


def _pod(pod: PodStats, *, brief: bool) -> Obj:
    document: Obj = {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": _time(pod.started_at),
        "containers": [_container(one, brief=brief) for one in pod.containers],
        **_use(pod),
    }
    if brief:
        return document
    if pod.network is not None:
        document["network"] = _network(pod.network)
    if pod.volumes:
        document["volume"] = [_volume(pod, name, one) for name, one in pod.volumes.items()]
    if pod.ephemeral is not None:
        document["ephemeral-storage"] = _filesystem(pod.ephemeral)
    if pod.processes is not None:
        document["process_stats"] = {"process_count": pod.processes}
    return document


def _volume(pod: PodStats, name: str, filesystem: Filesystem) -> Obj:
    document = {**_filesystem(filesystem), "name": name}
    if name in pod.claims:
        document["pvcRef"] = {"name": pod.claims[name], "namespace": pod.namespace}
    return document


def _container(container: ContainerStats, *, brief: bool) -> Obj:
    document: Obj = {"name": container.name, "startTime": _time(container.started_at), **_use(container)}
    if brief:
        return document
    if container.rootfs is not None:
        document["rootfs"] = _filesystem(container.rootfs)
    if container.logs is not None:
        document["logs"] = _filesystem(container.logs)
    return document


def _use(one: NodeStats | PodStats | ContainerStats) -> Obj:
    document: Obj = {}
    if one.cpu is not None:
        document["cpu"] = _cpu(one.cpu)
    if one.memory is not None:
        document["memory"] = _memory(one.memory)
    if one.io_pressure is not None and one.cpu is not None:
        document["io"] = {"time": format_time(one.cpu.at), "psi": _pressure(one.io_pressure)}
    if one.swap is not None:
        document["swap"] = _swap(one.swap)
    return document


def _cpu(cpu: Cpu) -> Obj:
    document: Obj = {"time": format_time(cpu.at), "usageCoreNanoSeconds": cpu.total}
    if cpu.nano_cores is not None:
        document["usageNanoCores"] = cpu.nano_cores
    if cpu.pressure is not None:
        document["psi"] = _pressure(cpu.pressure)
    return document


def _memory(memory: MemoryUse) -> Obj:
    document: Obj = {"time": format_time(memory.at)}
    if memory.available is not None:
        document["availableBytes"] = memory.available
    document |= {
        "usageBytes": memory.usage,
        "workingSetBytes": memory.working_set,
        "rssBytes": memory.rss,
        "pageFaults": memory.page_faults,
        "majorPageFaults": memory.major_page_faults,
    }
    if memory.pressure is not None:
        document["psi"] = _pressure(memory.pressure)
    return document


def _swap(swap: Swap) -> Obj:
    document: Obj = {"time": format_time(swap.at), "swapUsageBytes": swap.usage}
    if swap.available is not None:
        document["swapAvailableBytes"] = swap.available
    return document


def _pressure(pressure: Pressure) -> Obj:
    return {
        kind: {"total": one.total, "avg10": one.avg10, "avg60": one.avg60, "avg300": one.avg300}
        for kind, one in (("full", pressure.full), ("some", pressure.some))
    }


def _filesystem(filesystem: Filesystem) -> Obj:
    document: Obj = {
        "time": format_time(filesystem.at),
        "availableBytes": filesystem.available,
        "capacityBytes": filesystem.capacity,
        "inodesFree": filesystem.inodes_free,
        "inodes": filesystem.inodes,
    }
    if filesystem.used is not None:
        document["usedBytes"] = filesystem.used
    if filesystem.inodes_used is not None:
        document["inodesUsed"] = filesystem.inodes_used
    return document


def _network(network: Network) -> Obj:
    document: Obj = {"time": format_time(network.at)}
    for one in network.interfaces:
        if one.name == network.default:
            document |= _interface(one)
    return {**document, "interfaces": [_interface(one) for one in network.interfaces]}


def _interface(one: Interface) -> Obj:
    return {
        "name": one.name,
        "rxBytes": one.rx_bytes,
        "rxErrors": one.rx_errors,
        "txBytes": one.tx_bytes,
        "txErrors": one.tx_errors,
    }


def _time(when: datetime | None) -> str | None:
    return None if when is None else format_time(when)
