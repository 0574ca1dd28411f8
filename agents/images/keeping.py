"""The images room of one host, put together for the agent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from agents.config import Configuration
from agents.images.catalogue import Catalogue
from agents.images.collector import ImageCollector, Tell
from agents.images.services import image_services, policy_of
from agents.runtime.runtime import Runtime
from orca.client.clock import Clock


class ImageKeeping:
    """``services`` are for pods, ``catalogue`` and ``collector`` are parts to be run. ``wanted`` answers ids of images
    that pods are about to use, ``tell`` records a warning about the node, ``changed`` hears that other images are
    here."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        root: Path,
        runtime: Runtime,
        pause_image: str,
        clock: Clock,
        wanted: Callable[[], Collection[str]],
        tell: Tell,
        changed: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self.services = image_services(runtime, root, clock, configuration)
        self.catalogue = Catalogue(runtime.images, clock=clock, changed=changed)
        self.collector = ImageCollector(
            runtime.images,
            self.services.records,
            policy=policy_of(configuration),
            clock=clock,
            directory=root / "image_manager",
            storage=self._storage,
            pinned=(pause_image,),
            wanted=wanted,
            tell=tell,
        )

    def __repr__(self) -> str:
        return f"<ImageKeeping {self.catalogue!r}>"

    async def _storage(self) -> Path:
        return Path((await self._runtime.abilities()).storage_root)
