"""Where a pod stands with its images: what failed, what is being pulled, and what its containers show of that. Pure.

Upstream: ``pkg/kubelet/images``: back-off by pod and image, 10 s doubling to 300 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from orca.api.objects import Obj

FIRST_DELAY = 10.0
LAST_DELAY = 300.0
RESET_SECONDS = 2 * LAST_DELAY
"""A failure after so long a time is a first one again; success alone forgets nothing, as upstream."""
VOLUME_PREFIX = "volume/"
"""Of an image that is a volume, among the keys of actions; no container's name has a slash."""


@dataclass(frozen=True, slots=True)
class FailedPull:
    """The last failure for one image."""

    reason: str
    """``ErrImagePull`` or ``RegistryUnavailable``."""
    message: str
    at: datetime
    seconds: float

    @property
    def ready_at(self) -> datetime:
        return self.at + timedelta(seconds=self.seconds)

    @property
    def turns_at(self) -> datetime:
        """From when on the back-off is shown instead of the failure; the kubelet does so at its next look."""
        return self.at + timedelta(seconds=self.seconds / 2)


def failed_again(old: FailedPull | None, reason: str, message: str, now: datetime) -> FailedPull:
    """The next failure in a row: the delay doubles."""
    if old is None or now - old.at > timedelta(seconds=RESET_SECONDS):
        return FailedPull(reason, message, now, FIRST_DELAY)
    return FailedPull(reason, message, now, min(old.seconds * 2, LAST_DELAY))


@dataclass(slots=True)
class Pulls:
    """Part of a pod's memory."""

    failed: dict[str, FailedPull] = field(default_factory=dict)
    """By image: containers of a pod that want the same wait together."""
    progress: dict[str, str] = field(default_factory=dict)
    """By action key: how far a pull that takes its time has come."""
    volumes: set[str] = field(default_factory=set)
    """Names of the image volumes that are mounted."""

    def clock_moved(self, by: timedelta) -> None:
        """The host's clock was set."""
        for image, failure in self.failed.items():
            self.failed[image] = replace(failure, at=failure.at + by)


@dataclass(frozen=True, slots=True)
class Look:
    """What to do about one image: show this, look again then, and ``go``: ask for it."""

    reason: str = ""
    message: str = ""
    wake_at: datetime | None = None
    go: bool = False


def look(pulls: Pulls, key: str, image: str, *, flying: bool, creating: str, now: datetime) -> Look:
    """``flying``: it is being asked for; ``creating``: the reason of a container that is on its way."""
    failed = pulls.failed.get(image)
    if flying and pulls.progress.get(key):
        return Look(creating, f'pulling image "{image}": {pulls.progress[key]}')
    if failed is None:
        return Look(go=True)
    if now < failed.turns_at and not flying:
        return Look(failed.reason, failed.message, failed.turns_at)
    backing_off = f'Back-off pulling image "{image}": {failed.reason}: {failed.message}'
    if now < failed.ready_at and not flying:
        return Look("ImagePullBackOff", backing_off, failed.ready_at)
    return Look("ImagePullBackOff", backing_off, go=True)


def image_volumes(pod: Obj, container: Obj) -> Iterator[tuple[str, str]]:
    """Name and reference of the images that a container mounts."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume["name"] in mounted and "image" in volume:
            yield volume["name"], (volume["image"] or {}).get("reference") or ""
