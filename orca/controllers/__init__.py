"""One module a controller: a pure plan and a thin apply.

Reads and writes through ``orca.client`` only. `run_all` runs every controller, `ControllersConfig` is what they may be
told. Never here: storage, HTTP, scheduling, anything that needs the host.
"""

from orca.controllers.config import ControllersConfig, EvictionConfig
from orca.controllers.manager import run_all

__all__ = ["ControllersConfig", "EvictionConfig", "run_all"]
