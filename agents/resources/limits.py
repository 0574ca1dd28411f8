"""What is written into the files of a cgroup, from what a pod asks for. Pure.

Reference: k8s.io/kubernetes ``pkg/kubelet/cm`` (ResourceConfigForPod, MilliCPUToShares, MilliCPUToQuota,
HugePageLimits) and opencontainers/cgroups (ConvertCPUSharesToCgroupV2Value).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from agents.resources.amounts import (
    HUGE_PAGES,
    Amounts,
    every_one,
    has_pod_level,
    limits_of_pod,
    pod_level,
    requests_of,
)
from agents.resources.quality import counted, qos_class
from orca.api.objects import Obj
from orca.api.quantity import parse_int

PERIOD = 100_000
MINIMUM_QUOTA = 1_000
SHARES_PER_CPU = 1024
MINIMUM_SHARES = 2
MAXIMUM_SHARES = 262_144
UNLIMITED = -1
_UNITS = (("GB", 30), ("MB", 20), ("KB", 10))


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one cgroup: shares, microseconds, bytes, processes. None leaves a file as it is, ``UNLIMITED`` lifts one."""

    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int = PERIOD
    memory: int | None = None
    pids: int | None = None
    huge_pages: Mapping[str, int] | None = None
    """The kernel's word for a page size (``2MB``) -> bytes."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every pod of this host. ``pids`` is the most processes a pod may have, 0 for any number;
    ``page_sizes`` are those of the kernel, in bytes."""

    quota: bool = True
    period: int = PERIOD
    pids: int = 0
    page_sizes: Collection[int] = ()


def shares_of(milli: int) -> int:
    """cpu in thousandths to shares of version 1."""
    return min(max(milli * SHARES_PER_CPU // 1000, MINIMUM_SHARES), MAXIMUM_SHARES)


def weight_of(shares: int) -> int:
    """Shares to a weight of version 2: a curve through the least, the default and the greatest of both."""
    if shares <= MINIMUM_SHARES:
        return 1
    if shares >= MAXIMUM_SHARES:
        return 10_000
    level = math.log2(shares)
    return math.ceil(10 ** ((level * level + 125 * level) / 612 - 7 / 34))


def quota_of(milli: int, period: int = PERIOD) -> int:
    """cpu in thousandths to microseconds in a period; 0 for none."""
    return max(milli * period // 1000, MINIMUM_QUOTA) if milli else 0


def page_label(size: int) -> str:
    """Bytes to the kernel's word: 2097152 is ``2MB``."""
    for unit, bits in _UNITS:
        if size >= 1 << bits:
            return f"{size >> bits}{unit}"
    return f"{size}B"


def huge_pages(amounts: Amounts, page_sizes: Collection[int]) -> dict[str, int]:
    """Limits for every page size of the kernel: 0 for those not asked for."""
    asked: dict[int, int] = {}
    for resource, amount in amounts.items():
        if resource.startswith(HUGE_PAGES):
            asked[parse_int(resource.removeprefix(HUGE_PAGES))] = amount
    return {page_label(size): asked.get(size, 0) for size in page_sizes}


def pod_limits(pod: Obj, rules: Rules, *, exclusive: bool = False) -> Limits:
    """Of a pod's cgroup. ``exclusive``: it has cpus of its own, which no quota is to cut short."""
    requests, limits = requests_of(pod), limits_of_pod(pod)
    quality = qos_class(pod)
    cpu: int | None = None
    memory: int | None = None
    if quality == "Guaranteed" or (quality == "Burstable" and _limited(pod, "cpu")):
        cpu = quota_of(limits.get("cpu", 0), rules.period) if rules.quota and not exclusive else UNLIMITED
    if quality == "Guaranteed" or (quality == "Burstable" and _limited(pod, "memory")):
        memory = limits.get("memory", 0)
    return Limits(
        cpu_shares=MINIMUM_SHARES if quality == "BestEffort" else shares_of(requests.get("cpu", 0)),
        cpu_quota=cpu or None,
        cpu_period=rules.period,
        memory=memory or None,
        pids=rules.pids or None,
        huge_pages=huge_pages(requests, rules.page_sizes) if rules.page_sizes else None,
    )


def _limited(pod: Obj, resource: str) -> bool:
    """Whether there is a limit for the pod as a whole: its own, or one of every container."""
    if has_pod_level(pod) and counted({"resources": {"limits": pod_level(pod, "limits")}}, "limits").get(resource):
        return True
    return every_one(pod, lambda resources: bool(counted({"resources": resources}, "limits").get(resource)))


def container_huge_pages(pod: Obj, container: Obj, rules: Rules) -> Limits:
    """What the engine cannot be told of a container: its own limits, or those of the pod where it has none."""
    if not rules.page_sizes:
        return Limits()
    asked = {**pod_level(pod, "limits"), **((container.get("resources") or {}).get("limits") or {})}
    amounts = {name: parse_int(amount) for name, amount in asked.items() if name.startswith(HUGE_PAGES)}
    return Limits(huge_pages=huge_pages(amounts, rules.page_sizes))


@dataclass(frozen=True, slots=True)
class Write:
    """One file of a controller and its text; ``optional`` ones are not there on every kernel."""

    controller: str
    file: str
    text: str
    optional: bool = False


def writes(limits: Limits, version: int) -> list[Write]:
    """What to write, in order, in a cgroup of version 1 or 2."""
    return list(_second(limits) if version == 2 else _first(limits))


def _first(limits: Limits) -> Iterator[Write]:
    if limits.cpu_shares is not None:
        yield Write("cpu", "cpu.shares", str(limits.cpu_shares))
    if limits.cpu_quota == UNLIMITED:
        yield Write("cpu", "cpu.cfs_quota_us", "-1")
    elif limits.cpu_quota is not None:
        yield Write("cpu", "cpu.cfs_period_us", str(limits.cpu_period))
        yield Write("cpu", "cpu.cfs_quota_us", str(limits.cpu_quota))
    if limits.memory is not None:
        yield Write("memory", "memory.limit_in_bytes", str(limits.memory))
    if limits.pids is not None:
        yield Write("pids", "pids.max", _or_max(limits.pids))
    for label, size in (limits.huge_pages or {}).items():
        yield Write("hugetlb", f"hugetlb.{label}.limit_in_bytes", str(size))
        yield Write("hugetlb", f"hugetlb.{label}.rsvd.limit_in_bytes", str(size), optional=True)


def _second(limits: Limits) -> Iterator[Write]:
    if limits.cpu_shares is not None:
        yield Write("cpu", "cpu.weight", str(weight_of(limits.cpu_shares)))
    if limits.cpu_quota is not None:
        yield Write("cpu", "cpu.max", f"{_or_max(limits.cpu_quota)} {limits.cpu_period}")
    if limits.memory is not None:
        yield Write("memory", "memory.max", _or_max(limits.memory))
    if limits.pids is not None:
        yield Write("pids", "pids.max", _or_max(limits.pids))
    for label, size in (limits.huge_pages or {}).items():
        yield Write("hugetlb", f"hugetlb.{label}.max", str(size))
        yield Write("hugetlb", f"hugetlb.{label}.rsvd.max", str(size), optional=True)


def _or_max(amount: int) -> str:
    return "max" if amount == UNLIMITED else str(amount)
