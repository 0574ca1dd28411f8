"""What pods need of the images room, put together."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.config import Configuration
from agents.images.access import Verification
from agents.images.garbage import Policy
from agents.images.mounts import ImageMounts
from agents.images.puller import Puller
from agents.images.records import PullRecords
from agents.runtime.runtime import Runtime
from orca.client.clock import Clock


@dataclass(slots=True)
class ImageServices:
    """Shared by all pods of a host; ``node_files`` are Docker configurations with logins for every pod."""

    puller: Puller
    records: PullRecords
    mounts: ImageMounts
    node_files: Sequence[Path]

    def node_logins(self) -> list[tuple[Any, bool]]:
        """Parsed files, each with whether its entries are wrapped in ``auths``; read anew, they may change. Blocks."""
        found = []
        for file in self.node_files:
            try:
                found.append((json.loads(file.read_text()), file.name == "config.json"))
            except (OSError, ValueError):
                continue
        return found


def image_services(
    runtime: Runtime, root: Path, clock: Clock, configuration: Configuration | None = None
) -> ImageServices:
    """As the configuration says; ``root`` is the agent's directory."""
    chosen = configuration or Configuration()
    home = Path(os.environ.get("HOME") or "/root")
    return ImageServices(
        puller=Puller(
            runtime.images,
            clock=clock,
            parallel=1 if chosen.serialize_image_pulls else chosen.max_parallel_image_pulls or 0,
            qps=chosen.registry_pull_qps,
            burst=chosen.registry_burst,
        ),
        records=PullRecords(
            root / "image_manager",
            Verification(
                chosen.image_pull_credentials_verification_policy, chosen.preloaded_images_verification_allowlist
            ),
            clock,
        ),
        mounts=ImageMounts(runtime, root),
        # As the kubelet looks for them: in its own directory and in the home of who runs it.
        node_files=(
            root / "config.json",
            home / ".docker" / "config.json",
            root / ".dockercfg",
            home / ".dockercfg",
        ),
    )


def policy_of(configuration: Configuration) -> Policy:
    """Of the garbage collector."""
    return Policy(
        high=configuration.image_gc_high_threshold_percent,
        low=configuration.image_gc_low_threshold_percent,
        minimum_age=configuration.image_minimum_gc_age,
        maximum_age=configuration.image_maximum_gc_age,
    )
