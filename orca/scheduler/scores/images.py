"""ImageLocality prefers nodes that have the images already; the more nodes have one, the more it counts."""

from __future__ import annotations

import numpy as np

from orca.scheduler.filters.base import Task
from orca.scheduler.scores.base import BEST
from orca.scheduler.snapshot import Floats, Rows, Snapshot

LEAST_BYTES = 23 * 1024 * 1024
MOST_BYTES = 1000 * 1024 * 1024


def has_images(task: Task, snapshot: Snapshot) -> bool:
    """Whether any node has an image of the pod's."""
    known = snapshot.image_nodes
    return bool(known) and any(known.get(full_name(image)) for image in task.shape.images)


def image_locality(task: Task, snapshot: Snapshot, rows: Rows) -> Floats | None:
    """Between 23 MB and 1000 MB a container."""
    if not has_images(task, snapshot):
        return None
    names = [full_name(image) for image in task.shape.images]
    share = {name: snapshot.image_nodes[name] / max(len(snapshot.slots), 1) for name in names}
    present = np.zeros(len(rows))
    for at, slot in enumerate(rows):
        node = snapshot.nodes[slot]
        if node is not None:
            present[at] = sum(int(node.images.get(name, 0) * share[name]) for name in names)
    most = MOST_BYTES * max(task.shape.containers, 1)
    return (np.clip(present, LEAST_BYTES, most) - LEAST_BYTES) * BEST / (most - LEAST_BYTES)


def full_name(image: str) -> str:
    """With a tag, as nodes report them."""
    return image if ":" in image.rsplit("/", 1)[-1] or "@" in image else f"{image}:latest"
