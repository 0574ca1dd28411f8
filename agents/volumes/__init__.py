"""A pod's volumes as directories and mounts of the host, one module for what belongs together.

`VolumeManager` (`manager.py`) is the way in. `payload` (what files a source gives) is pure; `atomic`, `host_path`,
`mounts` and `ownership` touch the file system and nothing else; `sources` and `tokens` talk to the API. Never here:
containers, and where in them a volume is mounted.
"""

from agents.volumes.errors import VolumeError
from agents.volumes.manager import VolumeManager

__all__ = ["VolumeError", "VolumeManager"]
