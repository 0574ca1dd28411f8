"""Throws images away: every five minutes what the policy says, and on demand all that nothing uses."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from pathlib import Path

import structlog

from agents.durable import read_object, write_file
from agents.images import garbage
from agents.images.garbage import Policy, Use
from agents.images.records import PullRecords
from agents.runtime.errors import NoSuchImage, RuntimeFailure
from agents.runtime.images import Images
from agents.runtime.model import ImageInfo
from orca.client.clock import Clock

PERIOD_SECONDS = 300.0
_FILE = "usage.json"

log = structlog.get_logger()

Tell = Callable[[str, str], None]
"""Records a warning about the node: reason and message."""


class CollectionFailed(Exception):
    """Not as much could be freed as was to be; the text is fit for an event."""


class ImageCollector:
    """``run`` until cancelled. ``storage`` answers a path on the disk that holds images, ``wanted`` ids of images that
    pods are about to use; ``pinned`` names images that never go (the pause image)."""

    def __init__(
        self,
        images: Images,
        records: PullRecords,
        *,
        policy: Policy,
        clock: Clock,
        directory: Path,
        storage: Callable[[], Awaitable[Path]],
        pinned: Collection[str],
        wanted: Callable[[], Collection[str]],
        tell: Tell,
    ) -> None:
        self._images = images
        self._records = records
        self.policy = policy
        self._clock = clock
        self._directory = directory
        self._storage = storage
        self._pinned = frozenset(pinned)
        self._wanted = wanted
        self._tell = tell
        self._uses: dict[str, Use] = _load(directory / _FILE)
        self._one_by_one = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ImageCollector {len(self._uses)} images, {self.policy}>"

    async def run(self) -> None:
        """Looks at once, so that the age of images is known, and then every five minutes."""
        failed_before = False
        while True:
            try:
                await self.collect()
                failed_before = False
            except (CollectionFailed, RuntimeFailure, OSError) as error:
                log.warning("images cannot be collected", error=str(error))
                # As the kubelet: the first failure may be one of starting up.
                if failed_before:
                    self._tell("ImageGCFailed", str(error))
                failed_before = True
            await self._clock.sleep(PERIOD_SECONDS)

    async def collect(self) -> None:
        """By age and by the disk's thresholds. Raises CollectionFailed, RuntimeFailure, OSError."""
        async with self._one_by_one:
            now = self._clock.now()
            present, free = await self._look(now)
            gone = await self._remove(present, garbage.outdated(self._uses, free, self.policy, now), None, why="age")
            if self.policy.high >= 100:
                return
            disk = await asyncio.to_thread(os.statvfs, await self._storage())
            capacity, available = disk.f_frsize * disk.f_blocks, disk.f_frsize * disk.f_bavail
            if not capacity:
                message = "invalid capacity 0 on image filesystem"
                self._tell("InvalidDiskCapacity", message)
                raise CollectionFailed(message)
            amount = garbage.bytes_to_free(capacity, available, self.policy)
            if not amount:
                return
            log.info("the disk of images is over its threshold", free_bytes=available, to_free=amount)
            left = [image for image in free if image not in gone]
            freed = sum((await self._remove(present, self._old_enough(left, now), amount)).values())
            if freed < amount:
                message = (
                    f"Failed to garbage collect required amount of images. Attempted to free {amount} bytes, but only "
                    f"found {freed} bytes eligible to free."
                )
                self._tell("FreeDiskSpaceFailed", message)
                raise CollectionFailed(message)

    async def delete_unused(self) -> int:
        """Everything that nothing uses and that is older than the minimum age, as under disk pressure; answers the
        bytes. Raises CollectionFailed, RuntimeFailure."""
        async with self._one_by_one:
            now = self._clock.now()
            present, free = await self._look(now)
            return sum((await self._remove(present, self._old_enough(free, now), None)).values())

    def _old_enough(self, among: list[str], now: datetime) -> list[str]:
        return [image for image in among if garbage.old_enough(self._uses[image], self.policy, now)]

    async def _look(self, now: datetime) -> tuple[dict[str, ImageInfo], list[str]]:
        """Images by id, and the ids of those that could go, in order."""
        present = {image.id: image for image in await self._images.list()}
        in_use = {*await self._images.used(), *self._wanted()}
        pinned = {image.id for image in present.values() if not self._pinned.isdisjoint((*image.tags, *image.digests))}
        self._uses = garbage.observe(self._uses, present.values(), in_use, now)
        await self._save()
        await self._records.forget_others(set(present))
        return present, garbage.candidates(self._uses, in_use, pinned)

    async def _remove(
        self, present: dict[str, ImageInfo], images: list[str], enough: int | None, *, why: str = "space"
    ) -> dict[str, int]:
        """One after the other until ``enough`` bytes are free; answers what each gave. Raises CollectionFailed when
        some resisted."""
        freed: dict[str, int] = {}
        problems: list[str] = []
        for image in images:
            log.info("removing an image that nothing uses", image=image, bytes=self._uses[image].size)
            try:
                await self._images.remove_all(present[image])
            except NoSuchImage:
                pass
            except RuntimeFailure as error:
                problems.append(str(error))
                continue
            freed[image] = self._uses.pop(image).size
            self._images.tally.collected[why] += 1
            if enough is not None and sum(freed.values()) >= enough:
                break
        if problems:
            raise CollectionFailed(
                f"wanted to free {enough if enough is not None else 'all unused'} bytes, but freed "
                f"{sum(freed.values())} bytes space with errors in image deletion: [{', '.join(problems)}]"
            )
        return freed

    async def _save(self) -> None:
        text = json.dumps(
            {
                image: [use.detected.isoformat(), use.used.isoformat() if use.used else None, use.size]
                for image, use in self._uses.items()
            }
        )
        try:
            await asyncio.to_thread(write_file, self._directory, _FILE, text)
        except OSError as error:
            # Ages start anew after a restart then, which keeps images longer; a full disk must not stop collecting.
            log.warning("ages of images cannot be saved", error=str(error))


def _load(file: Path) -> dict[str, Use]:
    try:
        raw = read_object(file)
        return {
            image: Use(datetime.fromisoformat(detected), datetime.fromisoformat(used) if used else None, int(size))
            for image, (detected, used, size) in raw.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("ages of images cannot be read", file=str(file), error=str(error))
        return {}
