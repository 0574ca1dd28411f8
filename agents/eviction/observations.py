"""What the signals say now, read from a summary. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agents.eviction.thresholds import Signal
from agents.stats.model import Filesystem, NodeStats


@dataclass(frozen=True, slots=True)
class Observation:
    """What is left of what there is: bytes, inodes or process ids."""

    available: int
    capacity: int
    at: datetime


Observations = Mapping[Signal, Observation]


def observe(node: NodeStats) -> dict[Signal, Observation]:
    """One observation a signal; signals that could not be measured are missing."""
    found: dict[Signal, Observation] = {}
    for signal, memory in (
        (Signal.MEMORY, node.memory),
        (Signal.ALLOCATABLE_MEMORY, node.pods.memory if node.pods is not None else None),
    ):
        if memory is not None and memory.available is not None:
            found[signal] = Observation(memory.available, memory.available + memory.working_set, memory.at)
    for space, inodes, filesystem in (
        (Signal.NODE_FS, Signal.NODE_FS_INODES, node.filesystem),
        (Signal.IMAGE_FS, Signal.IMAGE_FS_INODES, node.image_filesystem),
        (Signal.CONTAINER_FS, Signal.CONTAINER_FS_INODES, node.image_filesystem),
    ):
        if filesystem is not None:
            found |= _of(filesystem, space, inodes)
    if node.pids_at is not None and node.pids_max:
        found[Signal.PID] = Observation(node.pids_max - node.pids_running, node.pids_max, node.pids_at)
    return found


def _of(filesystem: Filesystem, space: Signal, inodes: Signal) -> dict[Signal, Observation]:
    found = {space: Observation(filesystem.available, filesystem.capacity, filesystem.at)}
    if filesystem.inodes:  # some file systems (btrfs) have no fixed number of them
        found[inodes] = Observation(filesystem.inodes_free, filesystem.inodes, filesystem.at)
    return found
