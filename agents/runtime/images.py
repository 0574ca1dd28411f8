"""Images of the engine: look up, pull with progress, load, list, remove, and what happens to them."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
import orjson

from agents.runtime.engine import Engine
from agents.runtime.errors import (
    EngineUnavailable,
    NoSuchImage,
    PullFailed,
    RefusedByEngine,
    RegistryUnavailable,
)
from agents.runtime.image_tally import ImageTally
from agents.runtime.model import ImageInfo
from agents.runtime.pulling import LayerProgress, PullProgress
from agents.runtime.references import parse_reference
from agents.runtime.translate import image_info, image_layers

REMEMBER_SECONDS = 5.0
_IMAGE_EVENTS = orjson.dumps(
    {"type": ["image"], "event": ["pull", "load", "import", "tag", "untag", "delete"]}
).decode()
_DOWN = re.compile(r"HTTP status:? 50[234]\b|\b50[234] (?:Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway)")


class Images:
    """Image calls; look-ups of one image by many pods at once are one call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._looking: dict[str, asyncio.Task[ImageInfo]] = {}
        self._known: dict[str, tuple[float, ImageInfo]] = {}
        self.tally = ImageTally()

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

    def forget(self) -> None:
        """Ask again at the next look-up: an image came or went."""
        self._known = {name: (float("-inf"), info) for name, (_, info) in self._known.items()}

    async def exists(self, reference: str) -> bool:
        """True when the image is on this host."""
        try:
            await self.inspect(reference)
        except NoSuchImage:
            return False
        return True

    async def list(self) -> list[ImageInfo]:
        """Every image, also those that lost their name."""
        raw = await self._engine.call("GET", "/images/json")
        return [image_info(item) for item in raw]

    async def used(self) -> set[str]:
        """Ids of the images that some container has, running or not, whoever made it."""
        raw = await self._engine.call("GET", "/containers/json", params={"all": "1"})
        return {str(item["ImageID"]) for item in raw}

    async def layers(self, image_id: str) -> tuple[str, ...]:
        """Directories of the image's layers, the uppermost first; () when the engine does not keep them as such. Raises
        ``NoSuchImage``."""
        return image_layers(await self._engine.call("GET", f"/images/{image_id}/json"))

    async def pull(
        self,
        reference: str,
        *,
        auth: Mapping[str, str] | None = None,
        progress: Callable[[PullProgress], None] | None = None,
    ) -> None:
        """Fetch from the registry. ``auth`` has username, password, serveraddress or identitytoken; ``progress`` hears
        of every step forward. Cancelled, the engine stops the pull.

        Raises ``InvalidReference``, ``PullFailed``, ``RegistryUnavailable``, ``EngineUnavailable``."""
        parsed = parse_reference(reference)
        token = base64.urlsafe_b64encode(orjson.dumps(dict(auth))).decode() if auth else ""
        layers = LayerProgress()
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
                        raise _failure(str(message["error"]))
                    if layers.take(message) and progress is not None:
                        progress(layers.now())
        except (RefusedByEngine, NoSuchImage) as error:
            # As the engine's own client words what it is refused at once.
            raise _failure(f"Error response from daemon: {error}") from error
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

    async def remove_all(self, image: ImageInfo) -> None:
        """Delete an image with all its names: by its id the engine refuses one that has several. Raises
        ``RefusedByEngine`` while a container has it."""
        for name in [*image.tags, *image.digests] or [image.id]:
            await self.remove(name)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[str]]:
        """What happens to images from now on (``pull``, ``load``, ``tag``, ``untag``, ``delete`` …). Iteration raises
        ``EngineUnavailable`` when the engine goes away; it does not end by itself."""
        async with self._engine.stream("GET", "/events", params={"filters": _IMAGE_EVENTS}) as response:
            yield _actions(response)


async def _actions(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    try:
        async for line in response.content:
            if line.strip():
                yield str(orjson.loads(line)["Action"])
    except (aiohttp.ClientError, ConnectionError) as error:
        raise EngineUnavailable(f"event stream: {error}") from error
    raise EngineUnavailable("event stream ended")


def _failure(message: str) -> PullFailed:
    return RegistryUnavailable(message) if _DOWN.search(message) else PullFailed(message)
