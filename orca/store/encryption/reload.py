"""The file behind the configuration: read at start, and read anew when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import structlog

from orca.api.errors import ApiError
from orca.client.clock import Clock
from orca.store.encryption.config import ConfigInvalid, parse_config
from orca.store.encryption.transform import Transforms

log = structlog.get_logger()

POLL_SECONDS = 5.0


def load_config(path: Path) -> tuple[Transforms, bytes]:
    """What the file says, and its content. Raises ConfigInvalid, also for a file that cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(f"{error.strerror}") from error
    return Transforms(parse_config(content)), content


class Heard(Protocol):
    """Who is told of contents of the file."""

    def in_use(self, content: bytes) -> None:
        """The file has this content."""

    def succeeded(self, content: bytes) -> None:
        """A new content is in use."""

    def failed(self) -> None:
        """A new content cannot be used."""


class ConfigFile:
    """Follows a file, of which ``content`` is in use. A version that is invalid changes nothing and is told in the log.
    ``changed`` is called after the others, again while it raises ApiError; ``tell`` names somebody who hears of all
    versions."""

    def __init__(
        self,
        path: Path,
        transforms: Transforms,
        content: bytes,
        changed: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._path = path
        self._transforms = transforms
        self._changed = changed
        self._clock = clock
        self._heard: Heard | None = None
        self._used = content

    def tell(self, heard: Heard) -> None:
        """From now on; of the content in use at once."""
        self._heard = heard
        heard.in_use(self._used)

    async def follow(self) -> None:
        """Until cancelled."""
        seen = self._used  # the file may have changed since it was read
        while True:
            await self._clock.sleep(POLL_SECONDS)
            content = await asyncio.to_thread(self._content)
            if content == seen:
                continue
            seen = content
            await self.take(content)

    async def take(self, content: bytes) -> None:
        """Use a new content of the file."""
        try:
            rules = parse_config(content)
        except ConfigInvalid as error:
            if self._heard is not None:
                self._heard.failed()
            log.error(
                "the encryption configuration is invalid, keeping the one in use",
                file=str(self._path),
                error=str(error),
            )
            return
        self._transforms.replace(rules)
        self._used = content
        if self._heard is not None:
            self._heard.succeeded(content)
        log.info("encryption configuration reloaded", file=str(self._path))
        while True:
            try:
                await self._changed()
                return
            except ApiError as error:
                # Else what could not be read would stay so until the file changes again.
                log.warning("what the configuration changes could not be read yet", error=str(error))
            await self._clock.sleep(POLL_SECONDS)

    def _content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""
