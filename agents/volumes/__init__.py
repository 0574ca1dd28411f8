"""A pod's volumes as directories and mounts of the host, one module for what belongs together.

`VolumeManager` (`manager.py`) is the way in; each type is a `Plugin` (`plugin.py`) in a module of its own: `empty_dir`,
`host_path`, `from_api`, `nfs`, `claims`. `payload` (what files a source gives) is pure; `atomic`, `mounts`,
`ownership`, `removal` and `staging` touch the file system and nothing else; `sources` and `tokens` talk to the API.
Never here: containers, and where in them a volume is mounted.
"""

from agents.volumes.errors import VolumeError
from agents.volumes.manager import VolumeManager

__all__ = ["VolumeError", "VolumeManager"]
