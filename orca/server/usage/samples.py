"""What a host's summary says of cpu and memory, and rates between two of them. Pure.

Reference: k8s.io/kubelet ``pkg/apis/stats/v1alpha1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from orca.api.objects import Obj
from orca.api.times import parse_time

LEAST_WINDOW = timedelta(seconds=5)
MOST_WINDOW = timedelta(minutes=2)
HOST_WINDOW = timedelta(seconds=10)
"""Over about this long a host itself works out the rate that is taken while there is no earlier sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """``cpu`` is nanoseconds since the start, ``rate`` billionths of a core as the host says, ``memory`` bytes."""

    at: datetime
    cpu: int
    rate: int | None
    memory: int


@dataclass(frozen=True, slots=True)
class Use:
    """Use over ``window`` until ``at``: ``cpu`` in billionths of a core, ``memory`` in bytes."""

    at: datetime
    window: timedelta
    cpu: int
    memory: int


Key = tuple[str, ...]
"""() is the node, (pod uid, container name) a container."""


@dataclass(frozen=True, slots=True)
class HostSample:
    """One summary: samples by key, and the keys of each pod's containers by (namespace, name)."""

    samples: Mapping[Key, Sample]
    pods: Mapping[tuple[str, str], tuple[Key, ...]]


def read(summary: Obj) -> HostSample:
    """From ``/stats/summary``. What lacks cpu or memory is left out; a pod with such a container as a whole.

    Raises KeyError, TypeError, ValueError for what is no summary.
    """
    samples: dict[Key, Sample] = {}
    node = _sample(summary["node"])
    if node is not None:
        samples[()] = node
    pods = {}
    for pod in summary.get("pods") or ():
        reference = pod["podRef"]
        found = {(reference["uid"], one["name"]): _sample(one) for one in pod.get("containers") or ()}
        whole = {key: sample for key, sample in found.items() if sample is not None}
        if found and len(whole) == len(found):
            samples |= whole
            pods[reference["namespace"], reference["name"]] = tuple(whole)
    return HostSample(samples, pods)


def _sample(stats: Obj) -> Sample | None:
    cpu, memory = stats.get("cpu") or {}, stats.get("memory") or {}
    total, working_set = cpu.get("usageCoreNanoSeconds"), memory.get("workingSetBytes")
    if total is None or working_set is None:
        return None
    return Sample(parse_time(cpu["time"]), int(total), cpu.get("usageNanoCores"), int(working_set))


def uses(now: HostSample, before: HostSample | None) -> dict[Key, Use]:
    """Rates since ``before`` where that is near enough, else the host's own."""
    return dict(_uses(now, before))


def _uses(now: HostSample, before: HostSample | None) -> Iterator[tuple[Key, Use]]:
    for key, sample in now.samples.items():
        former = before.samples.get(key) if before is not None else None
        if former is not None and former.cpu <= sample.cpu:
            window = sample.at - former.at
            if LEAST_WINDOW <= window <= MOST_WINDOW:
                rate = round((sample.cpu - former.cpu) / window.total_seconds())
                yield key, Use(sample.at, window, rate, sample.memory)
                continue
        if sample.rate is not None:
            yield key, Use(sample.at, HOST_WINDOW, int(sample.rate), sample.memory)
