"""Signals of the host, and the thresholds of a KubeletConfiguration by which they are judged. Pure."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum

from orca.api.durations import parse_duration
from orca.api.quantity import Quantity


class Signal(Enum):
    """What is watched."""

    MEMORY = "memory.available"
    ALLOCATABLE_MEMORY = "allocatableMemory.available"
    NODE_FS = "nodefs.available"
    NODE_FS_INODES = "nodefs.inodesFree"
    IMAGE_FS = "imagefs.available"
    IMAGE_FS_INODES = "imagefs.inodesFree"
    CONTAINER_FS = "containerfs.available"
    CONTAINER_FS_INODES = "containerfs.inodesFree"
    PID = "pid.available"


MEMORY_SIGNALS = frozenset({Signal.MEMORY, Signal.ALLOCATABLE_MEMORY})
INODE_SIGNALS = frozenset({Signal.NODE_FS_INODES, Signal.IMAGE_FS_INODES, Signal.CONTAINER_FS_INODES})
IMAGE_SIGNALS = frozenset({Signal.IMAGE_FS, Signal.IMAGE_FS_INODES, Signal.CONTAINER_FS, Signal.CONTAINER_FS_INODES})

RESOURCES = {
    signal: "memory"
    if signal in MEMORY_SIGNALS
    else "inodes"
    if signal in INODE_SIGNALS
    else "pids"
    if signal is Signal.PID
    else "ephemeral-storage"
    for signal in Signal
}
"""What runs short when a signal's threshold is met, as messages call it."""
CONDITIONS = {
    signal: "MemoryPressure" if signal in MEMORY_SIGNALS else "PIDPressure" if signal is Signal.PID else "DiskPressure"
    for signal in Signal
}
"""The node condition that goes with it."""

DEFAULT_HARD: Mapping[str, str] = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}


class ThresholdError(ValueError):
    """A threshold that cannot be used; the text names it."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity, or a share of the capacity."""

    quantity: Quantity | None = None
    share: float = 0.0

    def of(self, capacity: int, form: str = "binary") -> Quantity:
        """The quantity meant; written in ``form`` when it is a share."""
        if self.quantity is not None:
            return self.quantity
        return Quantity(Decimal(int(capacity * self.share)), form)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Met while less than ``value`` is left. Hard thresholds have no ``grace`` (seconds)."""

    signal: Signal
    value: Amount
    grace: float = 0.0
    min_reclaim: Amount | None = None

    @property
    def hard(self) -> bool:
        return self.grace == 0

    def quantity(self, capacity: int, *, with_reclaim: bool = False) -> Quantity:
        """What has to be left, and above that what is to be reclaimed once eviction has begun."""
        form = "decimal" if self.signal in INODE_SIGNALS or self.signal is Signal.PID else "binary"
        wanted = self.value.of(capacity, form)
        if with_reclaim and self.min_reclaim is not None:
            wanted = wanted + self.min_reclaim.of(capacity, form)
        return wanted


def parse_thresholds(
    *,
    hard: Mapping[str, str],
    soft: Mapping[str, str] | None = None,
    soft_grace: Mapping[str, str] | None = None,
    min_reclaim: Mapping[str, str] | None = None,
    enforce: Collection[str] = (),
    merge_defaults: bool = False,
) -> tuple[Threshold, ...]:
    """From the fields evictionHard, evictionSoft, evictionSoftGracePeriod, evictionMinimumReclaim and
    enforceNodeAllocatable. Signals that ``hard`` leaves out are not watched, unless ``merge_defaults``. Raises
    ``ThresholdError``."""
    if merge_defaults:
        hard = {**DEFAULT_HARD, **hard}
    found = [threshold for name, text in hard.items() if (threshold := _threshold(name, text)) is not None]
    graces = {_signal(name): _duration(name, text) for name, text in (soft_grace or {}).items()}
    for name, text in (soft or {}).items():
        threshold = _threshold(name, text)
        if threshold is None:
            continue
        if threshold.signal not in graces:
            raise ThresholdError(f"grace period must be specified for the soft eviction threshold {name}")
        found.append(replace(threshold, grace=graces[threshold.signal]))
    reclaims = {_signal(name): _reclaim(name, text) for name, text in (min_reclaim or {}).items()}
    found = [replace(one, min_reclaim=reclaims.get(one.signal)) for one in found]
    if "pods" in enforce:
        found += [
            replace(one, signal=Signal.ALLOCATABLE_MEMORY) for one in found if one.signal is Signal.MEMORY and one.hard
        ]
    return tuple(found)


def with_container_fs(thresholds: tuple[Threshold, ...], *, dedicated_image_fs: bool) -> tuple[Threshold, ...]:
    """Containers' layers lie with images here, so their thresholds follow those of the image file system when it is one
    of its own, and of the node's otherwise; containerfs thresholds of the file are not heeded, as upstream."""
    space, inodes = (
        (Signal.IMAGE_FS, Signal.IMAGE_FS_INODES)
        if dedicated_image_fs
        else (
            Signal.NODE_FS,
            Signal.NODE_FS_INODES,
        )
    )
    twins = {space: Signal.CONTAINER_FS, inodes: Signal.CONTAINER_FS_INODES}
    kept = [one for one in thresholds if one.signal not in twins.values()]
    return tuple(kept + [replace(one, signal=twins[one.signal]) for one in kept if one.signal in twins])


def _signal(name: str) -> Signal:
    try:
        return Signal(name)
    except ValueError:
        raise ThresholdError(f"unsupported eviction signal {name}") from None


def _threshold(name: str, text: str) -> Threshold | None:
    signal = _signal(name)
    if text.endswith("%"):
        if text in ("0%", "100%"):
            return None
        share = _share(name, text)
        if share < 0:
            raise ThresholdError(f"eviction percentage threshold {name} must be >= 0%: {text}")
        if share > 1:
            raise ThresholdError(f"eviction percentage threshold {name} must be <= 100%: {text}")
        return Threshold(signal, Amount(share=share))
    quantity = _quantity(name, text)
    if quantity.value <= 0:
        raise ThresholdError(f"eviction threshold {name} must be positive: {quantity}")
    return Threshold(signal, Amount(quantity))


def _reclaim(name: str, text: str) -> Amount:
    if text.endswith("%"):
        share = _share(name, text)
        if share <= 0:
            raise ThresholdError(f"eviction percentage minimum reclaim {name} must be positive: {text}")
        return Amount(share=share)
    quantity = _quantity(name, text)
    if quantity.value < 0:
        raise ThresholdError(f"negative eviction minimum reclaim specified for {name}")
    return Amount(quantity)


def _share(name: str, text: str) -> float:
    try:
        return _single(_single(float(text.rstrip("%"))) / 100)
    except ValueError:
        raise ThresholdError(f"eviction threshold {name} is not a percentage: {text}") from None


def _single(number: float) -> float:
    """In single precision, as upstream keeps percentages: it shows in the quantities that messages tell."""
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded


def _quantity(name: str, text: str) -> Quantity:
    try:
        return Quantity.parse(text)
    except ValueError as error:
        raise ThresholdError(f"eviction threshold {name}: {error}") from None


def _duration(name: str, text: str) -> float:
    """Seconds of a Go duration (``1m30s``)."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ThresholdError(f"eviction grace period {name} is not a duration: {text}") from None
    if seconds < 0:
        raise ThresholdError(f"invalid eviction grace period specified: {text}, must be a positive value")
    return seconds
