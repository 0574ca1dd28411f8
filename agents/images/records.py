"""Which images this agent pulled, and by whose credentials: on disk, so that a restart forgets nobody's rights."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import structlog

from agents.durable import read_object, write_file
from agents.images.access import (
    Access,
    Record,
    SecretUse,
    Verification,
    from_json,
    grants,
    merge,
    repository_of,
    to_json,
)
from agents.runtime.model import ImageInfo
from orca.client.clock import Clock

log = structlog.get_logger()

Logins = Callable[[], Awaitable[Sequence[SecretUse]]]
"""Asked for a pod's logins only when they matter."""


class PullRecords:
    """Files below ``directory``: ``pulled/`` has one an image, ``pulling/`` one a pull that is under way, named and
    written as the kubelet's ``image_manager``."""

    def __init__(self, directory: Path, verification: Verification, clock: Clock) -> None:
        self._pulled_dir, self._pulling_dir = directory / "pulled", directory / "pulling"
        self._verification = verification
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._intents: dict[str, int] = {}
        """Pulls under way of an image name; 0 for one that a former agent did not end."""
        self._order = asyncio.Lock()
        self._load()

    def __repr__(self) -> str:
        return f"<PullRecords {len(self._records)} images, {self._verification.policy}>"

    def _load(self) -> None:
        for file in _files(self._pulled_dir):
            try:
                record = from_json(read_object(file))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                # Without its record an image counts as never pulled here, which would open it to all: keep it closed.
                log.warning("record of a pull cannot be read", file=str(file), error=str(error))
                record = Record(file.name.replace("sha256-", "sha256:", 1), self._clock.now())
            self._records[record.image_id] = record
        for file in _files(self._pulling_dir):
            try:
                self._intents[str(read_object(file)["image"])] = 0
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("intent of a pull cannot be read", file=str(file), error=str(error))
                with contextlib.suppress(OSError):
                    file.unlink()

    async def recover(self, images: Iterable[ImageInfo]) -> None:
        """Pulls that a former agent began: what is here of them now was pulled by us, nobody knows by whose right."""
        left = {image for image, under_way in self._intents.items() if not under_way}
        if not left:
            return
        for info in images:
            for image in left.intersection((*info.tags, *info.digests)):
                await self._note(image, info.id, None)
        for image in left:
            await self._end(image)

    async def may_use(self, image: str, image_id: str, logins: Logins) -> bool:
        """Whether a pod may use an image that is present. Raises what ``logins`` raises."""
        record = self._records.get(image_id)
        if not self._verification.required(image, pulled_by_us=record is not None or image in self._intents):
            return True
        if record is None:
            return False
        answer = grants(record, repository_of(image), ())
        if answer is False:
            answer = grants(record, repository_of(image), await logins())
        if isinstance(answer, SecretUse):
            await self._note(image, image_id, Access(secrets=(answer,)))
        return answer is not False and answer is not None

    async def pulling(self, image: str) -> None:
        """Before a pull; ended by exactly one :meth:`pulled` or :meth:`failed`, also when this was cancelled or raises
        OSError: an intent that nobody ends keeps the image from all who would use it without a pull."""
        self._intents[image] = self._intents.get(image, 0) + 1
        if self._intents[image] == 1:
            # To its end, so that the end of a cancelled pull does not overtake what it is to undo.
            await asyncio.shield(asyncio.ensure_future(self._begin(image)))

    async def _begin(self, image: str) -> None:
        text = json.dumps({"kind": "ImagePullIntent", "apiVersion": "kubelet.config.k8s.io/v1beta1", "image": image})
        async with self._order:
            await asyncio.to_thread(write_file, self._pulling_dir, _file_of(image), text)

    async def pulled(self, image: str, image_id: str, login: SecretUse | None) -> None:
        """After a pull; ``login`` None: with what every pod of the node has, or with nothing."""
        access = Access(secrets=(login,)) if login is not None else Access(node=True)
        if await self._note(image, image_id, access):
            await self._end(image)

    async def failed(self, image: str) -> None:
        await self._end(image)

    async def forget_others(self, present: set[str]) -> None:
        """Drop records of images that are gone, by the ids of those that are here."""
        for image_id in [one for one in self._records if one not in present]:
            del self._records[image_id]
            async with self._order:
                await asyncio.to_thread((self._pulled_dir / _name_of(image_id)).unlink, missing_ok=True)

    async def _note(self, image: str, image_id: str, access: Access | None) -> bool:
        known = self._records.get(image_id)
        record = merge(known, image_id, repository_of(image), access, self._clock.now())
        if record is known:
            return True
        self._records[image_id] = record
        try:
            async with self._order:
                await asyncio.to_thread(write_file, self._pulled_dir, _name_of(image_id), json.dumps(to_json(record)))
        except OSError as error:
            # The intent stays on disk, so that the image still counts as pulled by us after a restart.
            log.warning("record of a pull cannot be written", image=image, error=str(error))
            return False
        return True

    async def _end(self, image: str) -> None:
        left = self._intents.get(image, 0) - 1
        if left > 0:
            self._intents[image] = left
            return
        self._intents.pop(image, None)
        async with self._order:
            await asyncio.to_thread((self._pulling_dir / _file_of(image)).unlink, missing_ok=True)


def _files(directory: Path) -> list[Path]:
    try:
        return [file for file in directory.iterdir() if not file.name.endswith(".new")]
    except FileNotFoundError:
        return []


def _name_of(image_id: str) -> str:
    return image_id.replace(":", "-")


def _file_of(image: str) -> str:
    return f"sha256-{hashlib.sha256(image.encode()).hexdigest()}"
