"""What the engine is asked for measurements."""

from __future__ import annotations

from agents.runtime import Runtime
from agents.stats.collector import Engine


def engine_of(runtime: Runtime) -> Engine:
    """Each question raises a ``RuntimeFailure`` when it fails."""

    async def storage_root() -> str:
        return (await runtime.abilities()).storage_root

    async def image_bytes() -> int:
        # Layers that images share are counted with each: the engine's own account of them takes seconds.
        return sum(image.size for image in await runtime.images.list())

    async def layer_bytes(container_id: str) -> int:
        answer = await runtime.engine.call("GET", f"/containers/{container_id}/json", params={"size": "1"})
        return int(answer.get("SizeRw") or 0)

    return Engine(storage_root, image_bytes, layer_bytes)
