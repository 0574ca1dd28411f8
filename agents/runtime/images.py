"""Images of the engine: look up, pull with progress, load, list, remove."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
import orjson

from agents.runtime.engine import Engine
from agents.runtime.errors import EngineUnavailable, NoSuchImage, PullFailed, RefusedByEngine
from agents.runtime.model import ImageInfo
from agents.runtime.references import parse_reference
from agents.runtime.translate import image_info

REMEMBER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PullProgress:
    """Bytes fetched so far of those known; ``total`` grows while layers are discovered."""

    current: int
    total: int


class Images:
    """Image calls; look-ups of one image by many pods at once are one call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._looking: dict[str, asyncio.Task[ImageInfo]] = {}
        self._known: dict[str, tuple[float, ImageInfo]] = {}
        self._pulling: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def inspect(self, reference: str) -> ImageInfo:
        """An image by name, digest or id; an answer may be 5 s old. Raises ``NoSuchImage``."""
        kept = self._known.get(reference)
        if kept is not None and time.monotonic() - kept[0] < REMEMBER_SECONDS:
            return kept[1]
        task = self._looking.get(reference)
        if task is None:
            task = asyncio.create_task(self._inspect(reference), name=f"image {reference}")
            self._looking[reference] = task
            task.add_done_callback(lambda _: self._looking.pop(reference, None))
        return await asyncio.shield(task)

    async def _inspect(self, reference: str) -> ImageInfo:
        try:
            info = image_info(await self._engine.call("GET", f"/images/{reference}/json"))
        except RefusedByEngine as error:  # "invalid reference format" and the like
            raise NoSuchImage(str(error)) from error
        self._known[reference] = (time.monotonic(), info)
        return info

    def recent(self, reference: str) -> ImageInfo | None:
        """The last answer of :meth:`inspect`, however old."""
        kept = self._known.get(reference)
        return kept[1] if kept is not None else None

    async def exists(self, reference: str) -> bool:
        """True when the image is on this host."""
        try:
            await self.inspect(reference)
        except NoSuchImage:
            return False
        return True

    async def list(self) -> list[ImageInfo]:
        """Every image that has a name."""
        raw = await self._engine.call("GET", "/images/json")
        return [image_info(item) for item in raw]

    async def pull(
        self,
        reference: str,
        *,
        auth: Mapping[str, str] | None = None,
        progress: Callable[[PullProgress], None] | None = None,
    ) -> None:
        """Fetch from the registry. ``auth`` has username, password, serveraddress or identitytoken. Pulls of the same
        image with the same credentials are one. Raises ``InvalidReference``, ``PullFailed``, ``EngineUnavailable``."""
        parse_reference(reference)
        token = base64.urlsafe_b64encode(orjson.dumps(dict(auth))).decode() if auth else ""
        key = (reference, token)
        task = self._pulling.get(key)
        if task is None:
            task = asyncio.create_task(self._pull(reference, token, progress), name=f"pull {reference}")
            self._pulling[key] = task
            task.add_done_callback(lambda _: self._pulling.pop(key, None))
        await asyncio.shield(task)

    async def _pull(self, reference: str, token: str, progress: Callable[[PullProgress], None] | None) -> None:
        parsed = parse_reference(reference)
        layers: dict[str, tuple[int, int]] = {}
        try:
            async with self._engine.stream(
                "POST",
                "/images/create",
                params={"fromImage": parsed.repository, "tag": parsed.version},
                headers={"X-Registry-Auth": token} if token else None,
            ) as response:
                async for line in response.content:
                    if not line.strip():
                        continue
                    message = orjson.loads(line)
                    if "error" in message:
                        raise PullFailed(str(message["error"]))
                    detail = message.get("progressDetail") or {}
                    if progress is not None and message.get("id") and detail.get("total"):
                        layers[message["id"]] = (detail.get("current", 0), detail["total"])
                        done = sum(current for current, _ in layers.values())
                        progress(PullProgress(done, sum(total for _, total in layers.values())))
        except (RefusedByEngine, NoSuchImage) as error:
            raise PullFailed(str(error)) from error
        except aiohttp.ClientError as error:
            raise EngineUnavailable(f"engine hung up during the pull of {reference}: {error}") from error
        self._known.pop(reference, None)

    async def load(self, archive: bytes) -> None:
        """Add images from a ``docker save`` archive."""
        await self._engine.call("POST", "/images/load", params={"quiet": "1"}, body=archive)
        self._known.clear()

    async def remove(self, reference: str) -> None:
        """Delete by name or id; harmless when it is not there. Raises ``RefusedByEngine`` while it is in use."""
        self._known.clear()
        try:
            await self._engine.call("DELETE", f"/images/{reference}")
        except NoSuchImage:
            return
