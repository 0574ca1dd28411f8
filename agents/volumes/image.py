"""`image` volumes: the place where the pods room mounts an image's content once it is pulled.

Pulling is not done here: it has its policy, its credentials and its back-off, and what becomes of it shows at the
containers that mount the volume, not as a volume that fails.
"""

from __future__ import annotations

from pathlib import Path

from agents.images.mounts import volume_path
from agents.pods.ports import Mounted
from agents.threads import to_the_end
from orca.api.objects import Obj, uid


class ImageVolume:
    """See the module. `root` is the agent's directory."""

    follows_api = False

    def __init__(self, root: Path) -> None:
        self._root = root

    async def make(self, pod: Obj, name: str, source: Obj) -> Mounted:
        """Where the content will be before a container that mounts it starts. Raises OSError."""
        path = volume_path(self._root, uid(pod), name)
        await to_the_end(path.mkdir, mode=0o750, parents=True, exist_ok=True)
        return Mounted(str(path), read_only=True)
